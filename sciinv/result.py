"""``Result``: posterior samples in physical units, their statistics, and how they came about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sciinv.errors import DataError

__all__ = ["PICTURES", "Result", "Status", "StdCalibration", "load_result"]

# of the measurement model, for the report
PICTURES = ("coil_maps", "rotation_axis")


class Status(StrEnum):
    """How a run ended; ``text`` says what to do about it."""

    DONE = "done"
    MISFIT = "misfit"
    STOPPED = "stopped"
    FAILED = "failed"

    @property
    def text(self) -> str:
        """What the status means and what to do, for a user."""
        return _STATUS_TEXT[self]

    @classmethod
    def of_fit(cls, chi_squared: float, tolerance: float = 0.0) -> Status:
        """Judge a fit: ``MISFIT`` beyond [0.5, 1.5] and five tolerances, else ``DONE``.

        A sample of the right posterior has chi-squared 1 with standard deviation
        ``sqrt(2 / m)`` for m real data values. The wide band is for the noise level, which is
        estimated: 0.5 to 1.5 is a noise standard deviation wrong by a fifth to a third.
        """
        if not np.isfinite(chi_squared):
            return cls.FAILED
        return cls.MISFIT if abs(chi_squared - 1) > max(0.5, 5 * tolerance) else cls.DONE


_STATUS_TEXT = {
    Status.DONE: "The samples fit the data to the noise; nothing to do.",
    Status.MISFIT: (
        "The samples do not reproduce the data to the noise: do not trust the image yet. A value "
        "far above 1 means a noise level set too low or a wrong model (coil maps, rotation axis, "
        "angles, motion, saturated samples); far below 1 means a noise level set too high. Look "
        "for structure in the residual, then set the noise level or correct the geometry."
    ),
    Status.STOPPED: (
        "The run was interrupted: there are fewer samples than asked for, so the standard "
        "deviation is coarse. The same command with --resume goes on to the full number."
    ),
    Status.FAILED: (
        "The solver gave up: do not use these images. Read the warnings; more steps, a larger "
        "noise level or another solver usually help."
    ),
}


@dataclass(frozen=True)
class StdCalibration:
    """How a standard deviation was checked on measurements that its samples had not seen.

    :param factor: what the spread of the samples was multiplied by: ``measured``, but at least 1,
        for few held-out data are no reason to promise more.
    :param measured: root of the squared error of the predictions over what the samples expected;
        ``None`` if it was not measured.
    :param standard_error: of ``measured``.
    :param held_out: which data were held out, for example ``"6 of 16 lines of k-space"``.
    :param values: number of their real values.
    :param reason: why nothing was measured, a part of a sentence; empty if it was.
    """

    factor: float = 1.0
    measured: float | None = None
    standard_error: float | None = None
    held_out: str = ""
    values: int = 0
    reason: str = ""

    @property
    def text(self) -> str:
        """What was done, for a user."""
        if self.measured is None or self.standard_error is None:
            return (
                f"The standard deviation is not calibrated ({self.reason}): it is that of the "
                "samples, which is often too small on real scans."
            )
        found = (
            f"Held-out data ({self.held_out}, {self.values} values) were missed by "
            f"{self.measured:.2f} \N{PLUS-MINUS SIGN} {self.standard_error:.2f} times the spread "
            "of samples of the rest"
        )
        if self.factor == 1:
            return f"{found}: the standard deviation is that of the samples."
        return f"{found}: the standard deviation is that of the samples times {self.factor:.2f}."


@dataclass(frozen=True, eq=False)
class Result:
    """A reconstruction with its uncertainty. Arrays are NumPy; values are in ``units``.

    :param samples: posterior samples ``(S, slices, *image_shape)``, float32 (CT) or complex64
        (MRI, diffraction).
    :param baseline: classical reconstruction ``(slices, *image_shape)`` of the same kind.
    :param baseline_name: how the baseline was made, for example ``"FBP"``.
    :param estimate: the deterministic point estimate that the samples start from, of the same
        shape and kind; ``None`` where sampling started from noise.
    :param visible: bool ``(slices, *image_shape)``; False where the data cannot see the pixel, so
        that only the prior speaks there. All statistics are set to 0 at these pixels.
    :param kind: ``"mri"``, ``"ct"`` or ``"diffraction"``.
    :param units: unit of the values, for example ``"1/mm"`` or ``"a.u."``.
    :param affine: 4 x 4 voxel (row, column, slice) index to RAS mm.
    :param name: of the scan: a neutral one, or the user's; never that of its file.
    :param status: how the run ended.
    :param chi_squared: mean over the samples of ``||(y - A x) / sigma||^2 / m``; 1 if the samples
        fit to the noise.
    :param chi_squared_tolerance: its expected standard deviation, ``sqrt(2 / m)`` for m real data
        values.
    :param residual: normalised data residual ``|y - A x| / sigma`` of the posterior mean or of one
        sample, for display: float32, 2D ``(ky, kx)`` or ``(angle, detector)``, or 3D with the
        slice first. NaN (or exactly 0) where nothing was measured.
    :param null_space: part of :attr:`complex_mean` that the measurement does not fix, so that it
        comes from the prior, of the shape and kind of ``baseline`` (see
        :mod:`sciinv.reconstruction.null_space`); 0 where not visible, ``None`` where undefined.
    :param pictures: of the measurement model, for the report, name -> float32 ``(count, rows,
        columns)``: ``coil_maps`` (moduli, 0 where cropped), ``rotation_axis`` (back-projections
        with the axis moved by -1, 0 and 1 detector pixels).
    :param reference: fully sampled image ``(slices, *image_shape)``, real, if there is one.
    :param oriented: False if only the spacing of ``affine`` is known, not the directions: figures
        then carry no letters.
    :param std_calibration: what :attr:`std` and :meth:`interval` were widened by, and why.
    :param stats: numbers about the run: ``nfe``, ``steps``, ``seconds``, ``peak_memory`` (bytes),
        ``timings`` (phase -> seconds).
    :param provenance: ``seed``, ``solver``, ``prior``, ``operator``, ``versions``, ``command``,
        ``settings`` (name -> ``{"value": ..., "origin": ...}``), ``citations`` (BibTeX entries).
    :param notes: what was decided or assumed, one sentence each.
    :param warnings: what the user should look at, one sentence each.
    :raises ValueError: if shapes or kinds contradict each other; all problems are listed.
    """

    samples: NDArray[Any]
    baseline: NDArray[Any]
    baseline_name: str
    visible: NDArray[np.bool_]
    kind: Literal["mri", "ct", "diffraction"]
    units: str
    affine: NDArray[np.float64]
    name: str
    status: Status
    chi_squared: float
    chi_squared_tolerance: float
    estimate: NDArray[Any] | None = None
    residual: NDArray[np.float32] | None = None
    null_space: NDArray[Any] | None = None
    pictures: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    reference: NDArray[np.float32] | None = None
    oriented: bool = True
    std_calibration: StdCalibration | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check that the parts agree."""
        problems = []
        shape = self.samples.shape[1:]
        if self.samples.ndim not in (4, 5) or 0 in self.samples.shape:
            problems.append(f"samples: found shape {self.samples.shape}, expected (S, slices, ...)")
        for name in ("baseline", "visible", "estimate", "null_space", "reference"):
            array = getattr(self, name)
            if array is not None and array.shape != shape:
                problems.append(f"{name}: found shape {array.shape}, expected {shape}")
        if self.visible.dtype != np.bool_:
            problems.append(f"visible: found {self.visible.dtype}, expected bool")
        if self.kind not in ("mri", "ct", "diffraction"):
            problems.append(f"kind: found {self.kind!r}, expected 'mri', 'ct' or 'diffraction'")
        affine = np.asarray(self.affine)
        if affine.shape != (4, 4) or not np.isfinite(affine).all():
            problems.append("affine: expected a finite 4 x 4 matrix")
        elif np.linalg.matrix_rank(affine[:3, :3]) < 3:
            problems.append("affine: the three voxel directions are not independent")
        for name, picture in self.pictures.items():
            if name not in PICTURES or picture.ndim != 3 or picture.size == 0:
                found = f"{name!r}, shape {picture.shape}"
                problems.append(f"pictures: found {found}, expected 3 axes, of {PICTURES}")
        if self.residual is not None and self.residual.ndim not in (2, 3):
            problems.append(f"residual: found {self.residual.ndim} axes, expected 2 or 3")
        if problems:
            raise ValueError("Result: " + "; ".join(problems))

    def __repr__(self) -> str:
        """Name the scan, the shape and how the run ended."""
        return (
            f"Result({self.name!r}, samples={self.samples.shape} {self.samples.dtype}, "
            f"units={self.units!r}, status={self.status.value}, chi_squared={self.chi_squared:.3f})"
        )

    @property
    def num_samples(self) -> int:
        """Number of posterior samples."""
        return int(self.samples.shape[0])

    @property
    def is_complex(self) -> bool:
        """Whether the images are complex (MRI)."""
        return bool(np.iscomplexobj(self.samples))

    @cached_property
    def magnitude(self) -> NDArray[np.float32]:
        """Samples as displayed: the modulus of complex images, real images as they are."""
        if self.is_complex:
            return np.abs(self.samples).astype(np.float32, copy=False)
        return self.samples.astype(np.float32, copy=False)

    @cached_property
    def mean(self) -> NDArray[np.float32]:
        """Mean over the samples of the displayed quantity, ``(slices, *image_shape)``.

        For complex images it is the mean of the modulus, not the modulus of the mean (see
        :attr:`complex_mean`): mean, standard deviation and quantiles then speak of one quantity.
        """
        return self._seen(self.magnitude.mean(axis=0, dtype=np.float64))

    @cached_property
    def std(self) -> NDArray[np.float32]:
        """Standard deviation of the displayed quantity: :attr:`raw_std` times :attr:`std_factor`.

        It is that of the truth around :attr:`mean`, as far as it is known.
        """
        return self.raw_std * np.float32(self.std_factor)

    @property
    def std_factor(self) -> float:
        """Factor from the calibration on held-out data; 1 without one."""
        return 1.0 if self.std_calibration is None else self.std_calibration.factor

    @cached_property
    def raw_std(self) -> NDArray[np.float32]:
        """Standard deviation over the samples of the displayed quantity (divisor S - 1).

        NaN at visible pixels if there is only one sample, which says nothing about the spread.
        """
        if self.num_samples < 2:
            return self._seen(np.full(self.samples.shape[1:], np.nan))
        # sample by sample: numpy's own needs all of them in double precision at once
        centre = self.magnitude.mean(axis=0, dtype=np.float64)
        total = np.zeros_like(centre)
        for sample in self.magnitude:
            total += (sample - centre) ** 2
        return self._seen(np.sqrt(total / (self.num_samples - 1)))

    @cached_property
    def complex_mean(self) -> NDArray[Any]:
        """Mean of the samples themselves, complex for MRI; 0 where not visible."""
        dtype = np.complex64 if self.is_complex else np.float32
        mean = self.samples.mean(axis=0, dtype=np.complex128 if self.is_complex else np.float64)
        return np.where(self.visible, mean, 0).astype(dtype)

    @cached_property
    def baseline_magnitude(self) -> NDArray[np.float32]:
        """Baseline as displayed; not masked."""
        return _displayed(self.baseline)

    @cached_property
    def estimate_magnitude(self) -> NDArray[np.float32] | None:
        """Point estimate as displayed, if there is one."""
        return None if self.estimate is None else _displayed(self.estimate)

    @cached_property
    def prior_share(self) -> float | None:
        """Share of the energy of :attr:`complex_mean` in :attr:`null_space`, in [0, 1]."""
        if self.null_space is None:
            return None
        total, part = (
            float(np.sum(np.abs(image[self.visible]).astype(np.float64) ** 2))
            for image in (self.complex_mean, self.null_space)
        )
        return min(part / total, 1.0) if total > 0 else 0.0

    @cached_property
    def null_space_magnitude(self) -> NDArray[np.float32] | None:
        """:attr:`null_space` as displayed, if there is one; signed where images are real."""
        return None if self.null_space is None else _displayed(self.null_space)

    def quantile(self, q: float) -> NDArray[np.float32]:
        """Pixelwise quantile of the displayed quantity over the samples.

        :param q: probability in [0, 1]; between samples it is interpolated linearly, so with S
            samples nothing beyond about 1/S and 1 - 1/S can be told.
        """
        if not 0 <= q <= 1:
            raise ValueError(f"quantile: found q = {q}, expected a probability in [0, 1]")
        return self._seen(np.quantile(self.magnitude, q, axis=0))

    def interval(self, level: float = 0.9) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Lower and upper end of the central pixelwise interval that holds ``level``.

        It is meant to hold the truth, one more draw of the posterior, with that probability.
        Between the order statistics i and j of S samples lies the next draw with probability
        ``(j - i) / (S + 1)``, so ``(1 + level) / (1 - level)`` samples (19 for 0.9) are enough to
        take quantiles at those ranks. With fewer, the samples are taken for normal: mean plus and
        minus ``t std sqrt(1 + 1/S)`` with Student's t of S - 1 degrees of freedom. Distances from
        the mean are multiplied by :attr:`std_factor`; a magnitude stays above 0. NaN at visible
        pixels of a single sample.
        """
        if not 0 < level < 1:
            raise ValueError(f"interval: found level = {level}, expected a probability in (0, 1)")
        count, tail = self.num_samples, (1 - level) / 2
        if tail * (count + 1) >= 1 - 1e-9:
            ranks = [tail, 1 - tail]
            ends = [self._seen(np.quantile(self.magnitude, q, axis=0, method="weibull"))
                    for q in ranks]  # fmt: skip
        elif count == 1:
            ends = [self.raw_std, self.raw_std]
        else:
            from scipy.stats import t

            reach = float(t.ppf(1 - tail, count - 1)) * np.sqrt(1 + 1 / count) * self.raw_std
            ends = [self._seen(self.mean - reach), self._seen(self.mean + reach)]
        if self.std_factor != 1:
            factor = np.float32(self.std_factor)
            ends = [self.mean + factor * (end - self.mean) for end in ends]
        if self.is_complex:
            ends = [np.maximum(end, 0) for end in ends]
        return ends[0], ends[1]

    def citation(self) -> str:
        """BibTeX entries of what ran, this package first."""
        from sciinv import __version__

        own = (
            "@software{sciinv,\n  title = {sciinv: scans reconstructed with diffusion priors},\n"
            f"  author = {{{{The sciinv developers}}}},\n  version = {{{__version__}}}\n}}"
        )
        return "\n\n".join([own, *map(str, self.provenance.get("citations", ()))])

    def save(
        self,
        folder: str | Path,
        *,
        overwrite: bool = False,
        samples: bool = True,
        tiff: bool = False,
        dicom: bool = False,
    ) -> Path:
        """Write everything into a folder that appears only when it is complete.

        NIfTI images in ``units`` (``mean``, ``std``, ``baseline``, ``estimate``, ``null_space``,
        ``mask``, ``samples`` with the sample as last axis; complex ones as magnitude, with the
        phase in radians in ``mean_phase``, ``baseline_phase`` and ``estimate_phase``),
        ``result.h5`` (see
        :func:`load_result`), ``run.json``, ``figures/*.png`` and ``report.html``. ``std`` is
        left out if there is only one sample, ``estimate`` where sampling started from noise.

        :param overwrite: replace an older result of this package; anything else in the way is
            never removed.
        :param samples: also write ``samples.nii.gz`` (``result.h5`` always has them).
        :param tiff: also write ``tiff/``: float32 stacks of mean, std and estimate.
        :param dicom: also write ``dicom/``: a derived series of the mean, and the std as a
            parametric map (a second series without highdicom). Needs ``sciinv[dicom]``.
        :raises DataError: if the folder exists or cannot be written, or there is no DICOM of it.
        """
        from sciinv.report.save import save_result

        return save_result(
            self, Path(folder), overwrite=overwrite, samples=samples, tiff=tiff, dicom=dicom
        )

    def _seen(self, values: NDArray[Any]) -> NDArray[np.float32]:
        return np.where(self.visible, values, 0).astype(np.float32)


def load_result(path: str | Path) -> Result:
    """Read a result that :meth:`Result.save` wrote.

    :param path: the output folder or its ``result.h5``.
    :raises DataError: if it is missing, damaged or of another kind.
    """
    from sciinv.data.files import reading
    from sciinv.report.store import read_hdf5

    path = Path(path)
    if path.is_dir():
        path = path / "result.h5"
    if not path.is_file():
        raise DataError(path, hint="no such result; give the output folder of sciinv reconstruct")
    with reading(path):
        return read_hdf5(path)


def _displayed(images: NDArray[Any]) -> NDArray[np.float32]:
    """Magnitude of complex images, real ones as they are."""
    return (np.abs(images) if np.iscomplexobj(images) else images).astype(np.float32, copy=False)
