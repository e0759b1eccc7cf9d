"""Engines for the non-uniform Fourier transform, all on one unitary scale.

Every engine computes, for samples ``k_j`` in cycles per field of view and an image of ``N`` pixels
with index ``n`` (the centre is ``n_a = N_a // 2``),

    y_j = N^(-1/2) sum_n z_n exp(-2 pi i sum_a k_ja (n_a - N_a // 2) / N_a)

and its exact adjoint, so that samples on the Cartesian grid give the orthonormal transform. SigPy's
own functions have this scale; finufft and ducc0 have no factor, mri-nufft half of it in 2D.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.dlpack import from_dlpack

Backend = Literal["auto", "sigpy", "ducc0", "finufft"]
BACKENDS: tuple[str, ...] = get_args(Backend)
# what "auto" tries, fastest first; SigPy is always installed
_ORDER = ("ducc0", "finufft", "sigpy")
# complex numbers of SigPy's oversampled grids held at once (512 MiB in single precision)
_CHUNK = 2**26
# requested relative errors; in single precision rounding of the coordinates leaves about as much
_EPSILON = {
    ("ducc0", torch.float32): 1e-5,
    ("ducc0", torch.float64): 1e-12,
    ("finufft", torch.float32): 1e-5,
    ("finufft", torch.float64): 1e-12,
}


class Engine(Protocol):
    """A transform of a batch of images for one trajectory, precision and device."""

    name: str

    def forward(self, z: Tensor) -> Tensor:
        """``(R, *image_shape)`` complex to ``(R, samples)``."""
        ...

    def adjoint(self, y: Tensor) -> Tensor:
        """Exact adjoint, ``(R, samples)`` complex to ``(R, *image_shape)``."""
        ...


class SigpyEngine:
    """SigPy's gridding with a Kaiser-Bessel kernel: numba on the CPU, CuPy on CUDA devices.

    Coordinates stay in double precision for images in single precision; that alone keeps the
    error at the kernel's own.
    """

    name = "sigpy"

    def __init__(
        self,
        image_shape: tuple[int, ...],
        trajectory: NDArray[np.float64],
        dtype: torch.dtype,
        *,
        oversampling: float = 2.0,
        width: float = 6.0,
        **_: object,
    ) -> None:
        self.fourier = importlib.import_module("sigpy.fourier")
        self.image_shape = image_shape
        self.trajectory = trajectory
        self.options = (oversampling, width)
        grid = math.prod(math.ceil(oversampling * n) for n in image_shape)
        self.rows = max(1, _CHUNK // grid)
        self._on_device: dict[str, Any] = {}

    def forward(self, z: Tensor) -> Tensor:
        """See :class:`Engine`."""
        return self._run(lambda a, k: self.fourier.nufft(a, k, *self.options), z)

    def adjoint(self, y: Tensor) -> Tensor:
        """See :class:`Engine`."""

        def apply(a: Any, k: Any) -> Any:  # noqa: ANN401 (NumPy or CuPy)
            shape = (len(a), *self.image_shape)
            return self.fourier.nufft_adjoint(a, k, shape, *self.options)

        return self._run(apply, y)

    def _run(self, apply: Callable[[Any, Any], Any], value: Tensor) -> Tensor:
        value = value.detach().resolve_conj().contiguous()
        if value.device.type == "cpu":
            coord = self.trajectory
            parts = [apply(a.numpy(), coord) for a in value.split(self.rows)]
            return torch.from_numpy(parts[0] if len(parts) == 1 else np.concatenate(parts))
        cupy = importlib.import_module("cupy")
        # CuPy works in torch's stream, so neither waits for the other
        stream = cupy.cuda.ExternalStream(torch.cuda.current_stream(value.device).cuda_stream)
        with cupy.cuda.Device(value.device.index or 0), stream:
            key = str(value.device)
            if key not in self._on_device:
                self._on_device[key] = cupy.asarray(self.trajectory)
            coord = self._on_device[key]
            results = [apply(cupy.from_dlpack(a), coord) for a in value.split(self.rows)]
            return torch.cat([from_dlpack(a) for a in results])


class _PlannedEngine:
    """What ducc0 and finufft share: NumPy arrays row by row, one plan per number of threads."""

    name = ""

    def __init__(
        self,
        image_shape: tuple[int, ...],
        trajectory: NDArray[np.float64],
        dtype: torch.dtype,
        *,
        epsilon: float | None = None,
        **_: object,
    ) -> None:
        self.library = importlib.import_module(self.name)
        self.image_shape = image_shape
        self.dtype = dtype
        self.epsilon = _EPSILON[self.name, dtype] if epsilon is None else epsilon
        self.real = np.float64 if dtype == torch.float64 else np.float32
        # angles in radians per pixel: a period is 2 pi
        self.angles = (2 * np.pi * trajectory / np.array(image_shape)).astype(self.real)
        self.scale = 1 / math.sqrt(math.prod(image_shape))
        self._plans: dict[int, Any] = {}

    def forward(self, z: Tensor) -> Tensor:
        """See :class:`Engine`."""
        return self._rows(z, self._type2, (len(self.angles),))

    def adjoint(self, y: Tensor) -> Tensor:
        """See :class:`Engine`."""
        return self._rows(y, self._type1, self.image_shape)

    def _rows(
        self,
        value: Tensor,
        apply: Callable[[Any, Any, Any], None],
        shape: tuple[int, ...],
    ) -> Tensor:
        threads = torch.get_num_threads()
        if threads not in self._plans:
            self._plans[threads] = self._plan(threads)
        plan = self._plans[threads]
        arrays = value.detach().resolve_conj().contiguous().numpy()
        out = torch.empty((len(arrays), *shape), dtype=value.dtype)
        for row, array in zip(out, arrays, strict=True):
            apply(plan, array, row.numpy())
        return out.mul_(self.scale)

    def _plan(self, threads: int) -> Any:  # noqa: ANN401
        raise NotImplementedError

    def _type2(self, plan: Any, grid: Any, out: Any) -> None:  # noqa: ANN401
        raise NotImplementedError

    def _type1(self, plan: Any, points: Any, out: Any) -> None:  # noqa: ANN401
        raise NotImplementedError


class DuccEngine(_PlannedEngine):
    """ducc0's transform (Arras et al., A&A 646, 2021); the fastest on a CPU."""

    name = "ducc0"

    def _plan(self, threads: int) -> Any:  # noqa: ANN401
        return self.library.nufft.plan(
            nu2u=False,
            coord=self.angles,
            grid_shape=self.image_shape,
            epsilon=self.epsilon,
            nthreads=threads,
        )

    def _type2(self, plan: Any, grid: Any, out: Any) -> None:  # noqa: ANN401
        plan.u2nu(forward=True, grid=grid, out=out)

    def _type1(self, plan: Any, points: Any, out: Any) -> None:  # noqa: ANN401
        plan.nu2u(forward=False, points=points, out=out)


class FinufftEngine(_PlannedEngine):
    """finufft's transform (Barnett et al., SIAM J. Sci. Comput. 41, 2019)."""

    name = "finufft"

    def _plan(self, threads: int) -> Any:  # noqa: ANN401
        single = self.dtype != torch.float64
        # a small fine grid costs 3e-6 of accuracy and saves two thirds of the time in single
        # precision
        extra = {"upsampfac": 1.25} if single else {}
        plan = self.library.Plan(
            2, self.image_shape, 1, eps=self.epsilon, isign=-1,
            dtype="complex64" if single else "complex128", nthreads=threads, showwarn=0, **extra,
        )  # fmt: skip
        plan.setpts(*np.ascontiguousarray(self.angles.T))
        return plan

    def _type2(self, plan: Any, grid: Any, out: Any) -> None:  # noqa: ANN401
        plan.execute(grid, out=out)

    def _type1(self, plan: Any, points: Any, out: Any) -> None:  # noqa: ANN401
        plan.execute_adjoint(points, out=out)


_ENGINES: dict[str, type[Any]] = {
    "sigpy": SigpyEngine,
    "ducc0": DuccEngine,
    "finufft": FinufftEngine,
}


def make_engine(
    name: str,
    image_shape: tuple[int, ...],
    trajectory: NDArray[np.float64],
    dtype: torch.dtype,
    **options: float,
) -> Engine:
    """Build the engine ``name`` for one trajectory ``(samples, dim)`` in cycles per FOV.

    :param dtype: ``torch.float32`` or ``torch.float64``, the precision of the images.
    :param options: ``oversampling`` and ``width`` (SigPy), ``epsilon`` (ducc0, finufft).
    """
    engine: Engine = _ENGINES[name](image_shape, trajectory, dtype, **options)
    return engine


@lru_cache
def engine_problem(name: str) -> str | None:
    """Why the engine ``name`` does not work here, ``None`` if a small call gives the right sum."""
    shape, trajectory = (4, 5), np.array([[-2.0, 2.5], [0.3, -1.2], [1.7, 0.0]])
    z = torch.complex(torch.linspace(-1, 1, 20), torch.linspace(0, 2, 20)).reshape(1, *shape)
    y = torch.complex(torch.tensor([[1.0, 0.5, -0.3]]), torch.tensor([[0.2, -1.0, 0.7]]))
    try:
        engine = make_engine(name, shape, trajectory, torch.float32)
        ax, aty = engine.forward(z), engine.adjoint(y)
    except Exception as error:  # a broken binary may raise anything
        return f"{type(error).__name__}: {error}"
    truth = torch.from_numpy(direct_sum(z.numpy(), trajectory))
    if float((ax - truth).abs().max()) > 1e-3 or abs(
        complex(torch.vdot(y.flatten(), ax.flatten()) - torch.vdot(aty.flatten(), z.flatten()))
    ) > 1e-3:  # fmt: skip
        return "a small transform gave a wrong result"
    return None


def choose_engine(backend: str, device: torch.device | str) -> str:
    """Name of the engine for tensors on ``device``.

    :raises ImportError: if the engine asked for does not work here.
    """
    kind = torch.device(device).type
    if kind != "cpu":
        if backend not in ("auto", "sigpy"):
            raise ImportError(f"backend={backend!r}: works on the CPU only; use 'auto' on {kind}")
        try:
            importlib.import_module("cupy")
        except Exception as error:  # a broken binary may raise anything
            raise ImportError(
                f"non-Cartesian MRI on {kind} needs CuPy ({type(error).__name__}: {error}): "
                "pip install sciinv[cuda]"
            ) from error
        return "sigpy"
    for name in _ORDER if backend == "auto" else (backend,):
        problem = engine_problem(name)
        if problem is None:
            return name
    raise ImportError(f"backend={backend!r}: does not work here ({problem}): pip install {name}")


def direct_sum(
    z: NDArray[Any],
    trajectory: NDArray[np.float64],
    phase: Callable[[slice], NDArray[Any]] | None = None,
) -> NDArray[np.complex128]:
    """The transform by its definition in complex128, ``(R, *image_shape) -> (R, samples)``.

    Slow (samples times pixels) and exact: the truth for tests and benchmarks.

    :param phase: function of a slice of samples giving a factor ``(samples, *image_shape)``, for
        instance of off-resonance.
    """
    shape = z.shape[1:]
    flat = np.asarray(z, dtype=np.complex128).reshape(len(z), -1) / math.sqrt(math.prod(shape))
    out = np.empty((len(z), len(trajectory)), dtype=np.complex128)
    step = max(1, 2**22 // flat.shape[1])
    for part in _slices(len(trajectory), step):
        factor = np.ones((part.stop - part.start, *[1] * len(shape)), dtype=np.complex128)
        for axis, n in enumerate(shape):
            angle = np.outer(trajectory[part, axis], (np.arange(n) - n // 2) / n)
            ones = [n if a == axis else 1 for a in range(len(shape))]
            factor = factor * np.exp(-2j * np.pi * angle).reshape(-1, *ones)
        if phase is not None:
            factor = factor * phase(part)
        out[:, part] = flat @ factor.reshape(len(factor), -1).T
    return out


def _slices(total: int, step: int) -> Iterator[slice]:
    return (slice(start, min(start + step, total)) for start in range(0, total, step))
