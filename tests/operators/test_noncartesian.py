from __future__ import annotations

import copy
import importlib.util
import pickle
import warnings

import numpy as np
import pytest
import torch
from deepinv.physics import GaussianNoise

from sciinv.capabilities import Capability
from sciinv.channels import to_channels, to_complex
from sciinv.errors import GeometryError
from sciinv.operators import CartesianMRI
from sciinv.operators.noncartesian import NonCartesianMRI
from sciinv.operators.nufft import direct_sum
from sciinv.operators.segmentation import Segmentation
from sciinv.operators.testing import check_operator
from sciinv.operators.trajectories import radial_trajectory, spiral_trajectory
from sciinv.operators.whitening import whiten

# even, odd, rectangular, three-dimensional
SHAPES = [(6, 8), (7, 5), (1, 6), (3, 4, 5)]
OPTIONAL = [name for name in ("ducc0", "finufft") if importlib.util.find_spec(name)]
BACKENDS = ["sigpy", *OPTIONAL]
needs_exact = pytest.mark.skipif(not OPTIONAL, reason="needs ducc0 or finufft")


def generator():
    return torch.Generator().manual_seed(5)


def scattered(shape, leading=(3, 10)):
    rng = np.random.default_rng(1)
    k = (rng.random((*leading, len(shape))) - 0.5) * np.array(shape)
    k.reshape(-1, len(shape))[0] = np.array(shape) / 2
    k.reshape(-1, len(shape))[1] = -np.array(shape) / 2
    return k


def random_maps(batch, coils, shape):
    return torch.randn(batch, coils, *shape, dtype=torch.complex128, generator=generator())


def image(batch, shape, dtype=torch.float64):
    return torch.randn(batch, 2, *shape, dtype=dtype, generator=generator())


def truth(x, k, maps=None, phase=None):
    """Measurement (B, coils, samples) by the definition; ``phase`` is one per scan or none."""
    shape = tuple(x.shape[2:])
    z = to_complex(x)[:, None] * (1 if maps is None else maps)
    points = k.reshape(-1, len(shape))
    rows = [
        direct_sum(row.numpy(), points, None if phase is None else phase[index % len(phase)])
        for index, row in enumerate(z)
    ]
    return torch.from_numpy(np.stack(rows))


def off_resonance(batch, shape, leading=(3, 10)):
    """Field in Hz, times in s of every sample, and the exact factor for :func:`truth`."""
    field = 120 * torch.rand(batch, *shape, dtype=torch.float64, generator=generator()) - 30
    times = np.broadcast_to(np.linspace(1e-3, 9e-3, leading[-1]), leading)
    flat = times.ravel()

    def factor(row):
        return lambda part: np.exp(-2j * np.pi * np.multiply.outer(flat[part], field[row].numpy()))

    return field, times, [factor(row) for row in range(batch)]


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# -- the model -----------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("coils", "batch"), [(None, 1), (2, 2)])
def test_equals_the_direct_sum_and_passes_check_operator(backend, shape, coils, batch):
    k = scattered(shape)
    maps = None if coils is None else random_maps(batch, coils, shape)
    physics = NonCartesianMRI(shape, k, maps, backend=backend)
    x = image(2, shape)
    expected = to_channels(truth(x, k, maps) if coils else truth(x, k)[:, 0])
    exact = backend != "sigpy"
    found = physics.A(x)
    assert found.shape == (2, *physics.measurement_shape)
    assert relative(found, expected) < (1e-11 if exact else 2e-5)
    assert relative(physics.A(x.float()).double(), expected) < 2e-5
    # SigPy's own normal against the exact Toeplitz one differs by its error
    errors = check_operator(physics, rtol=1e-10 if exact else 3e-5)
    assert errors["adjoint"] < 1e-14 and errors["finite difference"] < 1e-13
    check_operator(physics, rtol=1e-4, dtype=torch.float32, dense_limit=0)
    pair = NonCartesianMRI(shape, k, maps, backend=backend, toeplitz=False)
    assert max(check_operator(pair, dense_limit=0).values()) < 1e-12


@pytest.mark.parametrize("shape", [(16, 12), (9, 7), (6, 5, 4)])
@pytest.mark.parametrize("coils", [None, 2])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_cartesian_grid_is_cartesian_mri(shape, coils, backend):
    grid = np.stack(np.meshgrid(*[np.arange(n) - n // 2 for n in shape], indexing="ij"), -1)
    maps = None if coils is None else random_maps(1, coils, shape)
    ours = NonCartesianMRI(shape, grid, maps, backend=backend, dtype=torch.float64)
    cartesian = CartesianMRI(shape, None, maps, dtype=torch.float64)
    x = image(2, shape)
    expected = cartesian.A(x)
    assert relative(ours.A(x).reshape(expected.shape), expected) < 1e-5
    assert relative(ours.A_adjoint(expected.reshape(2, *ours.measurement_shape)),
                    cartesian.A_adjoint(expected)) < 1e-5  # fmt: skip
    assert relative(ours.A_adjoint_A(x), cartesian.A_adjoint_A(x)) < 1e-10


def test_leading_axes_are_flattened_in_c_order():
    shape = (6, 7)
    k = scattered(shape, (2, 3, 4))
    physics = NonCartesianMRI(shape, torch.from_numpy(k), dtype=torch.float64)
    x = image(1, shape)
    y = to_complex(physics.A(x)).reshape(1, 2, 3, 4)
    one = NonCartesianMRI(shape, k[1, 2, 3][None], dtype=torch.float64)
    torch.testing.assert_close(to_complex(one.A(x))[0, 0], y[0, 1, 2, 3], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(physics.trajectory, torch.from_numpy(k), rtol=0, atol=0)


@needs_exact
def test_engines_agree():
    shape, maps = (33, 40), random_maps(1, 2, (33, 40))
    k = radial_trajectory(shape, 20)
    x = image(1, shape)
    results = [NonCartesianMRI(shape, k, maps, backend=b).A(x) for b in (*OPTIONAL, "sigpy")]
    for other in results[1:]:
        assert relative(other, results[0]) < 2e-5
    assert NonCartesianMRI(shape, k).backend == OPTIONAL[0]


# -- normal ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("backend", BACKENDS)
def test_toeplitz_normal_equals_the_dense_matrix(shape, backend):
    k, maps = scattered(shape), random_maps(1, 2, shape)
    physics = NonCartesianMRI(shape, k, maps, backend=backend)
    n = int(np.prod(shape))
    eye = torch.eye(n, dtype=torch.float64).reshape(n, *shape)
    columns = truth(torch.stack([eye, torch.zeros_like(eye)], 1), k, maps)  # (n, coils, samples)
    matrix = columns.flatten(1).T
    x = image(2, shape)
    expected = to_channels((to_complex(x).flatten(1) @ (matrix.mH @ matrix).T).reshape(2, *shape))
    assert relative(physics.A_adjoint_A(x), expected) < 1e-11
    assert relative(physics.A_adjoint_A(x.float()).double(), expected) < 1e-6


def test_kernel_is_lazy_shared_by_copies_and_precise_after_changes_of_dtype():
    shape = (9, 8)
    physics = NonCartesianMRI(shape, scattered(shape), random_maps(1, 2, shape).cfloat())
    x = image(1, shape)
    assert not physics._scan.kernels
    early = copy.deepcopy(physics)
    single = physics.normal(x.float())
    truth_ = physics._scan.kernels[torch.float64, "cpu"]
    assert set(physics._scan.kernels) == {(torch.float64, "cpu"), (torch.float32, "cpu")}
    physics.normal(x.float())
    assert physics._scan.kernels[torch.float64, "cpu"] is truth_
    for other in (early, copy.deepcopy(physics), physics.clone()):
        torch.testing.assert_close(other.normal(x.float()), single, rtol=0, atol=0)
    # down and up again: trajectory and kernel keep their digits, the maps were single anyway
    changed = copy.deepcopy(physics).to(torch.float16).to(torch.float64)
    changed.map_pairs = physics.map_pairs.double()
    torch.testing.assert_close(changed.normal(x), physics.normal(x), rtol=0, atol=0)
    restored = pickle.loads(pickle.dumps(physics._scan))  # noqa: S301
    assert torch.equal(restored.kernels[torch.float64, "cpu"], truth_)
    np.testing.assert_array_equal(restored.trajectory, physics._scan.trajectory)
    assert restored.engine(x.cfloat()).name == physics.backend


# -- gradients -------------------------------------------------------------------------------------
@pytest.mark.parametrize("field", [False, True])
def test_gradients_flow_through_image_and_maps(field):
    shape = (3, 2)
    k = scattered(shape, (2, 2))
    field_map, times, _ = off_resonance(1, shape, (2, 2))
    extra = {"field_map": field_map, "readout_times": times} if field else {}
    physics = NonCartesianMRI(shape, k, random_maps(1, 2, shape), **extra)

    def forward(x, pairs):
        return physics.A(x, coil_maps=torch.view_as_complex(pairs))

    def normal(x, pairs):
        return physics.A_adjoint_A(x, coil_maps=torch.view_as_complex(pairs))

    x, pairs = image(1, shape), torch.view_as_real(random_maps(1, 2, shape)[0])
    inputs = (x.requires_grad_(), pairs.clone().requires_grad_())
    assert torch.autograd.gradcheck(forward, inputs, check_forward_ad=True)
    assert torch.autograd.gradcheck(normal, inputs, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(forward, inputs)


def test_vmap_is_a_loop():
    shape = (4, 5)
    physics = NonCartesianMRI(shape, scattered(shape), random_maps(1, 2, shape))
    x = image(6, shape).reshape(3, 2, 2, *shape)
    for function in (physics.A, physics.A_adjoint_A):
        expected = torch.stack([function(row) for row in x])
        torch.testing.assert_close(torch.func.vmap(function)(x), expected, rtol=0, atol=1e-13)


def test_half_precision_is_computed_in_single():
    shape = (8, 6)
    physics = NonCartesianMRI(shape, scattered(shape), random_maps(1, 2, shape))
    x = image(1, shape).half()
    for function in (physics.A, physics.A_adjoint_A):
        found = function(x)
        assert found.dtype == torch.float16
        assert relative(found.float(), function(x.float())) < 1e-3
    assert physics.A_adjoint(physics.A(x)).dtype == torch.float16


# -- off-resonance ---------------------------------------------------------------------------------
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(6, 8), (7, 5), (3, 4, 5)])
@pytest.mark.parametrize(("coils", "batch"), [(None, 1), (2, 2)])
def test_off_resonance_equals_the_sum_with_the_exact_phase(backend, shape, coils, batch):
    k = scattered(shape)
    field, times, phase = off_resonance(batch, shape)
    maps = None if coils is None else random_maps(1, coils, shape)
    physics = NonCartesianMRI(
        shape, k, maps, field_map=field, readout_times=times, backend=backend, dtype=torch.float64
    )
    x = image(2, shape)
    expected = to_channels(truth(x, k, maps, phase) if coils else truth(x, k, None, phase)[:, 0])
    assert relative(physics.A(x), expected) < 1e-4
    assert relative(physics.A(x.float()).double(), expected) < 1e-4
    # without dense matrices: a sum over segments for each of their columns takes seconds
    assert max(check_operator(physics, dense_limit=0).values()) < 1e-11
    # more segments, smaller error
    fine = NonCartesianMRI(
        shape, k, maps, field_map=field, readout_times=times, segments=14, backend=backend
    ).to(torch.float64)
    assert fine.segments == 14 > physics.segments > 1
    limit = 2e-5 if backend == "sigpy" else 1e-7  # the field map went through single precision
    assert relative(fine.A(x), expected) < limit


def test_off_resonance_on_a_real_scale():
    shape = (64, 64)
    k = spiral_trajectory(shape, 4, 600)
    rows, cols = torch.meshgrid(*[torch.linspace(-1, 1, 64, dtype=torch.float64)] * 2,
                                indexing="ij")  # fmt: skip
    # 3 T: shim of 60 Hz and a small region at 440 Hz, where fat is
    field = 60 * rows * cols + 440 * ((rows - 0.5).square() + cols.square() < 0.02)
    times = np.linspace(0, 0.012, 600)
    physics = NonCartesianMRI(shape, k, field_map=field, readout_times=times, dtype=torch.float64)
    x = image(1, shape)
    flat = np.tile(times, 4)
    expected = truth(
        x,
        k,
        None,
        [lambda part: np.exp(-2j * np.pi * np.multiply.outer(flat[part], field.numpy()))],
    )[:, 0]
    assert relative(physics.A(x), to_channels(expected)) < 1e-4
    assert "segments over 12 ms" in physics.summary()["off-resonance"]
    # leaving the field out would be wrong by far more
    plain = NonCartesianMRI(shape, k, dtype=torch.float64)
    assert relative(plain.A(x), to_channels(expected)) > 0.3


def test_segments_are_the_fewest_that_keep_the_promise():
    rng = np.random.default_rng(0)
    field, times = 200 * rng.random(3000) - 100, np.linspace(0, 0.02, 350)
    found = Segmentation.create(field, times)
    exact = np.exp(-2j * np.pi * np.outer(field, times))
    series = np.exp(-2j * np.pi * np.outer(field, found.times)) @ found.weights
    assert np.abs(series - exact).max() < 1.05e-4  # between the bins of the histogram too
    assert found.error < 1e-4
    fewer = Segmentation.create(field, times, len(found.times) - 1)
    assert fewer.error > 1e-4
    # times in any order and repeated, each with the weights of its own
    order = rng.permutation(np.tile(np.arange(350), 2))
    shuffled = Segmentation.create(field, times[order])
    np.testing.assert_allclose(shuffled.weights, found.weights[:, order], atol=1e-9)


def test_a_constant_field_needs_one_segment():
    shape = (5, 6)
    k = scattered(shape)
    times = np.linspace(0, 0.01, 10)
    physics = NonCartesianMRI(
        shape, k, field_map=np.full(shape, 70.0), readout_times=times, dtype=torch.float64
    )
    assert physics.segments == 1
    x = image(1, shape)
    plain = to_complex(NonCartesianMRI(shape, k, dtype=torch.float64).A(x))
    turned = plain * torch.from_numpy(np.exp(-2j * np.pi * 70 * np.tile(times, 3)))
    torch.testing.assert_close(to_complex(physics.A(x)), turned, rtol=0, atol=1e-12)


def test_times_in_milliseconds_are_found_out():
    with pytest.raises(GeometryError, match="turns of phase.*seconds"):
        NonCartesianMRI(
            (16, 16),
            radial_trajectory((16, 16), 4),
            field_map=200 * np.random.default_rng(0).random((16, 16)),
            readout_times=np.linspace(0, 20, 32),
        )


# -- start image -----------------------------------------------------------------------------------
@pytest.mark.parametrize("coils", [None, 4])
def test_a_dagger_returns_a_smooth_image_at_its_value(coils):
    shape = (40, 40)
    k = radial_trajectory(shape, 70)
    maps = None
    if coils:
        rows, cols = torch.meshgrid(*[torch.linspace(-1, 1, 40, dtype=torch.float64)] * 2,
                                    indexing="ij")  # fmt: skip
        maps = torch.stack(
            [torch.polar(1.5 + torch.cos(rows * a + 1), cols * a) for a in (0.0, 0.5, 1.0, 1.5)]
        )
        maps[:, :3] = 0
    physics = NonCartesianMRI(shape, k, maps, dtype=torch.float64)
    x = torch.zeros(2, 2, *shape, dtype=torch.float64)
    x[0, 0], x[1, 1] = 1.0, -2.5
    found = physics.A_dagger(physics.A(x))[..., 10:30, 10:30]
    # 5 % of 2.5, in the other part too: spokes reach -N/2 but not N/2
    torch.testing.assert_close(found, x[..., 10:30, 10:30], rtol=0.05, atol=0.125)
    if coils:
        assert bool((physics.A_dagger(physics.A(x))[..., :3, :] == 0).all())


def test_a_dagger_uses_the_density_that_is_given():
    shape = (8, 6)
    k = scattered(shape)
    density = np.random.default_rng(0).random((3, 10))
    y = NonCartesianMRI(shape, k, dtype=torch.float64).A(image(1, shape))
    physics = NonCartesianMRI(shape, k, density=torch.from_numpy(density), dtype=torch.float64)
    torch.testing.assert_close(physics.density, torch.from_numpy(density.ravel()))
    expected = physics.A_adjoint(y * torch.from_numpy(density.ravel()))
    torch.testing.assert_close(physics.A_dagger(y), expected, rtol=0, atol=0)
    leaf = y.clone().requires_grad_()
    physics.A_dagger(leaf).square().sum().backward()
    assert torch.isfinite(leaf.grad).all()


# -- deepinv ---------------------------------------------------------------------------------------
def test_deepinv_methods():
    shape = (10, 8)
    maps = random_maps(1, 3, shape)
    physics = NonCartesianMRI(
        shape, scattered(shape, (12, 16)), maps, noise_model=GaussianNoise(0.1)
    )
    x, z = image(1, shape), image(1, shape)
    y = physics.A(x)
    prox = physics.prox_l2(z, y, 3.0, max_iter=200, tol=1e-12)
    residual = 3.0 * physics.A_adjoint(physics.A(prox) - y) + prox - z
    assert float(residual.norm() / z.norm()) < 1e-4  # of deepinv's stopping rule
    n = 2 * 80
    eye = torch.eye(n, dtype=torch.float64).reshape(n, 2, *shape)
    top = torch.linalg.matrix_norm(physics.A(eye).flatten(1), 2).square()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        norm = physics.compute_sqnorm(x, max_iter=500, tol=1e-8, verbose=False)
    assert float(norm) == pytest.approx(float(top), rel=1e-3)
    noisy = physics(x)
    assert noisy.shape == y.shape and 0.03 < float((noisy - y).std()) < 0.3


def test_whitened():
    shape = (8, 7)
    physics = NonCartesianMRI(shape, scattered(shape), random_maps(1, 2, shape))
    std = 0.5 + torch.rand(1, *physics.measurement_shape, dtype=torch.float64,
                           generator=generator())  # fmt: skip
    check_operator(whiten(physics, std[:, :1]), rtol=3e-5)


@pytest.mark.parametrize("shape", [(16, 12), (9, 9)])
def test_mri_nufft_is_half_as_large(shape):
    mrinufft = pytest.importorskip("mrinufft")
    pytest.importorskip("finufft")
    k = scattered(shape).reshape(-1, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = mrinufft.get_operator("finufft")(
            (k / np.array(shape) * 2 * np.pi).astype(np.float32), shape, eps=1e-6, squeeze_dims=True
        )
        x = image(1, shape, torch.float32)
        y = torch.as_tensor(theirs.op(to_complex(x)[0].numpy()))
    ours = to_complex(NonCartesianMRI(shape, k).A(x))[0]
    assert relative(2 * y.reshape(-1), ours) < 3e-5


# -- words and refusals ----------------------------------------------------------------------------
def test_words_and_capabilities():
    shape = (16, 20)
    physics = NonCartesianMRI(shape, radial_trajectory(shape, 7, 32), random_maps(1, 3, shape))
    fields = physics.summary()
    assert fields["measurement"] == "2x3x224" and fields["coils"] == "3"
    assert fields["trajectory"] == "7 x 32 samples, |k| up to 7.799 x 10 cycles/FOV"
    assert fields["engine"] == physics.backend and fields["normal"] == "Toeplitz"
    assert fields["samples per pixel"] == "0.70"
    assert f"backend='{physics.backend}'" in repr(physics)
    assert physics.capabilities == {
        Capability.LINEAR, Capability.DIFFERENTIABLE, Capability.ADJOINT
    }  # fmt: skip
    assert physics.measurement_count() == 2 * 3 * 224
    assert physics.coils == 3 and physics.coil_maps.shape == (1, 3, *shape)


GOOD = {"image_shape": (16, 16), "trajectory": np.array([[8.0, -8.0], [1.0, 2.0]])}
MAPS = torch.ones(2, 16, 16, dtype=torch.complex64)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trajectory": np.array([[9.0, 0.0]])}, "found .k. up to 9 x 0, expected at most N/2"),
        ({"trajectory": np.array([[0.1, 0.4]])}, "normalised"),
        ({"trajectory": np.array([[np.nan, 0.4]])}, "NaN"),
        ({"trajectory": np.zeros((4, 3))}, r"expected real \(..., 2\)"),
        ({"image_shape": (16,)}, "image_shape"),
        ({"coil_maps": MAPS.real}, "expected a complex"),
        ({"coil_maps": MAPS[:, :8]}, r"found torch.complex64 \(2, 8, 16\)"),
        ({"density": np.ones(3)}, r"density: found float64 \(3,\), expected real \(2,\)"),
        ({"density": -np.ones(2)}, "density: found negative"),
        ({"field_map": np.zeros((16, 16))}, "found field_map without readout_times"),
        ({"readout_times": np.zeros(2)}, "found readout_times without field_map"),
        ({"field_map": np.zeros((8, 16)), "readout_times": np.zeros(2)}, "field_map: found"),
        ({"field_map": np.full((16, 16), np.nan), "readout_times": np.zeros(2)}, "NaN"),
        ({"field_map": np.zeros((16, 16)), "readout_times": np.zeros(3)}, "readout_times: found"),
        ({"field_map": np.zeros((16, 16)), "readout_times": np.zeros(2), "segments": 0},
         "segments: found 0"),
        ({"field_map": np.zeros((3, 16, 16)), "readout_times": np.zeros(2),
          "coil_maps": MAPS.expand(2, 2, 16, 16)}, "found a batch of 2 sets of coil maps and of 3"),
        ({"backend": "fftw"}, "backend: found 'fftw', expected one of auto, sigpy"),
        ({"oversampling": 1.0}, "oversampling, width: found 1.0"),
        ({"width": 40}, "2 to 16"),
    ],
)  # fmt: skip
def test_refusals(change, message):
    with pytest.raises(GeometryError, match=message):
        NonCartesianMRI(**(GOOD | change))


def test_updates():
    physics = NonCartesianMRI(**GOOD, coil_maps=MAPS)
    physics.update_parameters(coil_maps=2 * MAPS, sigma=0.1)
    torch.testing.assert_close(physics.coil_maps, 2 * MAPS[None])
    with pytest.raises(GeometryError, match="found 3 coils, expected 2"):
        physics.update_parameters(coil_maps=MAPS[[0, 0, 1]])
    with pytest.raises(TypeError, match="unknown parameter.*mask"):
        physics.A(torch.zeros(1, 2, 16, 16), mask=1)
    with pytest.raises(GeometryError, match="expected none"):
        NonCartesianMRI(**GOOD).update_parameters(coil_maps=MAPS)
    batched = NonCartesianMRI(
        **GOOD, coil_maps=MAPS, field_map=np.zeros((3, 16, 16)), readout_times=np.zeros(2)
    )
    with pytest.raises(GeometryError, match="batch of 2"):
        batched.update_parameters(coil_maps=MAPS.expand(2, 2, 16, 16))
    assert batched.coil_maps.shape[0] == 1


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(16, 12), (5, 6, 7)])
def test_cuda_equals_cpu(shape):
    pytest.importorskip("cupy")
    field, times, _ = off_resonance(1, shape)
    x = image(2, shape)
    for extra in ({}, {"field_map": field, "readout_times": times}):
        cpu = NonCartesianMRI(shape, scattered(shape), random_maps(1, 2, shape), **extra)
        gpu = copy.deepcopy(cpu).to("cuda")
        y = cpu.A(x)
        assert relative(gpu.A(x.cuda()).cpu(), y) < 2e-5
        assert relative(gpu.A_adjoint(y.cuda()).cpu(), cpu.A_adjoint(y)) < 2e-5
        assert relative(gpu.A_adjoint_A(x.cuda()).cpu(), cpu.A_adjoint_A(x)) < 4e-5
        assert check_operator(gpu, rtol=3e-5)["adjoint"] < 1e-13


@pytest.mark.parametrize("field", [False, True])
def test_weights_act_in_both_directions_and_hide_samples(field):
    shape, leading = (8, 7), (3, 10)
    k = scattered(shape, leading)
    w = torch.rand(leading, generator=generator(), dtype=torch.float64)
    w[1, 4:8] = 0.0
    maps = random_maps(1, 2, shape)
    options = {}
    if field:
        options["field_map"] = 30 * torch.rand(shape, generator=generator(), dtype=torch.float64)
        options["readout_times"] = np.linspace(0, 5e-3, 10)
    weighted = NonCartesianMRI(shape, k, maps, weights=w, dtype=torch.float64, **options)
    plain = NonCartesianMRI(shape, k, maps, dtype=torch.float64, **options)
    assert max(check_operator(weighted, rtol=1e-6).values()) < 1e-6  # SigPy where it is alone
    x = image(2, shape)
    torch.testing.assert_close(weighted.A(x), plain.A(x) * w.flatten(), rtol=1e-12, atol=1e-14)
    assert weighted.measurement_count() == 4 * int((w > 0).sum())
    assert plain.measurement_mask is None
    again = pickle.loads(pickle.dumps(copy.deepcopy(weighted._scan)))  # noqa: S301  our own bytes
    np.testing.assert_array_equal(again.weights, w.flatten().numpy())
    again = copy.deepcopy(weighted)
    torch.testing.assert_close(again.A_adjoint_A(x), weighted.A_adjoint_A(x))
    # the start image divides the weights out again where they are not zero
    ones = torch.where(w > 0, w, 1.0)
    full = NonCartesianMRI(shape, k, maps, weights=ones, dtype=torch.float64, **options)
    expected = plain.A_dagger(plain.A(x))
    torch.testing.assert_close(full.A_dagger(full.A(x)), expected, rtol=1e-9, atol=1e-11)
    for bad in (-w, torch.zeros(leading), w[:2]):
        with pytest.raises(GeometryError, match="weights"):
            NonCartesianMRI(shape, k, maps, weights=bad)
