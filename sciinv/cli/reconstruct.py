"""``sciinv reconstruct``."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from sciinv.cli.console import Console
    from sciinv.reconstruction.checkpoint import Kept
    from sciinv.reconstruction.parts import Plan

_BUDGET = 300.0


def reconstruct(
    ctx: typer.Context,
    file: Path = typer.Argument(..., metavar="FILE", help="Scan file.", show_default=False),
    output: Path | None = typer.Option(
        None,
        "--output",
        "-o",
        metavar="DIR",
        help="Output folder; FILE's stem + _sciinv if not given.",
    ),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; FILE.toml if not given."
    ),
    reference: Path | None = typer.Option(
        None,
        metavar="FILE",
        help="Image to compare with: NIfTI, DICOM (file or folder), .npy or a result. It has no "
        "influence on the reconstruction.",
    ),
    prior: str | None = typer.Option(
        None, metavar="NAME|FILE", help="Prior, see 'sciinv priors'; 'generic' if not given."
    ),
    solver: str | None = typer.Option(
        None,
        metavar="NAME",
        help="Solver, see 'sciinv solvers'; if not given MMT around a point estimate, for "
        "diffraction DPS around the image of HIO.",
    ),
    samples: int | None = typer.Option(
        None, "--samples", min=1, metavar="N", help="Posterior samples; as many as fit, up to 16."
    ),
    steps: int | None = typer.Option(None, min=1, metavar="N", help="Noise levels of the sampler."),
    krylov: int | None = typer.Option(
        None, min=1, metavar="N", help="Dimension of its data system."
    ),
    noise: float | None = typer.Option(
        None, metavar="STD", help="Noise per real component, in the unit of the measurement."
    ),
    scale: float | None = typer.Option(
        None, metavar="VALUE", help="Image intensity that the prior takes as 1."
    ),
    seed: int = typer.Option(0, metavar="N", help="Seed of all random draws."),
    time_budget: float = typer.Option(
        _BUDGET, min=1.0, metavar="S", help="Seconds that sampling may take."
    ),
    slices: str | None = typer.Option(
        None, metavar="A[:B]", help="Slice, or first and last + 1; all if not given."
    ),
    coils: int | None = typer.Option(
        None, min=1, metavar="N", help="MRI: compress the coils to N virtual ones first."
    ),
    prewhiten: bool = typer.Option(False, help="MRI: whiten the coils' noise first."),
    refine_maps: bool = typer.Option(
        True, help="MRI: estimate coil maps and phase again with the help of a first image."
    ),
    calibrate: bool = typer.Option(
        True, help="Check the standard deviation on held-out data and widen it if need be."
    ),
    precision: str = typer.Option(
        "auto",
        metavar="P",
        help="Of the prior's network: 32, bf16, or auto (bf16 where it is fast).",
    ),
    tiff: bool = typer.Option(False, "--tiff", help="Also write float32 TIFF stacks."),
    dicom: bool = typer.Option(
        False, "--dicom", help="Also write derived DICOM series; not for diffraction."
    ),
    name: str | None = typer.Option(
        None,
        metavar="TEXT",
        help="Name of the scan in the outputs; its file name may name people and is left out.",
    ),
    restarts: int | None = typer.Option(
        None,
        min=1,
        metavar="N",
        help="Diffraction: random starts of the phasing, with --solver runs for every sample; "
        "the best is kept.",
    ),
    overwrite: bool = typer.Option(False, help="Replace an older result."),
    resume: bool | None = typer.Option(
        None,
        "--resume/--no-resume",
        help="Go on from what an interrupted run into the same folder finished, or begin again.",
        show_default=False,
    ),
    dry_run: bool = typer.Option(False, help="Print what would be done, and stop."),
    quiet: bool = typer.Option(False, "--quiet", "-q", help="Write nothing but errors."),
    json: bool = typer.Option(False, help="One JSON object a line instead of text."),
) -> None:
    """Reconstruct a scan: mean, standard deviation and samples, with a report page.

    Without options the noise level, intensity scale, coil maps and effort are chosen for the scan
    and printed. Ctrl-C and SIGTERM keep what is finished; the same command with --resume goes on.
    """
    from sciinv.cli import resume as parts
    from sciinv.cli.console import Console, phase_line, say
    from sciinv.data.describe import describe
    from sciinv.data.files import check_regular_file
    from sciinv.data.load import load
    from sciinv.errors import DataError
    from sciinv.report.dicom import check_dicom, has_parametric_maps
    from sciinv.report.lock import output_lock
    from sciinv.report.save import check_output, clear_leftovers

    begin = time.perf_counter()
    check_regular_file(file)
    folder = output if output is not None else file.with_name(f"{file.stem}_sciinv")
    for option, value in (("--noise", noise), ("--scale", scale)):
        if value is not None and not 0 < value < float("inf"):
            raise DataError(option, found=value, expected="a positive number")
    with ExitStack() as stack:
        if not dry_run:
            # also refuses before the work, not after it, an output that cannot be written
            stack.enter_context(output_lock(folder))
            clear_leftovers(folder)
            kept = parts.take_up(folder, resume, _typed(ctx))
            # an interrupted run may have left a result of what was finished
            overwrite = overwrite or kept is not None
            check_output(folder, overwrite=overwrite)
        preview = folder / "preview.png" if not (dry_run or folder.exists()) else None
        console = stack.enter_context(Console(quiet=quiet, lines=json, preview_path=preview))
        scan = load(file, sidecar=sidecar)
        if dicom:
            check_dicom(scan.kind)
        console.affine, console.units, console.oriented = scan.affine, scan.units, scan.oriented
        console.phase("read", describe(scan), time.perf_counter() - begin)
        for note in scan.notes:
            console.phase("note", note)
        placed = None
        if reference is not None:
            from sciinv.cli.images import read_reference

            # now, not after the work: it may not fit
            grid = (scan.num_slices, *scan.image_shape)
            placed = read_reference(reference, grid, scan.affine, scan.oriented)
        if dicom and not has_parametric_maps():
            console.phase("note", "no package highdicom: the std becomes a second DICOM series")
        from sciinv.reconstruction.run import plan_run
        from sciinv.reconstruction.run import reconstruct as run

        chosen = _parse_slices(slices, scan.num_slices)
        options: dict[str, Any] = {
            "prior": prior,
            "solver": solver,
            "num_samples": samples,
            "steps": steps,
            "krylov": krylov,
            "noise_std": noise,
            "scale": scale,
            "time_budget": time_budget,
            "slices": chosen,
            "coils": coils,
            "prewhiten": prewhiten,
            "refine_maps": refine_maps,
            "precision": precision,
            "restarts": restarts,
            "progress": console,
        }
        if dry_run:
            tell_plan(console, plan_run(scan, **options))
            return
        if resume:
            found = kept or "nothing to go on from, the run begins"
            console.phase("resume", f"{found}: {parts.parts_folder(folder).name}")
        try:
            if preview is not None and scan.kind != "diffraction":
                # something to look at before coil maps and noise are found
                from sciinv.reconstruction.quick import quick_picture

                first = quick_picture(scan)
                console.preview(first.images, first.name)
            result = run(
                scan, seed=seed, calibrate=calibrate, checkpoint=parts.parts_folder(folder),
                name=name, **options,
            )  # fmt: skip
            console.sampled = True
            if placed is not None:
                result = placed.into(result, chosen.start if chosen else 0)
            result = replace(
                result,
                provenance={
                    **result.provenance,
                    "command": _command(ctx),
                    "settings": _settings(ctx),
                },
            )
            result.save(folder, overwrite=overwrite, tiff=tiff, dicom=dicom)
        except BaseException as error:
            _remove_preview(preview)
            kept = parts.leave(folder)
            if isinstance(error, KeyboardInterrupt):
                raise parts.Interrupted(_interrupted(ctx, kept), console.exit_code) from None
            if console.sampled and kept is not None:
                console.phase("resume", f"{kept} kept, go on with: {_typed(ctx)}")
            raise
        took = time.perf_counter() - begin
        from sciinv.reconstruction.checkpoint import remove_parts
        from sciinv.reconstruction.run import was_cut_short
        from sciinv.report.verdict import verdict

        # a signal may come when everything is done
        unfinished = console.interrupted and was_cut_short(result)
        if unfinished:
            console.phase("resume", _interrupted(ctx, parts.leave(folder)))
        else:
            remove_parts(parts.parts_folder(folder))
        console.emit(
            "done", folder=str(folder), seconds=took, status=result.status.value,
            verdict=verdict(result), warnings=list(result.warnings),
        )  # fmt: skip
        if not quiet and not json:
            for warning in result.warnings:
                say(phase_line("warning", warning))
            say(phase_line("done", verdict(result), took))
            say(f"{folder / 'report.html'}")
        if unfinished:
            # kept, but not what was asked for: a script has to see that
            raise typer.Exit(console.exit_code)


def tell_plan(console: Console, plan: Plan) -> None:
    """Print what a run would do."""
    from sciinv.cli.console import clock

    e = plan.effort
    console.emit("plan", **asdict(plan))
    console.phase("prior", plan.prior)
    console.phase(
        "solver", f"{plan.solver}: {e.num_samples} samples, {e.steps} steps, Krylov {e.krylov}"
    )
    console.phase("time", f"about {clock(plan.seconds)} for {plan.slices} slice(s)")
    console.phase("memory", f"about {plan.memory / 2**30:.1f} GiB")


def _settings(ctx: typer.Context) -> dict[str, dict[str, Any]]:
    """Every setting with its value and where it came from."""
    return {
        name: {
            "value": _shown(name, value),
            "origin": "command line" if _given(ctx, name) else "default",
        }
        for name, value in ctx.params.items()
    }


def _command(ctx: typer.Context) -> str:
    """Return the command line without names of files and folders: they name people."""
    return _words(ctx, _shown, without=frozenset({"resume"}))


def _typed(ctx: typer.Context) -> str:
    """Return the command line as it can be typed again, to go on from an interrupted run."""
    command = _words(ctx, lambda name, value: value, without=frozenset({"resume"}))
    return f"{command} --resume"


def _interrupted(ctx: typer.Context, kept: Kept | None) -> str:
    if kept is None:
        return "interrupted; nothing was written"
    return f"interrupted; {kept} kept, go on with: {_typed(ctx)}"


def _words(
    ctx: typer.Context, shown: Callable[[str, object], object], *, without: frozenset[str]
) -> str:
    words = ["sciinv", "reconstruct"]
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = ctx.params.get(name)
        if not _given(ctx, name) or value is None or name in without:
            continue
        if parameter.param_type_name == "argument":
            words.append(str(shown(name, value)))
        elif isinstance(value, bool):
            options = parameter.opts if value else parameter.secondary_opts
            words += [max(options, key=len)] if options else []
        else:
            words += [max(parameter.opts, key=len), str(shown(name, value))]
    return shlex.join(words)


def _given(ctx: typer.Context, name: str) -> bool:
    return getattr(ctx.get_parameter_source(name), "name", "") == "COMMANDLINE"


# what the scan's files are called instead: their names are often those of patients
_PLACEHOLDERS = {"file": "FILE", "output": "DIR", "sidecar": "TOML", "reference": "IMAGE"}


def _shown(name: str, value: object) -> Any:  # noqa: ANN401
    if name in _PLACEHOLDERS:
        return None if value is None else _PLACEHOLDERS[name]
    # a prior may be a name or a path, of which the folders name people
    return Path(value).name if name == "prior" and isinstance(value, str) else value


def _parse_slices(text: str | None, count: int) -> slice | None:
    from sciinv.errors import DataError

    if text is None:
        return None
    first, colon, last = text.partition(":")
    try:
        a = int(first) if first else 0
        b = (int(last) if last else count) if colon else a + 1
    except ValueError:
        a, b = 0, -1
    if not 0 <= a < b <= count:
        raise DataError("--slices", found=text, expected=f"A or A:B within 0:{count}")
    return slice(a, b)


def _remove_preview(preview: Path | None) -> None:
    if preview is None:
        return
    preview.unlink(missing_ok=True)
    try:
        preview.parent.rmdir()
    except OSError:
        return  # never made, or the result itself is there
