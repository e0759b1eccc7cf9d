"""Cartesian MRI, single- and multi-coil, 2D and 3D."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from deepinv.physics.noise import NoiseModel
from torch import Tensor

from sciinv.capabilities import Capability
from sciinv.channels import to_channels, to_complex
from sciinv.errors import GeometryError
from sciinv.operators.base import LinearOperator

# keyword arguments that deepinv hands to the operator and to its noise model alike
_NOISE_ARGUMENTS = frozenset({"sigma", "gain", "seed", "rng"})


class CartesianMRI(LinearOperator):
    r"""Cartesian MRI, ``y_c = w F s_c x`` for every coil ``c``.

    ``F`` is the centred orthonormal Fourier transform over all image axes (index ``n // 2`` is the
    centre in both spaces), ``s_c`` the coil sensitivities and ``w`` the sampling mask (SENSE:
    Pruessmann et al., Magn. Reson. Med. 42, 1999, eq. 2). Images are ``(B, 2, *image_shape)`` with
    real and imaginary part; measurements are ``(B, 2, *image_shape)`` without maps and
    ``(B, 2, coils, *image_shape)`` with maps, zero where the mask is zero.

    The signs that centring needs are multiplied into image and mask along even axes; only odd
    axes are shifted. The normal operator needs neither: it is a circular convolution (of every
    coil image), which commutes with shifts.

    Without maps the operator has the singular value decomposition ``U = 1``, ``V = F^H`` with
    singular values :attr:`mask` (the names of deepinv's ``DecomposablePhysics``).

    :param image_shape: ``(H, W)`` or ``(D, H, W)``.
    :param mask: sampling mask or non-negative weights (they act in ``A`` and again in the
        adjoint): ``(*image_shape)``, ``(B, *image_shape)`` or deepinv's ``(B, 1 or 2,
        *image_shape)``; everything is sampled by default.
    :param coil_maps: complex ``(coils, *image_shape)`` or ``(B, coils, *image_shape)``.
    :param noise_model: deepinv noise model; ``GaussianNoise(sigma)`` has sigma per real component.
    :param device: device of mask and maps; that of the given ones by default.
    :param dtype: real dtype of mask and maps; that of the given ones by default.
    :raises GeometryError: if the shapes contradict each other or the mask is negative, not finite
        or empty.

    Example::

        import torch
        from sciinv.operators import CartesianMRI
        mask = torch.zeros(64, 48)
        mask[:, ::2] = 1
        physics = CartesianMRI((64, 48), mask)
        y = physics.A(torch.randn(1, 2, 64, 48))
    """

    batch_buffers: ClassVar[tuple[str, ...]] = ("mask", "map_pairs")
    mask: Tensor
    map_pairs: Tensor | None

    def __init__(
        self,
        image_shape: Sequence[int],
        mask: Tensor | None = None,
        coil_maps: Tensor | None = None,
        *,
        noise_model: NoiseModel | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        spatial = tuple(int(n) for n in image_shape)
        given = next((t for t in (coil_maps, mask) if isinstance(t, Tensor)), None)
        if device is None:
            device = given.device if given is not None else "cpu"
        if dtype is None:
            real = given is not None and (given.is_floating_point() or given.is_complex())
            dtype = given.real.dtype if given is not None and real else torch.float32
        pairs = None if coil_maps is None else map_pairs("CartesianMRI", coil_maps, spatial)
        coils = () if pairs is None else (pairs.shape[1],)
        super().__init__(
            spatial,
            channels=2,
            measurement_shape=(2, *coils, *spatial),
            noise_model=noise_model,
            device=device,
            dtype=dtype,
        )
        if mask is None:
            mask = torch.ones(spatial)
        self.register_buffer("mask", _mask(mask, spatial).to(device=device, dtype=dtype))
        self.register_buffer(
            "map_pairs", None if pairs is None else pairs.to(device=device, dtype=dtype)
        )
        # (-1)^(sum of indices) along even axes, with the global sign (-1)^(n/2) in the second one
        sign = torch.ones(spatial, dtype=dtype, device=device)
        total = 1.0
        for axis, n in enumerate(spatial):
            if n % 2 == 0:
                alternating = 1.0 - 2.0 * (torch.arange(n, device=device) % 2).to(dtype)
                sign *= alternating.reshape([-1 if a == axis else 1 for a in range(len(spatial))])
                total *= (-1.0) ** (n // 2)
        self.register_buffer("_sign", sign, persistent=False)
        self._total_sign = total
        self._axes = tuple(range(-len(spatial), 0))
        self._odd_axes = tuple(a for a in self._axes if spatial[a] % 2)
        self._check_batches()
        if pairs is None:
            self.capabilities = self.capabilities | {Capability.SVD, Capability.PROX}

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
    def measurement_mask(self) -> Tensor:
        """1 where the mask is not zero: ``(B or 1, 1, *image_shape)``, with maps one more axis."""
        seen = (self.mask != 0).to(self.mask.dtype)
        return seen if self.map_pairs is None else seen.unsqueeze(2)

    def update_parameters(
        self, mask: Tensor | None = None, coil_maps: Tensor | None = None, **kwargs: object
    ) -> None:
        """Replace mask or maps, as deepinv's generators do; gradients flow through the new ones.

        :raises GeometryError: if the measurement shape would change.
        :raises TypeError: for names that belong neither to this operator nor to a noise model.
        """
        if unknown := sorted(set(kwargs) - _NOISE_ARGUMENTS):
            raise TypeError(
                f"CartesianMRI: unknown parameter(s) {', '.join(unknown)}; "
                "it has mask and coil_maps"
            )
        if mask is None and coil_maps is None:
            return
        old = self.mask, self.map_pairs
        if coil_maps is not None:
            pairs = map_pairs("CartesianMRI", coil_maps, self.image_shape)
            if self.coils != pairs.shape[1]:
                raise GeometryError(
                    f"CartesianMRI: coil_maps: found {pairs.shape[1]} coils, expected "
                    f"{self.coils or 'none'}, because the measurement shape is fixed; "
                    "make a new operator"
                )
            self.map_pairs = pairs.to(self.mask)
        if mask is not None:
            self.mask = _mask(mask, self.image_shape).to(self.mask)
        try:
            self._check_batches()
        except GeometryError:
            self.mask, self.map_pairs = old
            raise

    def _check_batches(self) -> None:
        if self.map_pairs is not None:
            sizes = {self.mask.shape[0], self.map_pairs.shape[0]} - {1}
            if len(sizes) > 1:
                raise GeometryError(
                    f"CartesianMRI: found a batch of {self.mask.shape[0]} masks and of "
                    f"{self.map_pairs.shape[0]} sets of coil maps, expected equal numbers or one"
                )

    # -- Fourier -------------------------------------------------------------------------------
    def _fourier(self, z: Tensor) -> Tensor:
        """Transform along the image axes, centred but for the signs of the even axes."""
        z = torch.fft.ifftshift(z, dim=self._odd_axes) if self._odd_axes else z
        k = torch.fft.fftn(z, dim=self._axes, norm="ortho")
        return torch.fft.fftshift(k, dim=self._odd_axes) if self._odd_axes else k

    def _inverse(self, k: Tensor) -> Tensor:
        """Inverse and adjoint of :meth:`_fourier`."""
        k = torch.fft.ifftshift(k, dim=self._odd_axes) if self._odd_axes else k
        z = torch.fft.ifftn(k, dim=self._axes, norm="ortho")
        return torch.fft.fftshift(z, dim=self._odd_axes) if self._odd_axes else z

    def _signed_weight(self, weight: Tensor | None, dtype: torch.dtype) -> Tensor:
        sign = self._total_sign * self._sign.to(dtype)
        return sign if weight is None else weight.to(dtype) * sign

    def V_adjoint(self, x: Tensor) -> Tensor:
        """Centred orthonormal Fourier transform, ``(B, 2, *image_shape)`` to the same."""
        k = self._fourier(to_complex(x * self._sign.to(x.dtype)))
        return to_channels(k) * self._signed_weight(None, x.dtype)

    def V(self, x: Tensor) -> Tensor:
        """Inverse (and adjoint) of :meth:`V_adjoint`."""
        z = to_complex(x * self._signed_weight(None, x.dtype))
        return to_channels(self._inverse(z)) * self._sign.to(x.dtype)

    def U(self, x: Tensor) -> Tensor:
        """Left singular vectors: the identity."""
        return x

    def U_adjoint(self, x: Tensor) -> Tensor:
        """Adjoint of the left singular vectors: the identity."""
        return x

    # -- maps ----------------------------------------------------------------------------------
    def A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Measure ``(B, 2, *image_shape)``; deepinv's ``mask=`` and ``coil_maps=`` are stored."""
        self.update_parameters(**kwargs)
        self.check_image(x)
        weight = self._signed_weight(self.mask, x.dtype)
        z = to_complex(x * self._sign.to(x.dtype))
        if self.map_pairs is None:
            return to_channels(self._fourier(z)) * weight
        return to_channels(self._fourier(self._maps(x.dtype) * z[:, None])) * weight[:, :, None]

    def A_adjoint(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Apply the exact transpose; deepinv's ``mask=`` and ``coil_maps=`` are stored."""
        self.update_parameters(**kwargs)
        self.check_measurement(y)
        weight = self._signed_weight(self.mask, y.dtype)
        if self.map_pairs is None:
            z = self._inverse(to_complex(y * weight))
        else:
            z = self._inverse(to_complex(y * weight[:, :, None]))
            z = (self._maps(y.dtype).conj() * z).sum(1)
        return to_channels(z) * self._sign.to(y.dtype)

    def A_adjoint_A(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """``A^T A x`` with one Fourier pair, no signs and no shifts but that of the mask."""
        self.update_parameters(**kwargs)
        self.check_image(x)
        # F^H w^2 F is a circular convolution: it commutes with the shifts that centre F
        weight = torch.fft.ifftshift(self.mask.to(x.dtype).square(), dim=self._axes)
        z = to_complex(x)[:, None]
        maps = None if self.map_pairs is None else self._maps(x.dtype)
        z = z if maps is None else maps * z
        k = torch.fft.fftn(z, dim=self._axes, norm="ortho")
        k = torch.view_as_complex(torch.view_as_real(k) * weight[..., None])
        z = torch.fft.ifftn(k, dim=self._axes, norm="ortho")
        return to_channels(z[:, 0] if maps is None else (maps.conj() * z).sum(1))

    def _maps(self, dtype: torch.dtype) -> Tensor:
        if self.map_pairs is None:
            raise GeometryError("CartesianMRI: this operator has no coil maps")
        return torch.view_as_complex(self.map_pairs.to(dtype))

    def noise(self, x: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Add the noise model's noise where there is a measurement."""
        kwargs = {k: v for k, v in kwargs.items() if k not in ("mask", "coil_maps")}
        noisy: Tensor = self.noise_model(x, **kwargs)
        return noisy * self.measurement_mask.to(noisy.dtype)

    # -- closed forms --------------------------------------------------------------------------
    def prox_l2(
        self,
        z: Tensor | float | None,
        y: Tensor,
        gamma: Tensor | float,
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor:
        """Minimise ``gamma/2 |A x - y|^2 + 1/2 |x - z|^2``; in closed form without coil maps.

        With maps it is deepinv's conjugate gradient, which takes the further arguments.
        """
        if self.map_pairs is not None:
            result: Tensor = super().prox_l2(z, y, gamma, **kwargs)
            return result
        if isinstance(gamma, Tensor):
            gamma = gamma.to(y).reshape(-1, *[1] * (y.ndim - 1))
        mask = self.mask.to(y.dtype)
        k = gamma * mask * y
        if isinstance(z, Tensor):
            k = k + self.V_adjoint(z)
        elif z:
            k = k + self.V_adjoint(torch.full_like(y, float(z)))
        return self.V(k / (1 + gamma * mask.square()))

    def A_dagger(self, y: Tensor, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """Least-norm least-squares solution; in closed form without coil maps, else by CG."""
        if self.map_pairs is not None:
            result: Tensor = super().A_dagger(y, **kwargs)
            return result
        mask = self.mask.to(y.dtype)
        return self.V(torch.where(mask > 0, y / torch.where(mask > 0, mask, 1.0), 0.0))

    # -- words ---------------------------------------------------------------------------------
    def summary(self) -> dict[str, str]:
        """Return shapes, coils, sampled share, acceleration and noise."""
        sampled = int((self.mask != 0).flatten(1).sum(1).max())
        total = math.prod(self.image_shape)
        return super().summary() | {
            "coils": "1 (no maps)" if self.coils is None else str(self.coils),
            "sampled": f"{100 * sampled / total:.1f} % ({sampled} of {total})",
            "acceleration": f"{total / sampled:.2f}",
            "scans": str(self.batch),
        }


def _mask(mask: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Bring a mask to ``(B or 1, 1, *spatial)`` and refuse senseless ones."""
    mask = torch.as_tensor(mask)
    shape = tuple(mask.shape)
    dims = len(spatial)
    if shape[mask.ndim - dims :] != spatial or mask.ndim > dims + 2 or mask.is_complex():
        raise GeometryError(
            f"CartesianMRI: mask: found {mask.dtype} {shape}, expected a real or boolean "
            f"{spatial}, (B, {', '.join(map(str, spatial))}) or "
            f"(B, 1 or 2, {', '.join(map(str, spatial))})"
        )
    if mask.ndim == dims + 2:
        if shape[1] not in (1, 2) or not torch.equal(mask[:, :1], mask[:, -1:]):
            raise GeometryError(
                f"CartesianMRI: mask: found {shape} with axis 1 of length {shape[1]}, expected 1, "
                "or 2 with the same mask for real and imaginary part"
            )
        mask = mask[:, :1]
    else:
        mask = mask.reshape(-1, 1, *spatial)
    if not bool(torch.isfinite(mask).all()) or bool((mask < 0).any()):
        raise GeometryError("CartesianMRI: mask: found negative or non-finite weights")
    if not bool((mask != 0).flatten(1).any(1).all()):
        raise GeometryError("CartesianMRI: mask: found a scan without any sample")
    return mask


def map_pairs(name: str, maps: Tensor, spatial: tuple[int, ...]) -> Tensor:
    """Bring complex maps to real pairs ``(B or 1, coils, *spatial, 2)``.

    Real pairs, because ``Module.to(torch.float64)`` would turn a complex buffer into a real one;
    the pair last, because that view as complex numbers is free.
    """
    maps = torch.as_tensor(maps)
    dims = len(spatial)
    shape = tuple(maps.shape)
    if not maps.is_complex() or maps.ndim not in (dims + 1, dims + 2) or shape[-dims:] != spatial:
        raise GeometryError(
            f"{name}: coil_maps: found {maps.dtype} {shape}, expected a complex "
            f"(coils, {', '.join(map(str, spatial))}) or (B, coils, {', '.join(map(str, spatial))})"
        )
    pairs = torch.view_as_real(maps.resolve_conj())
    return (pairs if maps.ndim == dims + 2 else pairs[None]).contiguous()
