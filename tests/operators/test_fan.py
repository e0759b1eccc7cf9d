"""Fan-beam CT: geometry against formulas, engines against each other, ASTRA and the far source."""

from __future__ import annotations

import copy
import math
import pickle

import numpy as np
import pytest
import torch

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import GeometryError
from sciinv.operators import astra_backend, ct_matrix, joseph
from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.fan import FanBeamCT
from sciinv.operators.testing import check_operator

ENGINES = ("csr", "astra", "torch")
KW = {
    "num_detectors": 17,
    "detector_spacing": 1.1,
    "pixel_size": 0.7,
    "source_distance": 30.0,
    "detector_distance": 17.0,
    "axis_shift": 0.6,
    "detector_offset": -1.3,
}


def random_angles(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 7


def random(shape, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(op) -> torch.Tensor:
    """Matrix of a single-slice operator, rays x pixels."""
    h, w = op.image_shape
    eye = torch.eye(h * w, dtype=torch.float64).reshape(h * w, 1, h, w)
    return op.A(eye).flatten(1).T


def ends_of_rays(op: FanBeamCT) -> tuple[np.ndarray, np.ndarray]:
    """Source ``(angles, 1, 2)`` and detector pixels ``(angles, detectors, 2)`` in mm."""
    g = op.geometry
    t = np.asarray(op.angles)[:, None]
    along = np.stack([np.cos(t), np.sin(t)], -1)
    away = np.stack([-np.sin(t), np.cos(t)], -1)  # from the source to the detector
    k = np.arange(g.num_detectors)
    u = (k - (g.num_detectors - 1) / 2) * g.detector_spacing + g.detector_offset
    source = -g.source_distance * away - g.axis_shift * along
    pixels = g.detector_distance * away + (u[None, :, None] - g.axis_shift) * along
    return source, pixels


def ellipse_chords(op: FanBeamCT, *, centre, axes, tilt) -> np.ndarray:
    """Lengths of the rays inside an ellipse: a circle of radius one after an affine map."""
    turn = np.array([[np.cos(tilt), np.sin(tilt)], [-np.sin(tilt), np.cos(tilt)]])
    start, end = ends_of_rays(op)
    length = np.linalg.norm(end - start, axis=-1)
    p = (start - np.asarray(centre)) @ turn.T / np.asarray(axes)
    d = (end - start) @ turn.T / np.asarray(axes)
    a, b, c = (d * d).sum(-1), (p * d).sum(-1), (p * p).sum(-1) - 1
    return 2 * np.sqrt(np.clip(b * b - a * c, 0, None)) / a * length


def ellipse_image(geometry, *, centre, axes, tilt, sub=6) -> torch.Tensor:
    """Fraction of every pixel inside the ellipse."""
    offset = (np.arange(sub) - (sub - 1) / 2) / sub * geometry.pixel_size
    x = (geometry.x()[:, None] + offset).ravel()[None, :] - centre[0]
    y = (geometry.y()[:, None] + offset).ravel()[:, None] - centre[1]
    a = (x * math.cos(tilt) + y * math.sin(tilt)) / axes[0]
    b = (-x * math.sin(tilt) + y * math.cos(tilt)) / axes[1]
    inside = (a**2 + b**2 < 1).reshape(geometry.rows, sub, geometry.cols, sub)
    return torch.from_numpy(inside.mean(axis=(1, 3)))


# -- where things land -------------------------------------------------------------------------
@pytest.mark.parametrize("backend", ENGINES)
@pytest.mark.parametrize(
    ("x", "y", "theta", "shift", "offset", "u"),
    [
        # source 100 mm below the axis, detector 100 mm above it at t = 0
        (10, 0, 0.0, 0, 0, 20),  # twice as large
        (10, 20, 0.0, 0, 0, 10 * 200 / 120),  # far from the source: smaller
        (10, -20, 0.0, 0, 0, 10 * 200 / 80),  # near the source: larger
        (20, 10, math.pi / 2, 0, 0, 10 * 200 / 80),  # the source is at x = +100
        (20, 10, -math.pi / 2, 0, 0, -10 * 200 / 120),  # ... at x = -100, the detector runs down
        (10, 0, math.pi, 0, 0, -20),
        (10, 0, 0.0, 5, 0, 30),  # the axis is seen at a higher index
        (10, 0, math.pi, 5, 0, -10),  # ... whatever the angle
        (10, 0, 0.0, 0, 6, 20),  # the detector moves, not the point
        (10, -20, 0.0, -3, 6, 7 * 200 / 80),
    ],
)
def test_a_point_lands_where_the_formula_says(backend, x, y, theta, shift, offset, u):
    op = FanBeamCT(
        (61, 61),
        [theta],
        num_detectors=241,
        detector_spacing=0.5,
        pixel_size=1.0,
        source_distance=100.0,
        detector_distance=100.0,
        axis_shift=shift,
        detector_offset=offset,
        backend=backend,
    )
    image = torch.zeros(1, 1, 61, 61)
    image[0, 0, 30 - y, 30 + x] = 1
    found = op.A(image)[0, 0, 0].double()
    index = float((found * torch.arange(241)).sum() / found.sum())
    # detector pixel k lies at (k - 120) 0.5 + offset; a pixel's shadow is 4 detector pixels wide,
    # sampled by rays that are 0.5 mm apart, and slightly skew
    assert index == pytest.approx((u - offset) / 0.5 + 120, abs=0.12)


SHAPE = {"centre": (7.0, -11.0), "axes": (20.0, 9.0), "tilt": 0.6}
SCANNER = {
    "num_detectors": 230,
    "detector_spacing": 0.6,
    "source_distance": 120.0,
    "detector_distance": 60.0,
    "axis_shift": 3.25,
    "detector_offset": -4.5,
}


def chord_error(backend: str, factor: int, **change: float) -> float:
    """Root mean square error over the largest chord, pixels of 1/factor mm."""
    kw = {**SCANNER, **change}
    size = (75 * factor, 66 * factor)
    op = FanBeamCT(size, random_angles(23), **kw, pixel_size=1 / factor, backend=backend)
    truth = ellipse_chords(FanBeamCT(size, random_angles(23), **SCANNER, pixel_size=0.1), **SHAPE)
    found = op.A(ellipse_image(op.geometry, **SHAPE)[None, None])[0, 0].double().numpy()
    return float(np.sqrt(np.mean((found - truth) ** 2)) / truth.max())


@pytest.mark.parametrize("backend", ENGINES)
def test_off_centre_ellipse_converges_to_its_chords(backend):
    errors = [chord_error(backend, factor) for factor in (1, 2, 4)]
    # the edge of the ellipse is blurred over a pixel: first order or better
    assert errors[0] < 0.015
    assert errors[1] < 0.6 * errors[0]
    assert errors[2] < 0.6 * errors[1]


@pytest.mark.parametrize(
    "change", [{"axis_shift": -3.25}, {"detector_offset": 4.5}, {"detector_distance": 70.0}]
)
def test_a_wrong_geometry_is_far_from_the_chords(change):
    assert chord_error("csr", 2, **change) > 10 * chord_error("csr", 2)


@pytest.mark.parametrize("spacing", [0.1, 1.0, 3.0])  # shadows of a pixel of 0.5 mm: 7.5 to 0.25
@pytest.mark.parametrize("backend", ENGINES)
def test_ones_through_a_length_give_the_length(backend, spacing):
    op = FanBeamCT(
        (48, 60),
        [0.0, math.pi / 2, math.pi, -math.pi / 2],
        num_detectors=5,
        detector_spacing=spacing,
        pixel_size=0.5,
        source_distance=80.0,
        detector_distance=40.0,
        backend=backend,
    )
    y = op.A(torch.ones(1, 1, 48, 60, dtype=torch.float64))[0, 0]
    # the fan is narrow: rays cross the 24 mm high, 30 mm wide image from side to side
    slant = torch.from_numpy(np.hypot(1, op.geometry.u() / 120))
    expected = torch.stack([24 * slant, 30 * slant, 24 * slant, 30 * slant])
    torch.testing.assert_close(y, expected, rtol=1e-6, atol=0)


def test_a_far_source_is_a_parallel_beam():
    theta = random_angles(9)
    kw = {"num_detectors": 25, "detector_spacing": 0.8, "pixel_size": 0.7}
    parallel = ParallelBeamCT((11, 14), theta, **kw, axis_shift=1.7)
    far = 1e10
    fan = FanBeamCT(
        (11, 14), theta, **kw, axis_shift=1.7, source_distance=far, detector_distance=40.0
    )
    # rays differ by (image + 40 mm) / 1e10 of 10 mm
    torch.testing.assert_close(dense(fan), dense(parallel), rtol=0, atol=1e-6)
    kw = {"num_detectors": 160, "detector_spacing": 0.2, "pixel_size": 0.7}
    turn = np.arange(90) * math.pi / 45
    parallel = ParallelBeamCT((11, 14), turn, **kw)
    fan = FanBeamCT((11, 14), turn, **kw, source_distance=far, detector_distance=0.0)
    y = random((1, *fan.measurement_shape))
    torch.testing.assert_close(fan.A_dagger(y), parallel.A_dagger(y), rtol=0, atol=1e-6)
    parallel = ParallelBeamCT((40, 44), turn, **kw)
    fan = FanBeamCT((40, 44), turn, **kw, source_distance=far, detector_distance=0.0)
    assert 0.5 < float(fan.field_of_view_mask().double().mean()) < 0.9
    assert torch.equal(fan.field_of_view_mask(), parallel.field_of_view_mask())


def test_turning_the_object_is_turning_the_scanner_back():
    theta = random_angles(7)
    x = random((1, 1, 11, 11))
    turned = torch.rot90(x, 1, (2, 3))  # a quarter turn counter-clockwise as displayed
    op, back = FanBeamCT((11, 11), theta, **KW), FanBeamCT((11, 11), theta - math.pi / 2, **KW)
    torch.testing.assert_close(op.A(turned), back.A(x), rtol=1e-11, atol=1e-11)


def test_a_mirrored_scanner_sees_a_mirrored_object():
    theta = random_angles(7)
    x = random((1, 1, 10, 11))
    op = FanBeamCT((10, 11), theta, **KW)
    other = FanBeamCT((10, 11), -theta, **{**KW, "axis_shift": -0.6, "detector_offset": 1.3})
    torch.testing.assert_close(op.A(x), other.A(x.flip(-1)).flip(-1), rtol=1e-11, atol=1e-11)


# -- engines -----------------------------------------------------------------------------------
@pytest.mark.parametrize("spacing", [0.3, 1.1, 2.7])
@pytest.mark.parametrize("shape", [(9, 7), (8, 13), (1, 5), (6, 1)])
def test_matrix_and_torch_projector_are_one(shape, spacing):
    kw = {**KW, "detector_spacing": spacing}
    theta = torch.cat([random_angles(9), torch.arange(8) * math.pi / 4])
    matrix, plain = (FanBeamCT(shape, theta, **kw, backend=b) for b in ("csr", "torch"))
    torch.testing.assert_close(dense(matrix), dense(plain), rtol=1e-12, atol=1e-12)
    y = random((2, *plain.measurement_shape))
    torch.testing.assert_close(matrix.A_adjoint(y), plain.A_adjoint(y), rtol=1e-12, atol=1e-12)


def test_weights_are_those_of_the_definition():
    op = FanBeamCT((5, 4), random_angles(3), **KW, backend="torch")
    source, pixels = ends_of_rays(op)
    direction = pixels - source
    expected = torch.zeros(3, 17, 5, 4, dtype=torch.float64)
    for a in range(3):
        for k in range(17):
            dx, dy = direction[a, k]
            steep = abs(dy) > abs(dx)  # follow the rows
            step = 0.7 * math.hypot(dx, dy) / max(abs(dx), abs(dy))
            for row in range(5):
                for col in range(4):
                    x = (col - 1.5) * 0.7 - source[a, 0, 0]
                    y = -(row - 2) * 0.7 - source[a, 0, 1]
                    away = abs(x - y * dx / dy) if steep else abs(y - x * dy / dx)
                    expected[a, k, row, col] = step * max(0.0, 1 - away / 0.7)
    torch.testing.assert_close(dense(op).reshape(expected.shape), expected, rtol=0, atol=1e-12)


def test_astra_engine_is_astras_own_projector():
    astra = pytest.importorskip("astra")
    op = FanBeamCT((8, 13), random_angles(11), **{**KW, "axis_shift": 0.0, "detector_offset": 0.0})
    g = op.geometry
    # its plain geometry, not the vectors that the engine makes
    detector = astra.create_proj_geom("fanflat", 1.1, 17, np.asarray(g.angles), 30.0, 17.0)
    volume = astra.create_vol_geom(8, 13, -4.55, 4.55, -2.8, 2.8)
    projector = astra.create_projector("line_fanflat", detector, volume)
    identifier = astra.projector.matrix(projector)
    matrix = torch.from_numpy(astra.matrix.get(identifier).toarray())
    astra.matrix.delete(identifier)
    astra.projector.delete(projector)
    engine = astra_backend.AstraEngine(g)
    eye = torch.eye(104, dtype=torch.float64).reshape(104, 8, 13)
    # lengths inside a pixel are differences of float32 positions along a ray of 47 mm
    torch.testing.assert_close(engine.project(eye).flatten(1).T, matrix, rtol=0, atol=1e-4)


@pytest.mark.parametrize("change", [{}, {"axis_shift": 0.0}, {"detector_offset": 0.0}])
def test_engines_agree_on_a_smooth_image(change):
    kw = {**SCANNER, **change}

    def errors(factor: int) -> list[float]:
        ops = {
            name: FanBeamCT(
                (80 * factor, 90 * factor),
                random_angles(19),
                **kw,
                pixel_size=0.7 / factor,
                backend=name,
            )
            for name in ("csr", "astra")
        }
        g = ops["csr"].geometry
        blob = np.exp(-((g.x()[None] - 6) ** 2 + (g.y()[:, None] + 9) ** 2) / (2 * 4.0**2))
        source, pixels = ends_of_rays(ops["csr"])
        d, p = pixels - source, np.array([6.0, -9.0]) - source
        away = (p[..., 0] * d[..., 1] - p[..., 1] * d[..., 0]) / np.linalg.norm(d, axis=-1)
        truth = torch.from_numpy(4 * math.sqrt(2 * math.pi) * np.exp(-(away**2) / 32))
        found = [op.A(torch.from_numpy(blob)[None, None])[0, 0] for op in ops.values()]
        return [float((y - truth).norm() / truth.norm()) for y in found]

    # Joseph's interpolation widens a blob of standard deviation 4 mm by the variance of its linear
    # kernel, p^2/6 across a ray at most: 0.3 per cent of the variance for p = 0.7 mm. ASTRA's
    # pixels are squares; its rays see the steps between them
    ours, theirs = errors(1)
    assert ours < 0.003
    assert theirs < 0.01
    ours_fine, theirs_fine = errors(2)
    assert ours_fine < 0.3 * ours  # second order
    assert theirs_fine < 0.6 * theirs  # at least first order


@pytest.mark.parametrize("shape", [(9, 7), (8, 6), (3, 5, 4)])
@pytest.mark.parametrize("backend", ["csr", "torch"])
def test_operator_contract(shape, backend):
    check_operator(FanBeamCT(shape, random_angles(6), **KW, backend=backend))
    op = FanBeamCT(shape, random_angles(6), **KW, backend=backend)
    check_operator(op, dtype=torch.float32, rtol=1e-5)


@pytest.mark.parametrize("shape", [(9, 7), (3, 5, 4)])
def test_operator_contract_astra(shape):
    # float32 arithmetic whatever the dtype
    op = FanBeamCT(shape, random_angles(6), **KW, backend="astra")
    check_operator(op, dtype=torch.float32, rtol=1e-4)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_stack_is_its_slices(backend):
    stack = FanBeamCT((4, 9, 7), random_angles(6), **KW, backend=backend)
    single = FanBeamCT((9, 7), random_angles(6), **KW, backend=backend)
    x = random((2, 1, 4, 9, 7))
    y = stack.A(x)
    assert y.shape == (2, 1, 4, 6, 17)
    for name, value in (("A", x), ("A_adjoint", y), ("A_dagger", y)):
        loop = torch.stack([getattr(single, name)(value[:, :, d]) for d in range(4)], dim=2)
        torch.testing.assert_close(getattr(stack, name)(value), loop, rtol=1e-12, atol=1e-12)


def test_small_chunks_change_nothing(monkeypatch):
    op = FanBeamCT((9, 7), random_angles(6), **KW, backend="torch")
    x = random((2, 1, 9, 7))
    y = op.A(x)
    back = op.A_adjoint(y)
    monkeypatch.setattr(joseph, "_CHUNK", 40)
    monkeypatch.setattr(ct_matrix, "_BLOCK", 40)
    torch.testing.assert_close(op.A(x), y, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(op.A_adjoint(y), back, rtol=1e-13, atol=1e-13)
    pieces = ct_matrix.MatrixEngine(op.geometry, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(pieces.backproject(y[:, 0]), back[:, 0], rtol=1e-12, atol=1e-12)


def test_memory_estimate_is_close_and_indices_are_short():
    op = FanBeamCT((40, 31), random_angles(30), **{**KW, "num_detectors": 60})
    for dtype in (torch.float32, torch.float64):
        engine = ct_matrix.MatrixEngine(op.geometry, dtype, torch.device("cpu"))
        estimate = ct_matrix.matrix_bytes(op.geometry, dtype)
        assert engine.nbytes <= estimate < 1.01 * engine.nbytes
        assert engine.matrix.col_indices().dtype == torch.int32


def test_matrices_are_shared_between_equal_geometries_only():
    ct_matrix.clear_matrices()
    x = random((1, 1, 9, 7))
    first, twin = (FanBeamCT((9, 7), random_angles(6), **KW) for _ in range(2))
    other = FanBeamCT((9, 7), random_angles(6), **{**KW, "detector_offset": 0.0})
    first.A(x), twin.A(x), other.A(x)
    assert first._engine(x) is twin._engine(x)
    assert first._engine(x) is not other._engine(x)
    assert not torch.equal(first.A(x), other.A(x))


def test_a_small_budget_falls_back_to_astra_then_torch(monkeypatch):
    op = FanBeamCT((9, 7), random_angles(6), **KW, memory_budget=10)
    assert (op.backend, op.summary()["projector"]) == ("astra", "ASTRA (ray lengths)")
    monkeypatch.setattr(astra_backend, "astra_problem", lambda: "ImportError: not installed")
    assert op.backend == "torch"
    free = FanBeamCT((9, 7), random_angles(6), **KW)
    assert free.backend_for(torch.float64, "cpu") == "csr"
    with pytest.raises(ImportError, match="not installed"):
        FanBeamCT((9, 7), random_angles(6), **KW, backend="astra")


@pytest.mark.parametrize("backend", ENGINES)
def test_copies_and_pickles_work_on_their_own(backend):
    op = FanBeamCT((9, 7), random_angles(6), **KW, backend=backend)
    x = random((1, 1, 9, 7), dtype=torch.float32)
    y = op.A(x)
    copies = [copy.deepcopy(op), op.clone(), pickle.loads(pickle.dumps(op.geometry))]  # noqa: S301
    copies[2] = FanBeamCT((9, 7), copies[2].angles, **KW, backend=backend)
    engine = pickle.loads(pickle.dumps(op._engine(x))) if backend != "torch" else None  # noqa: S301
    del op
    for other in copies:
        torch.testing.assert_close(other.A(x), y, rtol=0, atol=0)
        assert other.backend == backend
    if engine is not None:
        torch.testing.assert_close(engine.project(x[0]), y[0], rtol=0, atol=0)


@pytest.mark.parametrize("backend", ENGINES)
def test_gradients_are_the_adjoint_twice(backend):
    op = FanBeamCT((6, 5), random_angles(4), **KW, backend=backend)
    x = random((2, 1, 6, 5)).requires_grad_()
    weight = random((2, *op.measurement_shape), seed=3).requires_grad_()
    (gradient,) = torch.autograd.grad((op.A(x) * weight).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, op.A_adjoint(weight), rtol=1e-12, atol=1e-12)
    v = random((2, 1, 6, 5), seed=4)
    (second,) = torch.autograd.grad((gradient * v).sum(), weight)
    torch.testing.assert_close(second, op.A(v), rtol=1e-12, atol=1e-12)


# -- errors ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"angles": []}, "FanBeamCT: angles"),
        ({"angles": [0.0, math.nan]}, "finite"),
        ({"angles": np.arange(0, 360.0)}, "0 to 359.*degrees"),
        ({"num_detectors": 0}, "num_detectors: found 0"),
        ({"num_detectors": 2.5}, "num_detectors: found 2.5"),
        ({"num_detectors": math.nan}, "num_detectors: found nan"),
        ({"detector_spacing": 0.0}, "detector_spacing: found 0.0"),
        ({"pixel_size": math.nan}, "pixel_size: found nan"),
        ({"source_distance": -30.0}, "source_distance: found -30.0"),
        ({"source_distance": math.inf}, "source_distance: found inf"),
        # the corners of 6 x 5 pixels of 0.7 mm are 2.734 mm from the axis
        ({"source_distance": 2.73}, "source_distance: found 2.73 mm.*2.73359 mm.*inside"),
        ({"detector_distance": -17.0}, "detector_distance: found -17.0.*across the axis"),
        ({"detector_distance": math.nan}, "detector_distance: found nan"),
        ({"axis_shift": math.inf}, "axis_shift"),
        ({"detector_offset": math.nan}, "detector_offset"),
        ({"image_shape": (5,)}, "image_shape"),
        ({"backend": "gpu"}, "backend"),
    ],
)
def test_bad_parameters_are_named(change, text):
    kw = {"image_shape": (6, 5), "angles": [0.0, 1.0], **KW, **change}
    with pytest.raises(GeometryError, match=text):
        FanBeamCT(kw.pop("image_shape"), kw.pop("angles"), **kw)


def test_all_problems_are_named_at_once():
    bad = {**KW, "source_distance": 0.0, "detector_distance": -1.0, "num_detectors": 0}
    with pytest.raises(GeometryError, match=r"angles.*num_detectors.*source_dist.*detector_dist"):
        FanBeamCT((6, 5), [], **bad)


def test_a_detector_within_the_object_and_a_source_just_outside_are_fine():
    op = FanBeamCT((6, 5), [0.3], **{**KW, "source_distance": 2.74, "detector_distance": 0.0})
    assert bool(torch.isfinite(op.A(torch.ones(1, 1, 6, 5))).all())


@pytest.mark.parametrize(
    ("shape", "text"),
    [
        (
            (1, 1, 4, 16),
            "found 16 detectors, expected 17.*half a pixel.*num_detectors=16 and.*detector_offset",
        ),
        ((1, 1, 4, 18), "found 18 detectors, expected 17.*half a pixel"),
        ((1, 1, 4, 34), "found 34 detectors, expected 17$"),
        ((1, 1, 5, 17), "found 5 angles, expected 4$"),
        ((1, 1, 17, 4), "exchanged"),
        ((1, 4, 17), "expected"),
    ],
)
def test_wrong_measurements_are_explained(shape, text):
    op = FanBeamCT((6, 5), random_angles(4), **KW)
    for function in (op.A_adjoint, op.A_dagger):
        with pytest.raises(GeometryError, match=text):
            function(torch.zeros(shape))


def test_summary_has_the_geometry():
    fields = FanBeamCT((6, 5), random_angles(4), **KW).summary()
    assert fields["magnification"] == f"{47 / 30:.4g}"
    assert fields["source to axis"] == "30 mm"
    assert fields["detector offset"] == "-1.3 mm"


@pytest.mark.cuda
def test_cuda_engine_agrees_with_the_torch_projector():
    if not (torch.cuda.is_available() and astra_backend.cuda_available()):
        pytest.skip("needs a GPU and an ASTRA build with CUDA")
    kw = {**SCANNER, "pixel_size": 0.7}
    fast = FanBeamCT((3, 50, 60), random_angles(20), **kw, backend="astra_cuda")
    exact = FanBeamCT((3, 50, 60), random_angles(20), **kw, backend="torch")
    assert Capability.ADJOINT not in operator_capabilities(fast)
    x = random((1, 1, 3, 50, 60), dtype=torch.float32).cuda()
    y = exact.A(x)
    assert float((fast.A(x) - y).norm() / y.norm()) < 5e-3  # texture units have 8-bit fractions
    back = exact.A_adjoint(y)
    assert float((fast.A_adjoint(y) - back).norm() / back.norm()) < 5e-2
