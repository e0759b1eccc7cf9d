from __future__ import annotations

import importlib.util
import sys

import numpy as np
import pytest
import torch

from sciinv.operators import nufft
from sciinv.operators.nufft import choose_engine, direct_sum, engine_problem, make_engine
from sciinv.operators.toeplitz import apply_toeplitz, point_spread, toeplitz_kernel

SHAPES = [(8, 12), (7, 5), (6, 9), (1, 4), (33, 20), (5, 6, 4), (3, 5, 7)]
ENGINES = [
    "sigpy",
    *(
        pytest.param(
            name,
            marks=pytest.mark.skipif(
                importlib.util.find_spec(name) is None, reason=f"{name} is not installed"
            ),
        )
        for name in ("ducc0", "finufft")
    ),
]
COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


def scattered(shape, samples=60):
    """Random samples, the corners of k-space and the centre among them."""
    rng = np.random.default_rng(1)
    k = (rng.random((samples, len(shape))) - 0.5) * np.array(shape)
    k[0], k[1], k[2] = np.array(shape) / 2, -np.array(shape) / 2, 0
    return k


def images(count, shape):
    rng = np.random.default_rng(2)
    return rng.standard_normal((count, *shape)) + 1j * rng.standard_normal((count, *shape))


def relative(found, truth):
    return float(np.linalg.norm(np.asarray(found) - truth) / np.linalg.norm(truth))


def dense(k, shape):
    """The matrix written down sample by sample, without direct_sum."""
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), -1)
    phase = ((grid - np.array(shape) // 2) / np.array(shape)).reshape(-1, len(shape)) @ k.T
    return np.exp(-2j * np.pi * phase.T) / np.sqrt(np.prod(shape))


@pytest.mark.parametrize("shape", SHAPES)
def test_direct_sum_is_the_definition(shape):
    k, z = scattered(shape), images(2, shape)
    assert relative(direct_sum(z, k), z.reshape(2, -1) @ dense(k, shape).T) < 1e-13


def test_direct_sum_takes_a_further_phase():
    shape = (4, 5)
    k, z = scattered(shape, 9), images(1, shape)
    factor = images(9, shape)
    found = direct_sum(z, k, lambda part: factor[part])
    truth = z.reshape(1, -1) @ (dense(k, shape) * factor.reshape(9, -1)).T
    assert relative(found, truth) < 1e-13


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", SHAPES)
def test_engines_equal_the_direct_sum_in_both_precisions(engine, shape):
    k, z = scattered(shape), images(2, shape)
    truth = direct_sum(z, k)
    for dtype in (torch.float32, torch.float64):
        found = make_engine(engine, shape, k, dtype).forward(torch.from_numpy(z).to(COMPLEX[dtype]))
        assert found.dtype == COMPLEX[dtype]
        exact = engine != "sigpy" and dtype == torch.float64
        assert relative(found, truth) < (1e-11 if exact else 2e-5)


@pytest.mark.parametrize("shape", [(8, 12), (5, 6, 4)])
def test_a_wider_kernel_takes_sigpy_to_its_own_limit(shape):
    # its Bessel function is a polynomial with errors of 2e-7, so no width gets below that
    k, z = scattered(shape), images(1, shape)
    engine = make_engine("sigpy", shape, k, torch.float64, width=8)
    assert relative(engine.forward(torch.from_numpy(z)), direct_sum(z, k)) < 5e-7


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("dtype", "bound"), [(torch.float32, 3e-7), (torch.float64, 1e-14)])
def test_adjoint_is_exact_whatever_the_accuracy(engine, shape, dtype, bound):
    k = scattered(shape)
    op = make_engine(engine, shape, k, dtype)
    z = torch.from_numpy(images(3, shape)).to(COMPLEX[dtype])
    y = torch.randn(3, len(k), dtype=COMPLEX[dtype], generator=torch.Generator().manual_seed(0))
    ax, aty = op.forward(z), op.adjoint(y)
    difference = torch.vdot(y.flatten(), ax.flatten()) - torch.vdot(aty.flatten(), z.flatten())
    assert float(difference.abs()) < bound * float(ax.norm() * y.norm())


@pytest.mark.parametrize("engine", ENGINES)
def test_realistic_size(engine):
    shape = (96, 80)
    k, z = scattered(shape, 500), images(1, shape)
    truth = direct_sum(z, k)
    found = make_engine(engine, shape, k, torch.float32).forward(torch.from_numpy(z).cfloat())
    assert relative(found, truth) < (3e-5 if engine == "finufft" else 2e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_inputs_with_views_gradients_and_several_threads(engine):
    shape = (6, 8)
    k = scattered(shape)
    op = make_engine(engine, shape, k, torch.float64)
    z = torch.from_numpy(images(2, (8, 6))).transpose(1, 2).conj().requires_grad_()
    truth = direct_sum(z.detach().resolve_conj().numpy(), k)
    before = torch.get_num_threads()
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            assert relative(op.forward(z), truth) < (2e-5 if engine == "sigpy" else 1e-11)
    finally:
        torch.set_num_threads(before)


def test_sigpy_in_chunks_is_the_same(monkeypatch):
    shape = (8, 6)
    k, z = scattered(shape), torch.from_numpy(images(5, shape))
    whole = make_engine("sigpy", shape, k, torch.float64)
    monkeypatch.setattr(nufft, "_CHUNK", 2 * 16 * 12)
    parts = make_engine("sigpy", shape, k, torch.float64)
    assert parts.rows == 2
    torch.testing.assert_close(parts.forward(z), whole.forward(z), rtol=0, atol=1e-15)
    y = whole.forward(z)
    torch.testing.assert_close(parts.adjoint(y), whole.adjoint(y), rtol=0, atol=1e-14)


# -- choice ------------------------------------------------------------------------------------
def test_auto_takes_the_first_engine_that_works(monkeypatch):
    working = {"ducc0", "finufft", "sigpy"}
    monkeypatch.setattr(
        nufft, "engine_problem", lambda name: None if name in working else "ImportError: gone"
    )
    for expected in ("ducc0", "finufft", "sigpy"):
        assert choose_engine("auto", "cpu") == expected
        working.discard(expected)
        if expected != "sigpy":
            with pytest.raises(ImportError, match=f"{expected}.*gone.*pip install {expected}"):
                choose_engine(expected, "cpu")
    working.add("sigpy")
    assert choose_engine("sigpy", "cpu") == "sigpy"


def test_an_engine_that_is_missing_or_wrong_is_found_out(monkeypatch):
    engine_problem.cache_clear()
    monkeypatch.setitem(sys.modules, "ducc0", None)
    assert "ducc0" in (engine_problem("ducc0") or "")
    engine_problem.cache_clear()

    class Wrong(nufft.SigpyEngine):
        def forward(self, z):
            return 2 * super().forward(z)

    monkeypatch.setitem(nufft._ENGINES, "finufft", Wrong)
    assert engine_problem("finufft") == "a small transform gave a wrong result"
    engine_problem.cache_clear()
    assert engine_problem("sigpy") is None
    engine_problem.cache_clear()


def test_other_devices_are_refused_without_cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(ImportError, match="CuPy.*sciinv.cuda"):
        choose_engine("auto", "cuda")
    with pytest.raises(ImportError, match="CPU only"):
        choose_engine("ducc0", "cuda:0")


# -- Toeplitz ----------------------------------------------------------------------------------
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shape", [*SHAPES, (11, 13), (2, 2)])
@pytest.mark.parametrize("weighted", [False, True])
def test_toeplitz_equals_the_dense_normal_matrix(engine, shape, weighted):
    k = scattered(shape)
    weights = np.random.default_rng(3).random(len(k)) if weighted else np.ones(len(k))
    matrix = dense(k, shape)
    z = images(2, shape)
    truth = (z.reshape(2, -1) @ (matrix.conj().T * weights @ matrix).T).reshape(z.shape)
    kernel = toeplitz_kernel(k, shape, weights if weighted else None, backend=engine)
    assert kernel.dtype == torch.float64
    assert relative(apply_toeplitz(torch.from_numpy(z), kernel), truth) < 1e-11
    single = apply_toeplitz(torch.from_numpy(z).cfloat(), kernel.float())
    assert single.dtype == torch.complex64
    assert relative(single, truth) < 1e-6


def test_toeplitz_by_sigpy_alone_for_a_large_problem(monkeypatch):
    monkeypatch.setattr("sciinv.operators.toeplitz._DIRECT", 0)
    shape = (21, 18)
    k = scattered(shape, 300)
    truth = point_spread(k, shape, backend="sigpy")
    monkeypatch.setattr("sciinv.operators.toeplitz._DIRECT", 2**29)
    # what SigPy's own kernel function allows, see the wider kernel above
    assert relative(truth, point_spread(k, shape, backend="sigpy")) < 5e-7


def test_toeplitz_leaves_its_input_and_kernel_unchanged():
    shape = (6, 7)
    k = scattered(shape)
    kernel = toeplitz_kernel(k, shape)
    z = torch.from_numpy(images(2, shape))
    kept, before = kernel.clone(), z.clone()
    first = apply_toeplitz(z, kernel)
    assert torch.equal(first, apply_toeplitz(z, kernel))
    assert torch.equal(z, before) and torch.equal(kernel, kept)
    views = apply_toeplitz(z.transpose(1, 2).contiguous().transpose(1, 2), kernel)
    torch.testing.assert_close(views, first, rtol=0, atol=1e-14)


@pytest.mark.cuda
@pytest.mark.parametrize("shape", [(16, 12), (7, 9), (6, 8, 5)])
def test_sigpy_on_cuda_equals_the_direct_sum(shape):
    pytest.importorskip("cupy")
    k, z = scattered(shape), images(3, shape)
    truth = direct_sum(z, k)
    on_device = torch.from_numpy(z).cuda()
    for dtype, bound in ((torch.float32, 3e-7), (torch.float64, 1e-13)):
        op = make_engine("sigpy", shape, k, dtype)
        x = on_device.to(COMPLEX[dtype])
        ax = op.forward(x)
        assert ax.device == x.device and relative(ax.cpu(), truth) < 2e-5
        y = torch.randn_like(ax)
        aty = op.adjoint(y)
        gap = torch.vdot(y.flatten(), ax.flatten()) - torch.vdot(aty.flatten(), x.flatten())
        assert float(gap.abs()) < 10 * bound * float(ax.norm() * y.norm())
    kernel = toeplitz_kernel(k, shape).cuda()
    matrix = dense(k, shape)
    normal = (z.reshape(3, -1) @ (matrix.conj().T @ matrix).T).reshape(z.shape)
    assert relative(apply_toeplitz(on_device, kernel).cpu(), normal) < 1e-11
