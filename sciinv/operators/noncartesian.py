"""Non-Cartesian MRI: radial, spiral and any other trajectory, 2D and 3D, with or without coils."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.errors import GeometryError
from sciinv.operators.autograd import linear_map
from sciinv.operators.base import LinearOperator
from sciinv.operators.mri import map_pairs
from sciinv.operators.noncartesian_scan import (
    ScanPlan,
    checked_field,
    checked_per_sample,
    checked_times,
)
from sciinv.operators.nufft import BACKENDS, Backend, choose_engine
from sciinv.operators.segmentation import Segmentation
from sciinv.operators.toeplitz import apply_toeplitz
from sciinv.operators.trajectories import check_trajectory, density_compensation

# keyword arguments that deepinv hands to the operator and to its noise model alike
_NOISE_ARGUMENTS = frozenset({"sigma", "gain", "seed", "rng"})


class NonCartesianMRI(LinearOperator):
    r"""MRI along any trajectory, ``y_cj = w_j F_j s_c x`` for every coil ``c`` and sample ``j``.

    :math:`(F x)_j = N^{-1/2} \sum_n x_n \exp(-2\pi i \sum_a k_{ja} (n_a - \lfloor N_a/2 \rfloor)
    / N_a)` with ``N`` pixels (Pruessmann et al., Magn. Reson. Med. 46, 2001), times
    :math:`\exp(-2\pi i f_n t_j)` with a field map ``f`` in Hz and readout times ``t_j`` in s.
    On the Cartesian grid it is :class:`~sciinv.operators.CartesianMRI`.

    Images are ``(B, 2, *image_shape)`` with real and imaginary part; measurements ``(B, 2,
    samples)`` without maps, ``(B, 2, coils, samples)`` with maps; ``samples`` are the leading axes
    of the trajectory, flattened in C order.

    :meth:`A_adjoint_A` is a convolution by Fourier transforms (Toeplitz embedding) that costs about
    a third of ``A`` and ``A_adjoint``, with a kernel in double precision: it is more exact than
    these. With a field map it is the two in sequence.

    The transform is done by ``backend``, on the CPU in the threads of ``torch.get_num_threads()``:

    - ``"sigpy"``: SigPy's gridding, always there, CPU and CUDA (with CuPy); relative error 7e-6
      with the default ``oversampling`` and ``width``, 2e-7 with ``width=8``.
    - ``"ducc0"``, ``"finufft"``: optional packages, CPU only, 3 to 10 times faster; errors 4e-6 and
      2e-5 in float32, 1e-12 in float64.
    - ``"auto"``: ducc0, finufft or SigPy, the first that works.

    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param trajectory: ``(..., dim)`` in cycles per field of view within ``[-N/2, N/2]``, ordered
        like the image axes; see :func:`~sciinv.operators.trajectories.trajectory_from`.
    :param coil_maps: complex ``(coils, *image_shape)`` or ``(B, coils, *image_shape)``.
    :param weights: ``w``, non-negative weights of the samples, shape of the trajectory without its
        last axis; they act in ``A`` and again in the adjoint, as the mask of
        :class:`~sciinv.operators.CartesianMRI` does, and zero means not measured. One by default.
    :param density: areas of k-space, shape of the trajectory without its last axis, used by
        :meth:`A_dagger` only; by default from Pipe and Menon's iteration when first needed.
    :param field_map: off-resonance in Hz, ``image_shape`` or ``(B, *image_shape)``.
    :param readout_times: time of every sample in s, broadcast to the trajectory without its last
        axis; the phase of the image is that at time zero.
    :param segments: number of time segments; by default as many as keep the error of every phase
        factor below 1e-4.
    :param toeplitz: ``False``: :meth:`A_adjoint_A` is ``A`` then ``A_adjoint``.
    :param oversampling: of SigPy's grid.
    :param width: of SigPy's kernel in points of that grid.
    :raises GeometryError: naming what is wrong with trajectory, maps, density, field or times.
    :raises ImportError: if the backend asked for does not work.

    >>> from sciinv.operators.trajectories import radial_trajectory
    >>> physics = NonCartesianMRI((32, 32), radial_trajectory((32, 32), spokes=50))
    >>> y = physics.A(torch.ones(1, 2, 32, 32))
    >>> tuple(y.shape), round(float(physics.A_dagger(y)[0, 0, 16, 16]), 1)
    ((1, 2, 3200), 1.0)
    """

    batch_buffers: ClassVar[tuple[str, ...]] = ("map_pairs", "field_map")
    map_pairs: Tensor | None
    field_map: Tensor | None

    def __init__(
        self,
        image_shape: Sequence[int],
        trajectory: Tensor | Any,  # noqa: ANN401 (anything NumPy makes an array of)
        coil_maps: Tensor | None = None,
        *,
        weights: Tensor | Any | None = None,  # noqa: ANN401
        density: Tensor | Any | None = None,  # noqa: ANN401
        field_map: Tensor | Any | None = None,  # noqa: ANN401
        readout_times: Tensor | Any | None = None,  # noqa: ANN401
        segments: int | None = None,
        toeplitz: bool = True,
        backend: Backend = "auto",
        oversampling: float = 2.0,
        width: float = 6,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        spatial = tuple(int(n) for n in image_shape)
        points = check_trajectory(trajectory, spatial)
        leading = points.shape[:-1]
        pairs = None if coil_maps is None else map_pairs("NonCartesianMRI", coil_maps, spatial)
        if device is None:
            device = coil_maps.device if isinstance(coil_maps, Tensor) else "cpu"
        if dtype is None:
            dtype = torch.float32 if pairs is None else pairs.dtype
        if backend not in BACKENDS:
            raise GeometryError(
                f"backend: found {backend!r}, expected one of {', '.join(BACKENDS)}"
            )
        if not (oversampling >= 1.25 and 2 <= width <= 16):
            raise GeometryError(
                f"oversampling, width: found {oversampling}, {width}, "
                "expected at least 1.25 and 2 to 16"
            )
        choose_engine(backend, device)  # refuse at once what does not work
        field = checked_field(field_map, spatial)
        times = checked_times(readout_times, leading)
        if (field is None) != (times is None):
            given, missing = ("field_map", "readout_times")[:: 1 if times is None else -1]
            raise GeometryError(f"NonCartesianMRI: found {given} without {missing}, expected both")
        segmentation = None
        if field is not None and times is not None:
            if segments is not None and segments < 1:
                raise GeometryError(f"segments: found {segments}, expected at least 1")
            segmentation = Segmentation.create(field, times, segments)
        samples = math.prod(leading)
        coils = () if pairs is None else (pairs.shape[1],)
        super().__init__(
            spatial,
            channels=2,
            measurement_shape=(2, *coils, samples),
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )
        self.trajectory_shape = points.shape
        self.toeplitz = bool(toeplitz) and field is None
        self._scan = ScanPlan(
            spatial,
            points.reshape(samples, -1),
            checked_per_sample("density", density, leading),
            segmentation,
            checked_per_sample("weights", weights, leading),
            {"backend": backend, "oversampling": float(oversampling), "width": float(width)},
        )
        self.register_buffer(
            "map_pairs", None if pairs is None else pairs.to(device=device, dtype=dtype)
        )
        self.register_buffer(
            "field_map",
            None if field is None else torch.from_numpy(field).to(device=device, dtype=dtype),
        )
        self._check_batches()

    # -- parameters ----------------------------------------------------------------------------
    @property
    def coils(self) -> int | None:
        """Number of receive coils, ``None`` without maps."""
        return None if self.map_pairs is None else int(self.map_pairs.shape[1])

    @property
    def coil_maps(self) -> Tensor | None:
        """The maps as complex ``(B or 1, coils, *image_shape)``, a view of the real buffer."""
        return None if self.map_pairs is None else torch.view_as_complex(self.map_pairs)

    @property
    def trajectory(self) -> Tensor:
        """The trajectory as given, in cycles per FOV, float64 on the CPU."""
        return torch.from_numpy(self._scan.trajectory.reshape(self.trajectory_shape).copy())

    @property
    def density(self) -> Tensor:
        """Weights of :meth:`A_dagger`, ``(samples,)``, float64 on the CPU; made when needed."""
        scan = self._scan
        if scan.density is None:
            scan.density = density_compensation(scan.trajectory, self.image_shape)
        return torch.from_numpy(scan.density)

    @property
    def weights(self) -> Tensor:
        """Weights of the samples, flattened, float64 on the CPU."""
        found = self._scan.weights
        count = len(self._scan.trajectory)
        return torch.ones(count, dtype=torch.float64) if found is None else torch.from_numpy(found)

    @property
    def measurement_mask(self) -> Tensor | None:
        """1 where the weights are not zero, ``(1, 1, [1,] samples)``; ``None``: everywhere."""
        found = self._scan.weights
        if found is None or found.all():
            return None
        holder = self._device_holder
        mask = torch.from_numpy(found != 0).to(holder)
        return mask.reshape(*[1] * len(self.measurement_shape), -1)

    @property
    def segments(self) -> int:
        """Number of time segments, 1 without a field map."""
        found = self._scan.segmentation
        return 1 if found is None else len(found.times)

    @property
    def backend(self) -> str:
        """Name of the engine on the operator's own device."""
        return choose_engine(self._scan.options["backend"], self._device_holder.device)

    def update_parameters(self, coil_maps: Tensor | None = None, **kwargs: object) -> None:
        """Replace the maps, as deepinv's generators do; gradients flow through the new ones.

        :raises GeometryError: if the measurement shape would change.
        :raises TypeError: for names that belong neither to this operator nor to a noise model.
        """
        if unknown := sorted(set(kwargs) - _NOISE_ARGUMENTS):
            raise TypeError(
                f"NonCartesianMRI: unknown parameter(s) {', '.join(unknown)}; it has coil_maps"
            )
        if coil_maps is None:
            return
        old, pairs = self.map_pairs, map_pairs("NonCartesianMRI", coil_maps, self.image_shape)
        if old is None or old.shape[1] != pairs.shape[1]:
            raise GeometryError(
                f"NonCartesianMRI: coil_maps: found {pairs.shape[1]} coils, expected "
                f"{self.coils or 'none'}, because the measurement shape is fixed; "
                "make a new operator"
            )
        self.map_pairs = pairs.to(old)
        try:
            self._check_batches()
        except GeometryError:
            self.map_pairs = old
            raise

    def _check_batches(self) -> None:
        sizes = [b.shape[0] for b in (self.map_pairs, self.field_map) if b is not None]
        if len({*sizes} - {1}) > 1:
            raise GeometryError(
                f"NonCartesianMRI: found a batch of {sizes[0]} sets of coil maps and of {sizes[1]} "
                "field maps, expected equal numbers or one"
            )

    # -- maps ----------------------------------------------------------------------------------
    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure ``(B, 2, *image_shape)``, without noise; deepinv's ``coil_maps=`` is stored."""
        self.update_parameters(**kwargs)
        self.check_image(x)
        z = self._coil_images(x)
        if (found := self._scan.segmentation) is None:
            k = self._transform(z)
        else:
            weights = self._weights(found, z)
            k = weights[0] * self._transform(z * self._phase(found.times[0], z))
            for time, weight in zip(found.times[1:], weights[1:], strict=True):
                k = k + weight * self._transform(z * self._phase(time, z))
        k = self._weighted(k)
        return to_channels(k if self.map_pairs is not None else k[:, 0]).to(x.dtype)

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Apply the exact transpose: gridding without density; ``coil_maps=`` is stored."""
        self.update_parameters(**kwargs)
        self.check_measurement(y)
        k = to_complex(y.to(_working_dtype(y)))
        k = self._weighted(k if self.map_pairs is not None else k[:, None])
        if (found := self._scan.segmentation) is None:
            z = self._back(k)
        else:
            weights = self._weights(found, k).conj()
            z = self._phase(found.times[0], k).conj() * self._back(weights[0] * k)
            for time, weight in zip(found.times[1:], weights[1:], strict=True):
                z = z + self._phase(time, k).conj() * self._back(weight * k)
        return self._combine(z).to(y.dtype)

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``A^T A x``, by Toeplitz embedding unless there is a field map."""
        self.update_parameters(**kwargs)
        self.check_image(x)
        if not self.toeplitz:
            return self.A_adjoint(self.A(x))
        z = self._coil_images(x)
        flat = linear_map(z.flatten(0, 1), self._normal, self._normal)
        return self._combine(flat.reshape(z.shape)).to(x.dtype)

    def A_dagger(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Gridding with density compensation, a start image; differentiable.

        ``sum_c conj(s_c) F^H D y_c / sum_c |s_c|^2``, zero where no coil sees anything. It is
        **not** a pseudo-inverse; methods that need A^+ should solve with CG on ``normal``.
        """
        self.update_parameters(**kwargs)
        self.check_measurement(y)
        density = self.density
        if self._scan.weights is not None:
            # the data carry a weight, and the adjoint puts another one
            square = self.weights.square()
            density = torch.where(square > 0, density / torch.where(square > 0, square, 1.0), 0.0)
        image = self.A_adjoint(y * density.to(y))
        if self.map_pairs is None:
            return image
        power = self.map_pairs.to(image.dtype).square().sum((1, -1))[:, None]
        seen = power > 1e-6 * power.amax()
        return torch.where(seen, image / torch.where(seen, power, 1.0), 0.0)

    def _coil_images(self, x: Tensor) -> Tensor:
        """``(B, 2, *image_shape)`` to complex ``(B, coils or 1, *image_shape)``."""
        z = to_complex(x.to(_working_dtype(x)))[:, None]
        return z if self.map_pairs is None else self._maps(x) * z

    def _combine(self, z: Tensor) -> Tensor:
        """Adjoint of :meth:`_coil_images`."""
        return to_channels(z[:, 0] if self.map_pairs is None else (self._maps(z).conj() * z).sum(1))

    def _maps(self, like: Tensor) -> Tensor:
        if self.map_pairs is None:
            raise GeometryError("NonCartesianMRI: this operator has no coil maps")
        return torch.view_as_complex(self.map_pairs.to(_working_dtype(like)))

    def _weighted(self, k: Tensor) -> Tensor:
        return k if self._scan.weights is None else k * self.weights.to(k.real)

    def _transform(self, z: Tensor) -> Tensor:
        k = linear_map(z.flatten(0, 1), self._forward, self._adjoint)
        return k.reshape(*z.shape[:2], -1)

    def _back(self, k: Tensor) -> Tensor:
        z = linear_map(k.flatten(0, 1), self._adjoint, self._forward)
        return z.reshape(*k.shape[:2], *self.image_shape)

    def _forward(self, z: Tensor) -> Tensor:
        return self._scan.engine(z).forward(z)

    def _adjoint(self, k: Tensor) -> Tensor:
        return self._scan.engine(k).adjoint(k)

    def _normal(self, z: Tensor) -> Tensor:
        return apply_toeplitz(z, self._scan.kernel(z))

    # -- off-resonance -------------------------------------------------------------------------
    def _phase(self, time: float, like: Tensor) -> Tensor:
        """``exp(-2 pi i f time)``, ``(B or 1, 1, *image_shape)``."""
        if self.field_map is None:
            raise GeometryError("NonCartesianMRI: this operator has no field map")
        # many turns of phase keep their digits in double precision only
        angle = self.field_map.double() * (-2 * math.pi * float(time))
        return torch.polar(torch.ones_like(angle), angle).to(like.dtype)[:, None]

    @staticmethod
    def _weights(found: Segmentation, like: Tensor) -> Tensor:
        return torch.from_numpy(found.weights).to(dtype=like.dtype, device=like.device)

    # -- words ---------------------------------------------------------------------------------
    def summary(self) -> dict[str, str]:
        """Return shapes, coils, trajectory, engine and off-resonance, field by field."""
        scan = self._scan
        extent = np.abs(scan.trajectory).max(0)
        fields = super().summary() | {
            "coils": "1 (no maps)" if self.coils is None else str(self.coils),
            "trajectory": f"{' x '.join(map(str, self.trajectory_shape[:-1]))} samples, "
            f"|k| up to {' x '.join(f'{e:.4g}' for e in extent)} cycles/FOV",
            "samples per pixel": f"{len(scan.trajectory) / math.prod(self.image_shape):.2f}",
            "engine": self.backend,
            "normal": "Toeplitz" if self.toeplitz else "adjoint of forward",
            "scans": str(self.batch),
        }
        if (found := scan.segmentation) is not None:
            fields["off-resonance"] = (
                f"{len(found.times)} segments over {1e3 * np.ptp(found.times):.4g} ms, "
                f"phase error {found.error:.1e}"
            )
        return fields

    def extra_repr(self) -> str:
        """Show shapes and backend in ``repr``."""
        return f"{super().extra_repr()}, backend={self.backend!r}"


def _working_dtype(value: Tensor) -> torch.dtype:
    # half precision is computed in float32: complex transforms have nothing smaller
    return torch.float64 if value.dtype in (torch.float64, torch.complex128) else torch.float32
