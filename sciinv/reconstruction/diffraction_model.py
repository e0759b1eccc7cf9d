"""Models of diffraction patterns: iterative phasing finds the object, its extent and its scale."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from sciinv.baselines import HIOInfo, hio, object_box, recentre
from sciinv.channels import to_complex
from sciinv.data.scan import DiffractionGeometry, Scan
from sciinv.errors import DataError
from sciinv.metrics import align
from sciinv.operators import FourierPhaseRetrieval
from sciinv.operators.likelihoods import AmplitudeLikelihood
from sciinv.reconstruction.model import Model, middle

# standard deviation of the square root of a Poisson count
_AMPLITUDE_STD = 0.5
_STARTS, _VOLUME_STARTS = 4, 2
# of shrink-wrap: on a real crystal a support that is a little loose left 0.35 of the amplitudes
# unexplained, the customary 0.2 left 0.44
_THRESHOLD = 0.15
# correlation between starts: in simulations below the one the object was wrong, above the other
# right; in between lay a real crystal whose starts agree in its facets and differ in fine texture
_WRONG, _SAME = 0.85, 0.95
# soft edges reach beyond the support of iterative phasing
_MARGIN = 4
# phasing leaves little to find: from higher up, the prior's idea of an object takes over
_START_LEVEL = 0.1


def diffraction_model(
    scan: Scan,
    geometry: DiffractionGeometry,
    index: int,
    seed: int,
    say: Callable[[str, str], None],
    starts: int | None = None,
) -> Model:
    """Build the model of one pattern around the best of a few runs of iterative phasing.

    The object is moved to the middle of the grid, which a pattern of intensities cannot tell, and
    the grid is cut to it: what is outside is known to be empty.
    """
    counts = torch.from_numpy(np.ascontiguousarray(scan.data[index]).astype(np.float32))[None, None]
    valid = None
    if scan.valid is not None:
        valid = torch.from_numpy(np.ascontiguousarray(scan.valid[index]))
    pattern = tuple(geometry.pattern_shape)

    def operator(shape: tuple[int, ...]) -> FourierPhaseRetrieval:
        return FourierPhaseRetrieval(
            shape, channels=2, mode="intensity", pattern_shape=pattern, mask=valid
        )

    whole = operator(tuple(geometry.image_shape))
    generator = torch.Generator().manual_seed(seed)
    starts = starts or (_STARTS if len(pattern) == 2 else _VOLUME_STARTS)
    image, info = hio(
        counts, whole, starts=starts, threshold=_THRESHOLD, generator=generator, return_info=True
    )
    image = recentre(image)
    box = object_box(image, margin=_MARGIN)
    part = image[(slice(None), slice(None), *middle(whole.image_shape, box))].contiguous()
    amplitude = part.square().sum(1).sqrt()
    bright = amplitude[amplitude > 0.2 * amplitude.max()]
    if bright.numel() == 0:
        raise DataError(scan.source, "data", found="a pattern without an object",
                        expected="diffraction of a compact object")  # fmt: skip
    scale = float(torch.quantile(bright, 0.95))
    alike = _agreement(info)
    say(
        "phasing",
        f"HIO, the best of {starts} starts: R-factor {float(info.r_factor[0]):.3f}, the others "
        f"correlate with it by {alike:.2f}; object within {'x'.join(map(str, box))} of "
        f"{'x'.join(map(str, whole.image_shape))} pixels",
    )
    warnings = _doubts(alike)
    for note in info.notes:
        say("phasing", note.partition(": ")[2])
    say("noise", "photon counts: the square root of a count has standard deviation 1/2")
    say("scale", f"{scale:.3g} {scan.units} is 1 for the prior")
    physics = operator(box)
    start = part / scale

    def noise_model(level: float) -> AmplitudeLikelihood:
        return AmplitudeLikelihood(_AMPLITUDE_STD * level, scale=scale**2, counts=True)

    physics.noise_model = noise_model(1.0)
    visible = np.zeros(whole.image_shape, dtype=bool)
    visible[middle(whole.image_shape, box)] = True
    return Model(
        counts, physics, scale, 1.0, _AMPLITUDE_STD, 0.0, pattern, visible,
        start=start, start_level=_START_LEVEL, noise_model=noise_model,
        residuals=info.r_factors.numpy(), warnings=warnings,
    )  # fmt: skip


def _doubts(alike: float) -> tuple[str, ...]:
    """Say what the correlation of the starts means, if it is not the best."""
    starts = f"images of different random starts correlate by {alike:.2f}"
    if alike < _WRONG:
        return (
            f"Phasing is not reproducible: {starts} only. The image may be wrong although it fits; "
            "try other seeds, a smaller image shape (oversampling), or a measurement with less of "
            "it missing.",
        )
    if alike < _SAME:
        return (
            f"Phasing is reproduced in its coarse features only: {starts}. The samples do not show "
            "this uncertainty: they start from one of the images.",
        )
    return ()


def _agreement(info: HIOInfo) -> float:
    """Median correlation of the other starts' images with the best one, ambiguities removed.

    A wrong phasing may fit as well as the right one, but wrong ones differ from each other.
    """
    images = to_complex(info.images[0]).numpy()
    best = int(info.best[0])
    found = []
    for number, image in enumerate(images):
        if number != best:
            other = np.asarray(align(image, images[best]))
            size = np.linalg.norm(other) * np.linalg.norm(images[best])
            found.append(abs(np.vdot(other, images[best])) / max(float(size), 1e-300))
    return float(np.median(found)) if found else 1.0
