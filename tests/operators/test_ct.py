"""Parallel-beam CT: geometry against formulas, engines against each other and ASTRA."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.capabilities import Capability, operator_capabilities
from sciinv.errors import GeometryError
from sciinv.operators import astra_backend, ct_matrix
from sciinv.operators.ct import ParallelBeamCT
from sciinv.operators.testing import check_operator

ENGINES = ("csr", "astra", "torch")
KW = {"num_detectors": 15, "detector_spacing": 0.8, "pixel_size": 0.7, "axis_shift": 0.37}


def random_angles(count: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 7


def random(shape, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def dense(op: ParallelBeamCT) -> torch.Tensor:
    """Matrix of a single-slice operator, rays x pixels."""
    h, w = op.image_shape
    eye = torch.eye(h * w, dtype=torch.float64).reshape(h * w, 1, h, w)
    return op.A(eye).flatten(1).T


def ellipse_projection(theta, u, *, centre, axes, tilt, shift):
    """Chord lengths of an ellipse (Kak and Slaney, eq. 3.7), angles x detectors."""
    t = np.asarray(theta)[:, None]
    s = np.asarray(u)[None, :] - shift - centre[0] * np.cos(t) - centre[1] * np.sin(t)
    a2 = (axes[0] * np.cos(t - tilt)) ** 2 + (axes[1] * np.sin(t - tilt)) ** 2
    return 2 * axes[0] * axes[1] * np.sqrt(np.clip(a2 - s**2, 0, None)) / a2


def ellipse_image(geometry, *, centre, axes, tilt, sub=6):
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
    ("row", "col", "theta", "shift", "expected"),
    [
        # 41 pixels and bins of 1 mm, both centres at index 20; pixel (20, 29) is x = +9, y = 0
        (20, 29, 0.0, 0.0, 29),  # columns grow with x, and u with x at t = 0
        (11, 20, math.pi / 2, 0.0, 29),  # rows grow downward: row 11 is y = +9; u = y at pi/2
        (20, 29, math.pi / 2, 0.0, 20),
        (20, 29, math.pi, 0.0, 11),
        (11, 20, -math.pi / 2, 0.0, 11),  # the sign of the angle
        (20, 29, 0.0, 5.0, 34),  # the axis is seen at a higher index
        (20, 29, math.pi, 5.0, 16),  # ... whatever the angle
        (14, 28, math.atan2(6, 8), -4.0, 26),  # x = 8, y = 6 along its own direction: u = 10 - 4
    ],
)
def test_a_point_lands_where_the_formula_says(backend, row, col, theta, shift, expected):
    op = ParallelBeamCT(
        (41, 41),
        [theta],
        num_detectors=41,
        detector_spacing=1.0,
        pixel_size=1.0,
        axis_shift=shift,
        backend=backend,
    )
    x = torch.zeros(1, 1, 41, 41)
    x[0, 0, row, col] = 1
    y = op.A(x)[0, 0, 0]
    assert int(y.argmax()) == expected
    centre = float((y * torch.arange(41)).sum() / y.sum())
    assert abs(centre - expected) < 1e-4


@pytest.mark.parametrize("backend", ENGINES)
def test_off_centre_ellipse_agrees_with_its_chords(backend):
    shape = {"centre": (7.0, -11.0), "axes": (20.0, 9.0), "tilt": 0.6}
    theta = random_angles(23)
    op = ParallelBeamCT(
        (150, 131),
        theta,
        num_detectors=190,
        detector_spacing=0.5,
        pixel_size=0.5,
        axis_shift=6.25,
        backend=backend,
    )
    g = op.geometry
    truth = ellipse_projection(g.angles, g.u(), **shape, shift=6.25)
    found = op.A(ellipse_image(g, **shape)[None, None])[0, 0].double().numpy()
    # pixels of 0.5 mm: at grazing rays the chord changes by 2 mm over a quarter pixel
    assert np.sqrt(np.mean((found - truth) ** 2)) < 0.005 * truth.max()
    assert np.abs(found.sum(1) / truth.sum(1) - 1).max() < 2e-3
    wrong = ellipse_projection(g.angles, g.u(), **shape, shift=-6.25)
    assert np.sqrt(np.mean((found - wrong) ** 2)) > 0.1 * truth.max()


@pytest.mark.parametrize("backend", ENGINES)
def test_line_integrals_do_not_depend_on_the_pixel_size(backend):
    def measure(factor: int) -> torch.Tensor:
        op = ParallelBeamCT(
            (24 * factor, 30 * factor),
            [0.0, math.pi / 2],
            num_detectors=9,
            detector_spacing=1.0,
            pixel_size=1.0 / factor,
            backend=backend,
        )
        return op.A(torch.ones(1, 1, *op.image_shape, dtype=torch.float64))[0, 0]

    # rays down the columns cross 24 mm, rays along the rows 30 mm
    expected = torch.tensor([[24.0], [30.0]], dtype=torch.float64).expand(2, 9)
    for factor in (1, 2, 4):
        torch.testing.assert_close(measure(factor), expected, rtol=1e-6, atol=0)


def test_moving_the_axis_is_moving_the_detector():
    three_bins = 3 * KW["detector_spacing"]
    moved = ParallelBeamCT((9, 12), random_angles(6), **{**KW, "axis_shift": three_bins})
    still = ParallelBeamCT((9, 12), random_angles(6), **{**KW, "axis_shift": 0.0})
    x = random((1, 1, 9, 12))
    torch.testing.assert_close(moved.A(x)[..., 3:], still.A(x)[..., :-3], rtol=1e-12, atol=1e-12)


def test_turning_the_object_is_turning_the_scanner_back():
    theta = random_angles(7)
    kw = {"num_detectors": 21, "detector_spacing": 0.8, "pixel_size": 0.7}
    x = random((1, 1, 11, 11))
    turned = torch.rot90(x, 1, (2, 3))  # a quarter turn counter-clockwise as displayed
    op = ParallelBeamCT((11, 11), theta, **kw)
    back = ParallelBeamCT((11, 11), theta - math.pi / 2, **kw)
    torch.testing.assert_close(op.A(turned), back.A(x), rtol=1e-11, atol=1e-11)


def test_a_view_from_behind_is_mirrored_about_the_axis():
    kw = {"num_detectors": 21, "detector_spacing": 0.8, "pixel_size": 0.7}
    theta = random_angles(5)
    x = random((1, 1, 10, 11))
    front = ParallelBeamCT((10, 11), theta, **kw, axis_shift=0.3).A(x)
    behind = ParallelBeamCT((10, 11), theta + math.pi, **kw, axis_shift=-0.3).A(x)
    torch.testing.assert_close(front.flip(-1), behind, rtol=1e-11, atol=1e-11)


# -- engines -----------------------------------------------------------------------------------
@pytest.mark.parametrize("spacing", [0.3, 0.8, 2.0])
@pytest.mark.parametrize("shape", [(9, 7), (8, 13), (1, 5), (6, 1)])
def test_engines_are_one_matrix(shape, spacing):
    kw = {**KW, "detector_spacing": spacing}
    matrices = {
        name: dense(ParallelBeamCT(shape, random_angles(11), **kw, backend=name))
        for name in ENGINES
    }
    reference = matrices["torch"]
    torch.testing.assert_close(matrices["csr"], reference, rtol=1e-12, atol=1e-12)
    # ASTRA computes positions in float32: 1e-6 of a pixel weight of 0.7 to 1 mm
    torch.testing.assert_close(matrices["astra"], reference, rtol=0, atol=5e-6)


def test_engines_agree_along_axes_and_diagonals():
    # the driving axis changes at 45 degrees; rays fall on pixel centres, borders and corners
    theta = np.arange(-8, 17) * math.pi / 8
    for spacing, shift in ((1.0, 0.0), (0.5, 0.25), (math.sqrt(0.5), 0.0)):
        kw = {
            "num_detectors": 25,
            "detector_spacing": spacing,
            "pixel_size": 1.0,
            "axis_shift": shift,
        }
        reference = dense(ParallelBeamCT((8, 9), theta, **kw, backend="torch"))
        matrix = dense(ParallelBeamCT((8, 9), theta, **kw, backend="csr"))
        torch.testing.assert_close(matrix, reference, rtol=0, atol=1e-12)
        single = dense(ParallelBeamCT((8, 9), theta, **kw, backend="astra"))
        torch.testing.assert_close(single, reference, rtol=0, atol=5e-6)


def test_weights_are_those_of_astras_own_matrix():
    astra = pytest.importorskip("astra")
    op = ParallelBeamCT((8, 13), random_angles(11), **KW, backend="torch")
    g = op.geometry
    # built here from ASTRA's documentation, with a shifted volume instead of a shifted detector
    detector = astra.create_proj_geom("parallel", 0.8, 15, np.asarray(g.angles))
    detector = astra.geom_postalignment(astra.geom_2vec(detector), -g.axis_shift / 0.8)
    volume = astra.create_vol_geom(8, 13, -4.55, 4.55, -2.8, 2.8)
    projector = astra.create_projector("linear", detector, volume)
    identifier = astra.projector.matrix(projector)
    matrix = torch.from_numpy(astra.matrix.get(identifier).toarray())
    astra.matrix.delete(identifier)
    astra.projector.delete(projector)
    torch.testing.assert_close(dense(op), matrix, rtol=0, atol=5e-6)


@pytest.mark.parametrize("shape", [(9, 7), (8, 6), (3, 5, 4)])
@pytest.mark.parametrize("backend", ["csr", "torch"])
def test_operator_contract(shape, backend):
    check_operator(ParallelBeamCT(shape, random_angles(6), **KW, backend=backend))


@pytest.mark.parametrize("shape", [(9, 7), (3, 5, 4)])
def test_operator_contract_astra(shape):
    # float32 arithmetic whatever the dtype
    op = ParallelBeamCT(shape, random_angles(6), **KW, backend="astra")
    check_operator(op, dtype=torch.float32, rtol=1e-4)


@pytest.mark.parametrize("backend", ENGINES)
def test_adjoint_in_deepinvs_own_test(backend):
    op = ParallelBeamCT((20, 17), random_angles(9), **KW, backend=backend)
    assert float(op.adjointness_test(num_samples=4)) < 1e-5
    exact = float(op.adjointness_test(num_samples=4, dtype=torch.float64))
    assert exact < (1e-6 if backend == "astra" else 1e-13)


@pytest.mark.parametrize("backend", ENGINES)
def test_a_stack_is_its_slices(backend):
    stack = ParallelBeamCT((4, 9, 7), random_angles(6), **KW, backend=backend)
    single = ParallelBeamCT((9, 7), random_angles(6), **KW, backend=backend)
    x = random((2, 1, 4, 9, 7))
    y = stack.A(x)
    assert y.shape == (2, *stack.measurement_shape)
    loop = torch.stack([single.A(x[:, :, d]) for d in range(4)], dim=2)
    torch.testing.assert_close(y, loop, rtol=1e-13, atol=1e-13)
    loop = torch.stack([single.A_adjoint(y[:, :, d]) for d in range(4)], dim=2)
    torch.testing.assert_close(stack.A_adjoint(y), loop, rtol=1e-13, atol=1e-12)
    loop = torch.stack([single.A_dagger(y[:, :, d]) for d in range(4)], dim=2)
    torch.testing.assert_close(stack.A_dagger(y), loop, rtol=1e-13, atol=1e-13)


def test_small_chunks_change_nothing(monkeypatch):
    from sciinv.operators import joseph

    op = ParallelBeamCT((9, 7), random_angles(6), **KW, backend="torch")
    x = random((2, 1, 9, 7))
    y = op.A(x)
    back = op.A_adjoint(y)
    monkeypatch.setattr(joseph, "_CHUNK", 40)
    monkeypatch.setattr(ct_matrix, "_BLOCK", 40)
    torch.testing.assert_close(op.A(x), y, rtol=1e-13, atol=1e-13)
    torch.testing.assert_close(op.A_adjoint(y), back, rtol=1e-13, atol=1e-13)
    pieces = ct_matrix.MatrixEngine(op.geometry, torch.float64, torch.device("cpu"))
    torch.testing.assert_close(pieces.backproject(y[:, 0]), back[:, 0], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ENGINES)
def test_half_precision_is_computed_in_float32(backend):
    op = ParallelBeamCT((9, 7), random_angles(6), **KW, backend=backend)
    x, y = random((2, 1, 9, 7)).bfloat16(), random((2, *op.measurement_shape)).bfloat16()
    assert torch.equal(op.A(x), op.A(x.float()).bfloat16())
    assert torch.equal(op.A_adjoint(y), op.A_adjoint(y.float()).bfloat16())
    assert torch.equal(op.A_dagger(y), op.A_dagger(y.float()).bfloat16())


def test_dtype_follows_the_input():
    op = ParallelBeamCT((9, 7), random_angles(6), **KW)
    x = random((1, 1, 9, 7))
    assert op.A(x.float()).dtype == torch.float32
    torch.testing.assert_close(op.A(x.float()).double(), op.A(x), rtol=1e-5, atol=1e-5)
    moved = op.to(torch.float64)
    assert moved.A(x).dtype == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(op.A(x.float()).double(), op.A(x), rtol=1e-5, atol=1e-5)


def test_a_small_budget_falls_back_to_astra_with_the_same_values():
    free = ParallelBeamCT((30, 30), random_angles(20), **KW)
    tight = ParallelBeamCT((30, 30), random_angles(20), **KW, memory_budget=1000)
    assert (free.backend, tight.backend) == ("csr", "astra")
    assert tight.summary()["backend"] == "astra"
    x = random((2, 1, 30, 30), dtype=torch.float32)
    torch.testing.assert_close(tight.A(x), free.A(x), rtol=1e-4, atol=1e-4)


def test_without_astra_the_torch_projector_takes_over(monkeypatch):
    monkeypatch.setattr(astra_backend, "astra_problem", lambda: "ImportError: not installed")
    tight = ParallelBeamCT((8, 8), random_angles(5), **KW, memory_budget=10)
    assert tight.backend == "torch"
    free = ParallelBeamCT((8, 8), random_angles(5), **KW)
    x = random((1, 1, 8, 8))
    torch.testing.assert_close(tight.A(x), free.A(x), rtol=1e-12, atol=1e-12)
    with pytest.raises(ImportError, match="not installed"):
        ParallelBeamCT((8, 8), random_angles(5), **KW, backend="astra")


def test_memory_estimate_is_close_to_the_memory_used():
    op = ParallelBeamCT((40, 31), random_angles(30), **{**KW, "num_detectors": 80})
    for dtype in (torch.float32, torch.float64):
        engine = ct_matrix.MatrixEngine(op.geometry, dtype, torch.device("cpu"))
        estimate = ct_matrix.matrix_bytes(op.geometry, dtype)
        assert engine.nbytes <= estimate < 1.05 * engine.nbytes


def test_matrices_are_shared_and_dropped_under_the_budget():
    ct_matrix.clear_matrices()
    x = random((1, 1, 9, 7))
    first = ParallelBeamCT((9, 7), random_angles(6), **KW)
    twin = ParallelBeamCT((9, 7), random_angles(6), **KW)
    first.A(x), twin.A(x)
    assert first._engine(x) is twin._engine(x)
    size = first._engine(x).nbytes
    other = ParallelBeamCT((9, 7), random_angles(6, seed=5), **KW, memory_budget=size + 100)
    expected = first.A(x)
    other.A(x)
    assert list(ct_matrix._cache) == [(other.geometry, torch.float64, "cpu")]
    torch.testing.assert_close(first.A(x), expected, rtol=0, atol=0)  # its own are still alive


@pytest.mark.parametrize("backend", ENGINES)
def test_clones_work_on_their_own(backend):
    op = ParallelBeamCT((9, 7), random_angles(6), **KW, backend=backend)
    op.noise_model = GaussianNoise(0.1)
    x = random((1, 1, 9, 7), dtype=torch.float32)
    y = op.A(x)
    clone = op.clone()
    del op
    torch.testing.assert_close(clone.A(x), y, rtol=0, atol=0)
    assert clone.backend == backend


def test_images_are_contiguous():
    # a transposed layout would slow a network down by a third
    op = ParallelBeamCT((3, 9, 7), random_angles(6), **KW)
    y = op.A(random((2, 1, 3, 9, 7)))
    assert y.is_contiguous()
    assert op.A_adjoint(y).is_contiguous()
    assert op.A_dagger(y).is_contiguous()


def test_astra_objects_are_released():
    astra = pytest.importorskip("astra")
    engine = astra_backend.AstraEngine(ParallelBeamCT((9, 7), [0.1], **KW).geometry)
    algorithm = engine._algorithms[0]
    astra.algorithm.run(algorithm)
    del engine
    with pytest.raises(astra.log.AstraError):
        astra.algorithm.run(algorithm)


def test_astra_engine_serves_threads():
    from concurrent.futures import ThreadPoolExecutor

    op = ParallelBeamCT((33, 30), random_angles(20), **KW, backend="astra")
    images = [random((1, 1, 33, 30), seed=i) for i in range(16)]
    expected = [op.A(x) for x in images]
    with ThreadPoolExecutor(4) as pool:
        for found, y in zip(pool.map(op.A, images), expected, strict=True):
            torch.testing.assert_close(found, y, rtol=0, atol=0)


# -- derivatives and deepinv -------------------------------------------------------------------
@pytest.mark.parametrize("backend", ENGINES)
def test_gradients_are_the_adjoint_twice(backend):
    op = ParallelBeamCT((6, 5), random_angles(4), **KW, backend=backend)
    x = random((2, 1, 6, 5)).requires_grad_()
    weight = random((2, *op.measurement_shape), seed=3).requires_grad_()
    (gradient,) = torch.autograd.grad((op.A(x) * weight).sum(), x, create_graph=True)
    torch.testing.assert_close(gradient, op.A_adjoint(weight), rtol=1e-12, atol=1e-12)
    v = random((2, 1, 6, 5), seed=4)
    (second,) = torch.autograd.grad((gradient * v).sum(), weight)
    torch.testing.assert_close(second, op.A(v), rtol=1e-12, atol=1e-12)


def test_function_transforms():
    op = ParallelBeamCT((6, 5), random_angles(4), **KW)
    x, v = random((1, 1, 6, 5)), random((1, 1, 6, 5), seed=4)
    with warnings.catch_warnings():
        # forward-mode AD makes torch compile its own helpers with a deprecated API
        warnings.simplefilter("ignore", DeprecationWarning)
        _, tangent = torch.func.jvp(op.A, (x,), (v,))
    torch.testing.assert_close(tangent, op.A(v), rtol=1e-12, atol=1e-12)
    many = random((3, 1, 1, 6, 5))
    mapped = torch.func.vmap(op.A)(many)
    torch.testing.assert_close(mapped, op.A(many[:, 0])[:, None], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["csr", "astra"])
def test_norm_and_prox_against_the_dense_matrix(backend):
    op = ParallelBeamCT((7, 6), random_angles(8), **KW, backend=backend).to(torch.float64)
    matrix = dense(op)
    with torch.random.fork_rng():
        torch.manual_seed(0)  # deepinv starts its power iteration from the global generator
        # ASTRA computes in single precision: an estimate does not settle to 1e-9 of itself
        tol = 1e-6 if backend == "astra" else 1e-9
        found = op.compute_sqnorm(random((1, 1, 7, 6)), max_iter=500, tol=tol, verbose=False)
    truth = float(torch.linalg.matrix_norm(matrix, 2)) ** 2
    assert float(found) == pytest.approx(truth, rel=1e-5)
    y, z, gamma = random((1, *op.measurement_shape)), random((1, 1, 7, 6), seed=2), 0.7
    normal = matrix.T @ matrix + torch.eye(42, dtype=torch.float64) / gamma
    exact = torch.linalg.solve(normal, matrix.T @ y.flatten() + z.flatten() / gamma)
    prox = op.prox_l2(z, y, gamma, solver="CG", max_iter=300, tol=1e-10)
    torch.testing.assert_close(prox.flatten(), exact, rtol=1e-5, atol=1e-5)


def test_stacked_with_another_operator():
    from deepinv.physics import StackedLinearPhysics

    one = ParallelBeamCT((6, 5), random_angles(4), **KW)
    two = ParallelBeamCT((6, 5), random_angles(3, seed=8), **KW)
    both = StackedLinearPhysics([one, two])
    x = random((1, 1, 6, 5))
    y = both.A(x)
    torch.testing.assert_close(y[1], two.A(x), rtol=0, atol=0)
    expected = one.A_adjoint(y[0]) + two.A_adjoint(y[1])
    torch.testing.assert_close(both.A_adjoint(y), expected, rtol=1e-13, atol=1e-13)


# -- errors ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"angles": []}, "angles"),
        ({"angles": [[0.0, 1.0]]}, "angles"),
        ({"angles": [0.0, math.nan]}, "finite"),
        ({"angles": ["a"]}, "angles"),
        ({"angles": np.arange(0, 180.0)}, "0 to 179.*degrees"),
        ({"num_detectors": 0}, "num_detectors: found 0"),
        ({"num_detectors": 2.5}, "num_detectors: found 2.5"),
        ({"detector_spacing": 0.0}, "detector_spacing: found 0.0"),
        ({"pixel_size": -1.0}, "pixel_size: found -1.0"),
        ({"axis_shift": math.inf}, "axis_shift"),
        ({"image_shape": (5,)}, "image_shape"),
        ({"image_shape": (5, 0)}, "image_shape"),
        ({"backend": "gpu"}, "backend"),
    ],
)
def test_bad_parameters_are_named(change, text):
    kw = {"image_shape": (6, 5), "angles": [0.0, 1.0], **KW, **change}
    with pytest.raises(GeometryError, match=text):
        ParallelBeamCT(kw.pop("image_shape"), kw.pop("angles"), **kw)


def test_all_problems_are_named_at_once():
    with pytest.raises(GeometryError, match=r"angles.*num_detectors.*pixel_size"):
        ParallelBeamCT((6, 5), [], num_detectors=0, detector_spacing=1.0, pixel_size=0.0)


def test_wrong_shapes_and_arguments_are_refused():
    op = ParallelBeamCT((6, 5), random_angles(4), **KW)
    with pytest.raises(GeometryError, match="expected"):
        op.A(torch.zeros(1, 1, 5, 6))
    with pytest.raises(GeometryError, match="expected"):
        op.A_adjoint(torch.zeros(1, 1, 15, 4))
    with pytest.raises(GeometryError, match="expected"):
        op.A_dagger(torch.zeros(1, 1, 15, 4))
    with pytest.raises(TypeError, match="mask"):
        op.A(torch.zeros(1, 1, 6, 5), mask=None)


def test_cuda_engine_is_refused_without_cuda():
    if astra_backend.cuda_available():
        pytest.skip("ASTRA has a GPU here")
    with pytest.raises(RuntimeError, match="use_cuda"):
        ParallelBeamCT((6, 5), [0.0], **KW, backend="astra_cuda")


@pytest.mark.cuda
def test_cuda_engine_agrees_with_the_torch_projector():
    if not (torch.cuda.is_available() and astra_backend.cuda_available()):
        pytest.skip("needs a GPU and an ASTRA build with CUDA")
    kw = {"num_detectors": 80, "detector_spacing": 0.8, "pixel_size": 0.7, "axis_shift": 0.37}
    fast = ParallelBeamCT((3, 50, 60), random_angles(20), **kw, backend="astra_cuda")
    exact = ParallelBeamCT((3, 50, 60), random_angles(20), **kw, backend="torch")
    assert Capability.ADJOINT not in operator_capabilities(fast)
    x = random((1, 1, 3, 50, 60), dtype=torch.float32).cuda()
    y = exact.A(x)
    assert float((fast.A(x) - y).norm() / y.norm()) < 5e-3  # texture units have 8-bit fractions
    back = exact.A_adjoint(y)
    assert float((fast.A_adjoint(y) - back).norm() / back.norm()) < 5e-2
