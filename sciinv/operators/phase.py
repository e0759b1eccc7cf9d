"""Far-field diffraction without phases: Fourier phase retrieval and coded diffraction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.channels import to_channels
from sciinv.errors import GeometryError
from sciinv.operators.base import NonlinearOperator
from sciinv.operators.phase_checks import (
    check_diversity,
    check_pattern,
    detector_mask,
    margins,
    padded_shape,
    support_mask,
)

__all__ = ["CodedDiffraction", "Diffraction", "FourierPhaseRetrieval", "check_pattern", "unit"]

Mode = Literal["amplitude", "intensity"]


def unit(u: Tensor) -> Tensor:
    """Return ``u / |u|``, and 0 where ``|u|`` is zero or too small to divide by.

    ``torch.sgn`` overflows for subnormal numbers.
    """
    large = u.abs() >= torch.finfo(u.real.dtype).tiny
    safe = torch.where(large, u, torch.ones_like(u))
    return torch.where(large, safe / safe.abs(), torch.zeros_like(u))


class _Modulus(torch.autograd.Function):
    """``|u|`` with the derivative :func:`unit`, finite everywhere."""

    generate_vmap_rule = True

    @staticmethod
    def forward(u: Tensor) -> Tensor:
        return u.abs()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:  # noqa: ANN401
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:  # noqa: ANN401
        return grads[0] * unit(ctx.saved_tensors[0])

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:  # noqa: ANN401
        return (unit(ctx.saved_tensors[0]).conj() * tangents[0]).real


class Diffraction(NonlinearOperator):
    """What the two operators below share; see :class:`CodedDiffraction` for the equations.

    :param masks: diversity masks ``(L, *image_shape)`` or ``None``; the rest as there.
    """

    batch_buffers: ClassVar[tuple[str, ...]] = ("mask", "support")
    mask: Tensor | None
    support: Tensor | None
    diversity_pairs: Tensor | None

    def __init__(
        self,
        image_shape: Sequence[int],
        masks: Tensor | None,
        *,
        channels: int = 2,
        oversampling: float | Sequence[float] = 2.0,
        mode: Mode = "amplitude",
        support: Tensor | None = None,
        mask: Tensor | None = None,
        pattern_shape: Sequence[int] | None = None,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        name = type(self).__name__
        spatial = tuple(int(n) for n in image_shape)
        if channels not in (1, 2):
            raise GeometryError(f"{name}: channels: found {channels}, expected 1 or 2")
        if mode not in ("amplitude", "intensity"):
            raise ValueError(f"{name}: mode: found {mode!r}, expected 'amplitude' or 'intensity'")
        pattern = padded_shape(name, spatial, oversampling, pattern_shape)
        patterns = 1
        if masks is not None:
            check_diversity(name, masks, spatial)
            patterns = masks.shape[0]
        given = next((t for t in (masks, mask, support) if isinstance(t, Tensor)), None)
        if device is None:
            device = given.device if given is not None else "cpu"
        super().__init__(
            spatial,
            channels=channels,
            measurement_shape=(patterns, *pattern),
            noise_model=noise_model,
            device=device,
        )
        self.mode: Mode = mode
        self.pattern_shape = pattern
        dtype = dtype or torch.float32

        def keep(key: str, value: Tensor | None) -> None:
            value = None if value is None else value.to(device=device, dtype=dtype)
            self.register_buffer(key, value)

        keep("support", None if support is None else support_mask(name, support, spatial))
        keep("mask", None if mask is None else detector_mask(name, mask, patterns, pattern))
        pairs = None
        if masks is not None:
            wide = torch.complex128 if masks.dtype == torch.float64 else torch.complex64
            full = masks if masks.is_complex() else masks.to(wide)
            pairs = torch.view_as_real(full.resolve_conj()).contiguous()
        # real pairs: Module.to(torch.float64) would turn a complex buffer into a real one
        keep("diversity_pairs", pairs)
        self.to(dtype)  # also the base's own buffer
        self._axes = tuple(range(-len(spatial), 0))
        self._check_batches()

    def _check_batches(self) -> None:
        if self.mask is not None and self.support is not None:
            sizes = {self.mask.shape[0], self.support.shape[0]} - {1}
            if len(sizes) > 1:
                raise GeometryError(
                    f"{type(self).__name__}: found a batch of {self.mask.shape[0]} masks and of "
                    f"{self.support.shape[0]} supports, expected equal numbers or one"
                )

    # -- parameters ----------------------------------------------------------------------------
    @property
    def patterns(self) -> int:
        """Number of patterns of one scan."""
        return self.measurement_shape[0]

    @property
    def oversampling(self) -> tuple[float, ...]:
        """Size of the pattern over that of the object, per axis."""
        sizes = zip(self.pattern_shape, self.image_shape, strict=True)
        return tuple(large / small for large, small in sizes)

    @property
    def masks(self) -> Tensor | None:
        """The diversity masks, complex ``(L, *image_shape)``; ``None`` without."""
        return None if self.diversity_pairs is None else torch.view_as_complex(self.diversity_pairs)

    @property
    def measurement_mask(self) -> Tensor | None:
        """1 where the detector has a value, ``(B or 1, L or 1, *pattern_shape)``."""
        return self.mask

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Add the noise model's noise where there is a measurement."""
        noisy: Tensor = self.noise_model(x, **kwargs)
        return noisy if self.mask is None else noisy * self.mask.to(noisy.dtype)

    # -- maps ----------------------------------------------------------------------------------
    def field(self, x: Tensor) -> Tensor:
        """Complex field at the detector, ``(B, C, *image_shape) -> (B, L, *pattern_shape)``.

        Linear in ``x``. It is not masked: the field exists behind a beam stop too.
        """
        self.check_image(x)
        if self.support is not None:
            x = x * self.support.to(x.dtype)
        z = torch.complex(x[:, :1], x[:, 1:]) if self.channels == 2 else x
        if self.diversity_pairs is not None:
            z = z * torch.view_as_complex(self.diversity_pairs.to(x.dtype))
        z = torch.nn.functional.pad(z, margins(self.image_shape, self.pattern_shape))
        z = torch.fft.fftn(torch.fft.ifftshift(z, dim=self._axes), dim=self._axes, norm="ortho")
        return torch.fft.fftshift(z, dim=self._axes)

    def field_adjoint(self, z: Tensor) -> Tensor:
        """Exact transpose of :meth:`field`, complex ``(B, L, *pattern_shape)`` to an image.

        :raises GeometryError: for another shape or a real tensor.
        """
        if not z.is_complex() or z.ndim < 2 or tuple(z.shape[1:]) != self.measurement_shape:
            expected = ", ".join(map(str, self.measurement_shape))
            raise GeometryError(
                f"{type(self).__name__}: field: found {z.dtype} {tuple(z.shape)}, "
                f"expected a complex (B, {expected})"
            )
        z = torch.fft.ifftn(torch.fft.ifftshift(z, dim=self._axes), dim=self._axes, norm="ortho")
        z = torch.fft.fftshift(z, dim=self._axes)
        for axis, n, full in zip(self._axes, self.image_shape, self.pattern_shape, strict=True):
            z = z.narrow(axis, full // 2 - n // 2, n)
        if self.diversity_pairs is not None:
            z = torch.view_as_complex(self.diversity_pairs.to(z.real.dtype)).conj() * z
        z = z.sum(1)
        x = to_channels(z) if self.channels == 2 else z.real[:, None].contiguous()
        return x if self.support is None else x * self.support.to(x.dtype)

    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure amplitudes or intensities, zero where the detector has no value."""
        u = self.field(x)
        if self.mode == "amplitude":
            y: Tensor = _Modulus.apply(u)
        else:
            y = u.real.square() + u.imag.square()
        return y if self.mask is None else y * self.mask.to(y.dtype)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """Return ``A'(x)^T v``; both arguments may not be complex."""
        self.check_measurement(v)
        u = self.field(x)
        weight = v if self.mask is None else v * self.mask.to(v.dtype)
        return self.field_adjoint(weight * (unit(u) if self.mode == "amplitude" else 2 * u))

    def amplitude(self, y: Tensor) -> Tensor:
        """Turn a measurement into amplitudes: the root of intensities; negative noise becomes 0."""
        positive = y.clamp_min(0)
        return positive if self.mode == "amplitude" else positive.sqrt()

    # -- words ---------------------------------------------------------------------------------
    def summary(self) -> dict[str, str]:
        """Return shapes, oversampling, what is measured, support, missing pixels and masks."""
        inside = 1.0 if self.support is None else float((self.support != 0).float().mean())
        missing = 0.0 if self.mask is None else 1 - float((self.mask != 0).float().mean())
        return super().summary() | {
            "measures": self.mode,
            "oversampling": " x ".join(f"{value:.3g}" for value in self.oversampling),
            "support": "none" if self.support is None else f"{100 * inside:.1f} % of the image",
            "missing": f"{100 * missing:.2f} % of the pattern",
            "patterns": str(self.patterns),
            "scans": str(self.batch),
        }


class CodedDiffraction(Diffraction):
    r"""Coded diffraction patterns, ``y_l = w |F P m_l s x|`` (or its square) for every mask ``l``.

    The object ``x`` is restricted to the support ``s``, multiplied by a known diversity mask
    ``m_l``, zero-padded to the pattern's grid (``P``, index ``n // 2`` to ``N // 2``) and
    transformed by the centred orthonormal Fourier transform ``F``; the detector keeps the modulus
    (``mode="amplitude"``) or its square (``"intensity"``) where ``w`` is 1 (Candès, Li,
    Soltanolkotabi, Appl. Comput. Harmon. Anal. 39, 2015, eq. 1.4).

    The derivative of the modulus is taken as zero where the field is exactly zero, so
    :meth:`A_vjp` and autograd are finite everywhere:
    ``A'(x)^T v = s m^* P^T F^H (w v u / |u|)`` with the field ``u``, summed over the masks; for
    intensities ``2 w v u`` takes the place of ``w v u / |u|``. Of a real object the real part.

    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param masks: diversity masks, real or complex ``(L, *image_shape)``, shared by all scans.
    :param channels: 2 (complex object, real and imaginary part) or 1 (real object).
    :param oversampling: pattern over object size, one number or one per axis; the pattern's size is
        ``ceil(oversampling * n)``. A unique object needs at least 2 per axis without diversity in
        theory; with several masks 1 is enough.
    :param mode: ``"amplitude"`` or ``"intensity"``.
    :param support: where the object may be, ``image_shape`` or ``(B, *image_shape)``; not zero is
        inside.
    :param mask: 0 where the detector has no value (beam stop, dead pixels), else 1:
        ``pattern_shape``, ``(L, *pattern_shape)`` or ``(B, L, *pattern_shape)``.
    :param pattern_shape: size of the pattern, instead of ``oversampling``.
    :param noise_model: deepinv noise model of the amplitude or intensity. The root of a Poisson
        count has a standard deviation of about 1/2, whatever the count.
    :param device: device of the buffers; that of the given tensors by default.
    :param dtype: real dtype of the buffers; float32 by default.
    :raises GeometryError: shapes contradict each other; oversampling below 1; support or mask empty
        or not finite.

    Example::

        import torch
        from sciinv.operators import CodedDiffraction
        signs = torch.randint(0, 2, (4, 64, 64)) * 2.0 - 1
        physics = CodedDiffraction((64, 64), signs, oversampling=1.0)
        y = physics.A(torch.randn(1, 2, 64, 64))  # (1, 4, 64, 64)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        masks: Tensor,
        *,
        channels: int = 2,
        oversampling: float | Sequence[float] = 2.0,
        mode: Mode = "amplitude",
        support: Tensor | None = None,
        mask: Tensor | None = None,
        pattern_shape: Sequence[int] | None = None,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            image_shape,
            torch.as_tensor(masks),
            channels=channels,
            oversampling=oversampling,
            mode=mode,
            support=support,
            mask=mask,
            pattern_shape=pattern_shape,
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )


class FourierPhaseRetrieval(Diffraction):
    r"""Far-field diffraction of an isolated object, ``y = w |F P s x|`` (or its square).

    See :class:`CodedDiffraction` for the parts; here there is one pattern and no diversity mask
    (Fienup, Appl. Opt. 21, 1982). The pattern does not change if the object is multiplied by a
    global phase, shifted, or replaced by its conjugate mirror image:
    :func:`sciinv.metrics.ambiguity.align` removes that for scoring.

    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param channels: 2 (complex object) or 1 (real object).
    :param oversampling: pattern over object size per axis, 2 by default: the pattern's Fourier
        transform, the autocorrelation, then fits. The object is not unique below ``2^(1/dim)``
        (more unknowns than values).
    :param mode: ``"amplitude"`` or ``"intensity"``.
    :param support: where the object may be, ``image_shape`` or ``(B, *image_shape)``.
    :param mask: 0 where the detector has no value, else 1: ``pattern_shape`` or
        ``(B, 1, *pattern_shape)``.
    :param pattern_shape: size of the pattern, instead of ``oversampling``.
    :param noise_model: deepinv noise model of the amplitude or intensity.
    :param device: device of the buffers; that of the given tensors by default.
    :param dtype: real dtype of the buffers; float32 by default.
    :raises GeometryError: as for :class:`CodedDiffraction`.

    Example::

        import torch
        from sciinv.operators import FourierPhaseRetrieval
        physics = FourierPhaseRetrieval((64, 64), oversampling=2.0)
        y = physics.A(torch.randn(1, 2, 64, 64))  # (1, 1, 128, 128)
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        channels: int = 2,
        oversampling: float | Sequence[float] = 2.0,
        mode: Mode = "amplitude",
        support: Tensor | None = None,
        mask: Tensor | None = None,
        pattern_shape: Sequence[int] | None = None,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            image_shape,
            None,
            channels=channels,
            oversampling=oversampling,
            mode=mode,
            support=support,
            mask=mask,
            pattern_shape=pattern_shape,
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )
