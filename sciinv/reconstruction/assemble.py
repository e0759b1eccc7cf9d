"""From the slices of a job to its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from sciinv.reconstruction.parts import Plan, Slice
from sciinv.reconstruction.provenance import describe_prior, peak_memory, result_notes, versions
from sciinv.report.plain import plain
from sciinv.result import PICTURES, Result, Status

if TYPE_CHECKING:
    from sciinv.reconstruction.job import Job

# what a scan is called where the user gives no name: that of its file may name people
TITLES = {"mri": "MRI scan", "ct": "CT scan", "diffraction": "Diffraction scan"}


def assemble(job: Job, parts: list[Slice], plan: Plan, seed: int, seconds: float) -> Result:
    """Put the slices together.

    :param parts: what every slice gave, at least one.
    :param seconds: time of the whole run.
    """
    scan = job.scan
    count = sum(part.count for part in parts)
    chi_squared = float(
        np.average([p.chi_squared for p in parts], weights=[p.count for p in parts])
    )
    tolerance = float(np.sqrt(2 / max(count, 1)))
    status = Status.STOPPED if job.stopped else Status.of_fit(chi_squared, tolerance)
    samples = np.stack([part.samples for part in parts], axis=1)
    visible = np.stack([part.visible for part in parts])
    estimates = [part.estimate for part in parts if part.estimate is not None]
    added = [part.null_space for part in parts if part.null_space is not None]
    notes = result_notes(scan, parts[0], visible, local=job.local)
    first = job.indices[0]
    done = job.indices[: len(parts)]
    affine = scan.affine.copy()
    affine[:3, 3] += first * affine[:3, 2]
    reference = scan.reference
    shown = {
        name: picture
        for part in parts
        for name in PICTURES
        if (picture := getattr(part, name)) is not None
    }
    return Result(
        samples=samples,
        baseline=np.stack([part.baseline for part in parts]),
        baseline_name=job.baseline_name,
        estimate=np.stack(estimates) if estimates else None,
        visible=visible,
        kind=scan.kind,
        units=scan.units,
        affine=affine,
        name=TITLES[scan.kind],
        oriented=scan.oriented,
        status=status,
        chi_squared=chi_squared,
        chi_squared_tolerance=tolerance,
        residual=parts[len(parts) // 2].residual,
        null_space=np.stack(added) if added else None,
        pictures=shown,
        reference=None if reference is None else np.asarray(reference, np.float32)[done],
        stats={
            "nfe": max(part.nfe for part in parts),
            "steps": job.settings.get("steps", plan.effort.steps),
            "seconds": seconds,
            "peak_memory": peak_memory(),
            "timings": dict(job.timings),
            **_restart_stats(job, parts),
        },
        provenance={
            "seed": seed,
            "solver": {"name": job.solver_name, **plain(job.settings)},
            **job.start,
            "prior": describe_prior(job.prior_name, job.prior),
            "operator": parts[0].operator,
            "noise": plan.noise,
            "noise_used": parts[0].noise,
            "scale": parts[0].scale,
            "versions": versions(),
            "citations": list(job.citations),
        },
        notes=tuple(notes),
        warnings=tuple(job.warnings),
    )


def _restart_stats(job: Job, parts: list[Slice]) -> dict[str, Any]:
    """How often phase retrieval was started, and how well every start fits."""
    found = [part.residuals for part in parts if part.residuals is not None]
    if not found:
        return {}
    what = "R-factor" if job.local else "chi-squared"
    return {"restarts": found[0].shape[1], "restart_measure": what, "restart_residuals": found}
