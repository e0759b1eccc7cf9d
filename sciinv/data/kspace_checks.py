"""Find common mistakes in k-space and coil maps before they spoil a reconstruction.

Wrong centring, axes, signs and orders give images that look like failed reconstructions, without
any error. Each check looks for one mistake and says what was found, what was expected and what to
do. All of it is NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sciinv.data.map_checks import check_maps, low_resolution, noise_energy
from sciinv.errors import DataError
from sciinv.kspace import sampled_block

__all__ = ["Finding", "suspect_axes"]

# An axis is image space if its energy spreads over this many times more samples than that of its
# Fourier transform. k-space of real and simulated scans has 0.03 to 0.4, with as much noise as
# signal 0.7; image space has the reciprocal.
_SPREAD = 2.0
# Largest distance of the peak of k-space from its centre, as a share of the axis. Echoes of real
# scans lie within 2 %; those of k-space that was not shifted lie at 50 %.
_OFF_CENTRE = 0.15
_CORNER = 0.4
# Channels are coils of one slice if a patch of 3 pixels holds one pattern over the channels: the
# energy of the others, in patches over that in the whole image. Coil arrays have 0.01 to 0.2,
# slices and frames 0.4 or more.
_COILS = 0.25
_NO_COILS = 0.4
# fewest low-resolution pixels along an axis from which that can be told
_FEWEST = 12
# strongest channels looked at
_CHANNELS = 12


@dataclass(frozen=True)
class Finding:
    """One suspected mistake; ``str()`` is a sentence for a user.

    :param kind: short name for programs: ``image_space``, ``mask``, ``not_centred``,
        ``off_centre``, ``image_not_centred``, ``coil_axis``, ``maps_shape``, ``maps_conjugated``,
        ``maps_axes``, ``maps_mirrored``, ``kspace_conjugated``, ``maps_not_centred``,
        ``coil_order`` or ``maps``.
    :param field: ``kspace``, ``mask`` or ``maps``.
    :param found: what was measured.
    :param expected: what a sound scan has.
    :param hint: what probably puts it right.
    """

    kind: str
    field: str
    found: str
    expected: str
    hint: str

    def __str__(self) -> str:
        """Return one line in the form of :class:`sciinv.errors.DataError`."""
        return f"{self.field}: found {self.found}, expected {self.expected}; {self.hint}"


def suspect_axes(
    kspace: Any,  # noqa: ANN401
    maps: Any = None,  # noqa: ANN401
    mask: Any = None,  # noqa: ANN401
) -> list[Finding]:
    """List what looks like a mistake in the layout of a Cartesian scan; nothing if it is sound.

    Looks for image-space data (along some or all axes) given as k-space; a mask that belongs to
    another layout; k-space whose centre is not at ``n // 2`` (an fftshift is missing, or missing
    samples of a partial Fourier scan were cut off); images whose halves are exchanged; slices or
    frames on the coil axis, or coils on the slice axis; and, with maps, transposed, mirrored,
    conjugated, shifted or reordered ones, by what they leave unexplained of the low-resolution
    coil images. Checks that need calibration samples are left out where there are too few; later
    checks are left out where an earlier finding makes them void.

    It judges by the brightest scan of a stack; findings are suspicions, not proofs. An object of
    the shape of its own spectrum (a point) or a stack of nearly equal slices cannot be told.

    :param kspace: complex array (or torch tensor) ``(B, coils, H, W)``, ``(B, coils, D, H, W)`` or
        ``(coils, H, W)``; centred, zero where not sampled.
    :param maps: complex ``(coils, *spatial)`` or ``(B, coils, *spatial)``.
    :param mask: sampled positions ``(*spatial)`` or ``(B, *spatial)``; nonzero samples by default.
    :raises DataError: if an array has a form that no check can deal with.
    """
    k = _array(kspace, "kspace")
    if not np.iscomplexobj(k) or k.ndim not in (3, 4, 5) or k.size == 0:
        raise DataError(
            "k-space checks", "kspace", found=f"{k.dtype} {k.shape}",
            expected="complex (B, coils, H, W), (B, coils, D, H, W) or (coils, H, W)",
        )  # fmt: skip
    k = k[None] if k.ndim == 3 else k
    power = np.array([float(np.vdot(scan, scan).real) for scan in k])
    if not np.isfinite(power).all() or not power.any():
        raise DataError(
            "k-space checks", "kspace", found="only zeros" if not power.any() else "NaN or Inf",
            expected="finite samples, some of them not zero",
        )  # fmt: skip
    brightest = int(power.argmax())
    scan = k[brightest]
    findings: list[Finding] = []
    sampled = np.any(scan != 0, axis=0)
    if mask is not None:
        given, problem = _given_mask(_array(mask, "mask"), scan, brightest, len(k))
        if problem is not None:
            findings.append(problem)
        else:
            sampled = sampled & given
            scan = scan * sampled
    if found := _image_space(scan):
        return [*findings, found]
    if found := _centre(scan, sampled):
        return [*findings, found]
    block = sampled_block(sampled)
    findings += _halves_exchanged(scan, block)
    findings += _coil_axis(k, brightest, sampled, block)
    if maps is not None:
        values = _array(maps, "maps")
        if not np.iscomplexobj(values):
            raise DataError(
                "k-space checks", "maps", found=f"{values.dtype}", expected="complex sensitivities"
            )
        findings += [Finding(*f) for f in check_maps(scan, sampled, block, values, brightest)]
    return findings


def _array(values: Any, name: str) -> NDArray[Any]:  # noqa: ANN401
    """Return a NumPy array of an array or a tensor on any device."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().resolve_conj().numpy()
    result = np.asarray(values)
    if result.dtype == object:
        raise DataError("k-space checks", name, found="objects", expected="an array of numbers")
    return result


def _axes(axes: list[int], dims: int) -> str:
    names = ("rows", "columns") if dims == 2 else ("partitions", "rows", "columns")
    return " and ".join(f"{axis} ({names[axis]})" for axis in axes)


def _given_mask(
    mask: NDArray[Any], scan: NDArray[Any], index: int, scans: int
) -> tuple[NDArray[np.bool_], Finding | None]:
    """Bring a mask to one scan's shape; or say that it belongs to another layout."""
    spatial = scan.shape[1:]
    given = mask != 0
    if given.shape == (scans, *spatial):
        given = given[index]
    if given.shape != spatial:
        swapped = sorted(given.shape[-len(spatial) :]) == sorted(spatial)
        if swapped and given.ndim <= len(spatial) + 1:
            return given, Finding(
                "mask", "mask", f"shape {mask.shape}", f"shape {spatial}, that of one coil",
                "its axes are in another order than those of the k-space: transpose one of them",
            )  # fmt: skip
        raise DataError(
            "k-space checks", "mask", found=f"shape {mask.shape}",
            expected=f"{spatial} or {(scans, *spatial)}",
        )  # fmt: skip
    power = (np.abs(scan) ** 2).sum(0)
    share = float(power[~given].sum() / power.sum())
    if share <= 0.5:
        return given, None
    variants = {
        "is not centred: apply fftshift to it": np.fft.ifftshift(given),
        "marks the samples that are missing: invert it": ~given,
    }
    if len(spatial) == 2 and spatial[0] == spatial[1]:
        variants["is transposed: exchange its axes"] = given.T
    best, hint = min((float(power[~m].sum() / power.sum()), text) for text, m in variants.items())
    explained = best < 0.2 * share
    # a retrospective mask may drop most of the energy of fully sampled data (no central block)
    if not explained and np.count_nonzero(power) > 0.99 * power.size:
        return given, None
    return given, Finding(
        "mask", "mask", f"{100 * share:.0f} % of the energy at positions that are not sampled",
        "less than half",
        f"the mask probably {hint}" if explained else "it probably belongs to another scan",
    )  # fmt: skip


def _spread(profile: NDArray[np.float64]) -> float:
    """Effective number of samples that hold the energy, ``(sum p)^2 / sum p^2``."""
    return float(profile.sum() ** 2 / (profile**2).sum())


def _strongest(scan: NDArray[Any]) -> NDArray[Any]:
    """The strongest channels; they are enough to judge the layout."""
    if len(scan) <= _CHANNELS:
        return scan
    power = [float(np.vdot(c, c).real) for c in scan]
    return scan[np.sort(np.argsort(power)[-_CHANNELS:])]


def _image_space(scan: NDArray[Any]) -> Finding | None:
    """k-space is concentrated where its Fourier transform is spread, axis by axis."""
    scan = _strongest(scan)
    dims = scan.ndim - 1
    wrong = []
    for axis in range(dims):
        others = tuple(a for a in range(dims + 1) if a != axis + 1)
        here = (np.abs(scan) ** 2).sum(others)
        there = (np.abs(np.fft.ifft(scan, axis=axis + 1)) ** 2).sum(others)
        if _spread(here) > _SPREAD * _spread(there):
            wrong.append(axis)
    if not wrong:
        return None
    if len(wrong) == dims:
        return Finding(
            "image_space", "kspace", "energy spread like an image's along every axis",
            "most of it near one sample, the centre",
            "these are coil images: transform them with a centred FFT",
        )  # fmt: skip
    return Finding(
        "image_space", "kspace",
        f"energy spread like an image's along axis {_axes(wrong, dims)} only",
        "k-space along every axis",
        "the readout was probably transformed already (hybrid space): transform it back",
    )  # fmt: skip


def _centre(scan: NDArray[Any], sampled: NDArray[np.bool_]) -> Finding | None:
    """The peak of each axis' profile, smoothed over five samples, lies near n // 2."""
    dims = scan.ndim - 1
    corner, off, text = [], [], []
    power = (np.abs(scan) ** 2).sum(0)
    for axis, n in enumerate(scan.shape[1:]):
        others = tuple(a for a in range(dims) if a != axis)
        profile = power.sum(others)
        width = range(-2, 3) if n >= 16 else range(1)
        smooth = np.sum([np.roll(profile, d) for d in width], axis=0)
        lines = profile[np.any(sampled, axis=others)]
        # a peak that hardly rises above the rest says nothing
        if profile.max() < 4 * np.median(lines) and n >= 16:
            continue
        peak = int(smooth.argmax())
        distance = abs((peak - n // 2 + n // 2) % n - n // 2)
        if distance >= _CORNER * n:
            corner.append(axis)
        elif distance > max(_OFF_CENTRE * n, 1):
            off.append(axis)
        else:
            continue
        text.append(f"index {peak} along axis {axis}")
    found = "the most energy at " + ", ".join(text)
    centre = f"it near the centre {tuple(n // 2 for n in scan.shape[1:])}"
    if corner:
        return Finding(
            "not_centred", "kspace", found, centre,
            f"apply fftshift along axis {_axes(corner, dims)}",
        )  # fmt: skip
    if off:
        return Finding(
            "off_centre", "kspace", found, centre,
            "if samples of a partial Fourier scan were cut off, put them back as zeros",
        )  # fmt: skip
    return None


def _halves_exchanged(scan: NDArray[Any], block: tuple[slice, ...]) -> list[Finding]:
    """An image that is cut in two by the border of its field of view and empty in the middle."""
    images = low_resolution(scan, block)
    dims = images.ndim - 1
    rss = np.sqrt((np.abs(images) ** 2).sum(0))
    seen = rss > 0.15 * np.quantile(rss, 0.99)
    wrong = []
    for axis, n in enumerate(seen.shape):
        if n < _FEWEST:
            continue
        profile = seen.mean(tuple(a for a in range(dims) if a != axis))
        edge = max(1, n // 24)
        border = float(np.concatenate([profile[:edge], profile[-edge:]]).mean())
        middle = float(profile[n // 2 - edge : n // 2 + edge].mean())
        if border > 0.5 * profile.max() and middle < 0.2 * profile.max():
            wrong.append(axis)
    if not wrong:
        return []
    return [
        Finding(
            "image_not_centred", "kspace",
            f"an object cut by the border of the image along axis {_axes(wrong, dims)}",
            "it around the middle",
            "the Fourier transform left out a shift of the image: multiply the k-space by "
            "(-1)^index along that axis",
        )
    ]  # fmt: skip


def _coil_axis(
    k: NDArray[Any], brightest: int, sampled: NDArray[np.bool_], block: tuple[slice, ...]
) -> list[Finding]:
    """Coils of one slice share its structure; slices and frames do not, or share everything."""
    scans, coils = k.shape[:2]
    images = low_resolution(k[brightest], block, hann=False)
    if min(images.shape[1:]) < _FEWEST:
        return []
    noise = noise_energy(k[brightest], sampled, images.shape[1:], hann=False)
    over_coils = _variation(images, noise) if coils > 1 else None
    over_scans = None
    if scans >= 3:
        coil = int(np.argmax([float(np.vdot(c, c).real) for c in k[brightest]]))
        stack = low_resolution(k[:, coil], block, hann=False)
        # magnitudes, because the phase of echoes and frames changes smoothly, too
        over_scans = _variation(np.abs(stack), np.full(scans, noise[coil]))
    looks_like_coils = over_scans is not None and over_scans < _COILS
    if coils == 1 and looks_like_coils:
        return [
            Finding(
                "coil_axis", "kspace",
                f"{scans} scans of one coil that differ by a smooth factor only",
                "scans of different slices or times",
                "they are probably the coils of one slice: exchange the first two axes",
            )
        ]  # fmt: skip
    if over_coils is not None and over_coils > _NO_COILS:
        return [
            Finding(
                "coil_axis", "kspace",
                f"{coils} coils that differ in structure, not by smooth factors",
                "coil images that are one image times smooth sensitivities",
                "the first two axes are probably exchanged"
                if looks_like_coils
                else "the coil axis probably holds slices or frames (or the object is much wider "
                "than the field of view)",
            )
        ]  # fmt: skip
    return []


def _variation(channels: NDArray[Any], noise: NDArray[np.float64]) -> float | None:
    """How much channels ``(channels, *spatial)`` differ within patches, over how much in all.

    The share of the energy outside of the dominant pattern over the channels, in patches of three
    pixels over that in the whole image, both less the noise's; ``None`` where there is little of
    either, or mostly noise.
    """
    if len(channels) > _CHANNELS:
        power = (np.abs(channels) ** 2).reshape(len(channels), -1).sum(1)
        chosen = np.sort(np.argsort(power)[-_CHANNELS:])
        channels, noise = channels[chosen], noise[chosen]
    dims = channels.ndim - 1
    outer = channels[:, None] * channels[None].conj()
    for axis in range(2, 2 + dims):
        outer = np.moveaxis(outer, axis, 0)
        outer = np.moveaxis(outer[:-2] + outer[1:-1] + outer[2:], 0, axis)
    matrices = np.moveaxis(outer.reshape(*outer.shape[:2], -1), -1, 0)
    total = np.trace(matrices, axis1=1, axis2=2).real
    bright = total > 0.04 * np.quantile(total, 0.99)
    values = np.linalg.eigvalsh(matrices[bright])
    share = 3**dims * float(noise.sum() / total[bright].mean()) * (1 - 1 / len(channels))
    local = 1 - float(values[:, -1].sum() / values.sum())
    whole = np.linalg.eigvalsh(matrices[bright].sum(0))
    overall = 1 - float(whole[-1] / whole.sum())
    if share > 0.2 or overall - share < 0.02:
        return None
    return max(0.0, local - share) / (overall - share)
