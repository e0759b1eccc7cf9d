"""``sciinv convert``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from sciinv.result import Result


class Target(StrEnum):
    """Formats that can be written."""

    SCIINV = "sciinv"
    FASTMRI = "fastmri"
    BIDS = "bids"


def convert(
    file: Path = typer.Argument(
        ..., metavar="IN", help="Scan file, or result folder.", show_default=False
    ),
    output: Path = typer.Argument(
        ..., metavar="OUT", help="File to write; a folder for bids.", show_default=False
    ),
    to: Target = typer.Option(
        Target.SCIINV,
        help="Scans: sciinv holds every scan, fastmri Cartesian MRI of 2D images. Results of MRI: "
        "fastmri is the file that its evaluation reads, bids a derivative data set.",
    ),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; IN.toml if not given."
    ),
    size: int | None = typer.Option(
        None,
        min=1,
        metavar="N",
        help="Result to fastmri: rows and columns; the largest square if not given.",
    ),
    subject: str | None = typer.Option(None, metavar="LABEL", help="bids: label of the subject."),
    suffix: str | None = typer.Option(
        None, metavar="SUFFIX", help="bids: contrast, T1w, T2w, FLAIR ..."
    ),
    session: str | None = typer.Option(None, metavar="LABEL", help="bids: label of the session."),
    acquisition: str | None = typer.Option(
        None, metavar="LABEL", help="bids: label of the acquisition."
    ),
    run: int | None = typer.Option(None, min=1, metavar="N", help="bids: number of the run."),
    force: bool = typer.Option(False, "--force", help="Replace existing files."),
) -> None:
    """Write a scan in another format, or a result for fastMRI's evaluation or as BIDS derivative.

    Geometry, units and noise level of a scan are kept. Names in a BIDS data set are yours: none
    comes from a header or a file name.
    """
    from sciinv.errors import DataError

    labels = {"--subject": subject, "--suffix": suffix, "--session": session,
              "--acquisition": acquisition, "--run": run}  # fmt: skip
    given = [option for option, value in labels.items() if value is not None]
    if given and to is not Target.BIDS:
        raise typer.BadParameter(f"{given[0]} belongs to --to bids")
    if not _is_result(file):
        if size is not None:
            raise typer.BadParameter("--size belongs to a result and --to fastmri")
        _convert_scan(file, output, to, sidecar, force=force)
        return
    if size is not None and to is not Target.FASTMRI:
        raise typer.BadParameter("--size belongs to --to fastmri")
    if sidecar is not None:
        raise typer.BadParameter("--sidecar belongs to a scan")
    from sciinv.result import load_result

    result = load_result(file)
    if to is Target.SCIINV:
        raise DataError(
            file, found="a result", expected="a scan", hint="use --to fastmri or --to bids"
        )
    if to is Target.FASTMRI:
        _submit(result, file, output, size, force=force)
        return
    if subject is None or suffix is None:
        raise typer.BadParameter("--to bids needs --subject and --suffix, such as 01 and T1w")
    from sciinv.cli.console import phase_line, say
    from sciinv.report.bids import Entities, write_bids

    entities = Entities(subject, suffix, session, acquisition, run)
    with _writing(output):
        paths = write_bids(result, output, entities, overwrite=force)
    say(phase_line("bids", f"{len(paths)} images with side-cars"))
    say(str(paths[0]))


def _is_result(path: Path) -> bool:
    """Tell a result by its content."""
    from sciinv.data.files import is_hdf5
    from sciinv.data.guard import open_hdf5
    from sciinv.report.store import FORMAT

    if path.is_dir():
        return (path / "result.h5").is_file()
    if not path.is_file() or path.stat().st_size == 0 or not is_hdf5(path):
        return False
    with open_hdf5(path) as file:
        return bool(file.attr("format") == FORMAT)


def _submit(result: Result, file: Path, output: Path, size: int | None, *, force: bool) -> None:
    from sciinv.cli.console import phase_line, say
    from sciinv.report.fastmri import write_submission

    _check(file, output, force=force)
    with _writing(output):
        shape = write_submission(result, output, size)
    slices = f"{shape[0]} slice{'s' if shape[0] > 1 else ''}"
    say(phase_line("fastmri", f"{slices} of {shape[1]} x {shape[2]}, magnitudes, {result.units}"))
    say(phase_line("note", "the evaluation finds a file by the name of its measurement"))
    say(str(output))


def _convert_scan(
    file: Path, output: Path, to: Target, sidecar: Path | None, *, force: bool
) -> None:
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe
    from sciinv.data.load import load
    from sciinv.data.native import write_scan
    from sciinv.data.write_fastmri import lost_in_fastmri, write_fastmri
    from sciinv.errors import DataError

    if to is Target.BIDS:
        hint = "BIDS has no name for raw measurements; reconstruct it, then convert the result"
        raise DataError(file, found="a scan", expected="a result", hint=hint)
    _check(file, output, force=force)
    scan = load(file, sidecar=sidecar)
    say(phase_line("scan", describe(scan)))
    for note in scan.notes:
        say(phase_line("note", note))
    with _writing(output):
        if to is Target.FASTMRI:
            write_fastmri(scan, output)
            lost = lost_in_fastmri(scan)
            if lost:
                say(phase_line("warning", f"fastMRI has no place for: {', '.join(lost)}"))
        else:
            write_scan(scan, output)
    say(str(output))


def _check(file: Path, output: Path, *, force: bool) -> None:
    from sciinv.errors import DataError

    if output.is_dir():
        raise DataError(output, found="a folder", expected="a file name")
    if output.exists() and file.exists() and output.samefile(file):
        raise DataError(output, found="the scan itself", expected="another file")
    if output.exists() and not force:
        raise DataError(output, found="an existing file", expected="none", hint="use --force")
    if not output.absolute().parent.is_dir():
        raise DataError(output, found="no such folder", expected="an existing folder")


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    from sciinv.errors import DataError, reason_of

    try:
        yield
    except (OSError, RuntimeError) as error:  # h5py raises the second where closing fails
        expected = "a file that can be written"
        raise DataError(output, found=reason_of(error), expected=expected) from error
