"""The rows of sciinv: default reconstruction, nothing tuned."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from quality_cases import Problem
from quality_convergence import point_estimate
from quality_store import Arrays, Row
from scipy import stats

from sciinv import Result, reconstruct
from sciinv.metrics import calibration_curve
from sciinv.reconstruction.build import build_model

Image = NDArray[Any]
MEAN, SAMPLE, POINT = "mean", "one sample", "point estimate"


@dataclass(frozen=True)
class Own:
    """How ``reconstruct`` is called; what is ``None`` is left to its default."""

    samples: int = 8
    budget: float | None = None
    steps: int | None = None
    krylov: int | None = None
    prior: str | None = None

    def __call__(self, problem: Problem) -> dict[str, tuple[Row, Arrays]]:
        """Return row and picture of the mean, one sample and the point estimate."""
        chosen = {"time_budget": self.budget, "steps": self.steps, "krylov": self.krylov,
                  "prior": self.prior, "num_samples": self.samples}  # fmt: skip
        begin, wall = time.process_time(), time.perf_counter()
        result = reconstruct(problem.scan, **{k: v for k, v in chosen.items() if v is not None})
        seconds, wall = time.process_time() - begin, time.perf_counter() - wall
        mean = _mean(result)
        shared = {
            "seconds": seconds, "wall": wall, "nfe": result.stats.get("nfe"),
            "samples": result.num_samples, "chi_squared": result.chi_squared,
            "solver": str(result.provenance.get("solver")),
            "prior": str(result.provenance.get("prior", {}).get("name")),
            "noise": [result.provenance.get("noise"), result.provenance.get("noise_used")],
            "timings": dict(result.stats.get("timings", {})),
            "warnings": list(result.warnings),
        }  # fmt: skip
        spread = calibration(result, problem)
        made = {
            MEAN: ({**shared, **spread}, {"image": mean, "std": result.std[0]}),
            SAMPLE: (shared, {"image": _seen(result, result.samples[0])}),
        }
        point = self._point(result, problem)
        if point is not None:
            made[POINT] = (shared, {"image": point})
        return {
            name: ({"scores": problem.score(arrays["image"]), **row}, arrays)
            for name, (row, arrays) in made.items()
        }

    def _point(self, result: Result, problem: Problem) -> Image | None:
        """Return the deterministic image that samples start from; diffraction has none."""
        for name in ("point_estimate", "estimate", "point"):
            image = getattr(result, name, None)
            if image is not None:
                return _seen(result, np.asarray(image).reshape(result.samples.shape[1:]))
        if result.kind == "diffraction":
            return None
        prior = self.prior or result.provenance["prior"]["name"]
        try:
            return point_estimate(build_model(problem.scan, 0), prior)
        except Exception as error:
            # its row is lost, those of the samples are not
            print(f"  point estimate: {type(error).__name__}: {error}", flush=True)
            return None


def _mean(result: Result) -> Image:
    """Mean as it is shown; diffraction is judged by complex values."""
    return result.complex_mean[0] if result.kind == "diffraction" else result.mean[0]


def _seen(result: Result, image: Image) -> Image:
    """Return the first slice, zero where the data see nothing."""
    return np.where(result.visible[0], image[0], 0)


def calibration(result: Result, problem: Problem) -> dict[str, Any]:
    """Compare the stated spread with the error of the mean, inside the object.

    ``std_over_error`` is the ratio of root mean squares, ``raw_`` that of the samples themselves.
    Coverage: of the 90 % interval that the result states, and of that of Student's t from its
    standard deviation, which is exact for few samples of a normal distribution (mean +- t std
    sqrt(1 + 1/S)). ``curve`` is that of the order statistics of the samples.
    """
    if not problem.truth or result.num_samples < 2:
        return {}
    truth, inside = problem.truth["image"], problem.truth["mask"] & result.visible[0]
    error, std = (result.mean[0] - truth)[inside], result.std[0][inside]
    raw = result.magnitude[:, 0][:, inside].std(axis=0, ddof=1)
    count = result.num_samples
    half = stats.t.ppf(0.95, count - 1) * np.sqrt(1 + 1 / count)
    low, high = result.interval(0.9)
    stated = (truth >= low[0]) & (truth <= high[0])
    nominal, observed = calibration_curve(result.magnitude[:, 0], truth, mask=inside)
    rms = float(np.sqrt(np.mean(error**2)))
    checked = getattr(result, "std_calibration", None)
    return {
        "std_over_error": float(np.sqrt(np.mean(std**2))) / rms,
        "raw_std_over_error": float(np.sqrt(np.mean(raw**2))) / rms,
        "factor": float(getattr(result, "std_factor", 1.0)),
        "calibration": "" if checked is None else checked.text,
        "correlation": float(np.corrcoef(std, np.abs(error))[0, 1]),
        "coverage": float(np.mean(np.abs(error) <= half * std)),
        "raw_coverage": float(np.mean(np.abs(error) <= half * raw)),
        "coverage_stated": float(np.mean(stated[inside])),
        "curve": [list(map(float, nominal)), list(map(float, observed))],
    }
