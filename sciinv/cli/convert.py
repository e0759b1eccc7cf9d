"""``sciinv convert``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path

import typer


class Target(StrEnum):
    """Scan formats that can be written."""

    SCIINV = "sciinv"
    FASTMRI = "fastmri"


def convert(
    file: Path = typer.Argument(..., metavar="IN", help="Scan file.", show_default=False),
    output: Path = typer.Argument(..., metavar="OUT.h5", help="File to write.", show_default=False),
    to: Target = typer.Option(
        Target.SCIINV,
        help="Format to write: sciinv holds every scan, fastmri Cartesian MRI of 2D images.",
    ),
    sidecar: Path | None = typer.Option(
        None, metavar="TOML", help="Side-car of a header-less file; IN.toml if not given."
    ),
    force: bool = typer.Option(False, "--force", help="Replace an existing file."),
) -> None:
    """Write a scan in another format, with the geometry, units and noise level that were found."""
    from sciinv.cli.console import phase_line, say
    from sciinv.data.describe import describe
    from sciinv.data.load import load
    from sciinv.data.native import write_scan
    from sciinv.data.write_fastmri import lost_in_fastmri, write_fastmri
    from sciinv.errors import DataError, reason_of

    if output.is_dir():
        raise DataError(output, found="a folder", expected="a file name")
    if output.exists() and file.exists() and output.samefile(file):
        raise DataError(output, found="the scan itself", expected="another file")
    if output.exists() and not force:
        raise DataError(output, found="an existing file", expected="none", hint="use --force")
    if not output.absolute().parent.is_dir():
        raise DataError(output, found="no such folder", expected="an existing folder")
    scan = load(file, sidecar=sidecar)
    say(phase_line("scan", describe(scan)))
    for note in scan.notes:
        say(phase_line("note", note))
    try:
        if to is Target.FASTMRI:
            write_fastmri(scan, output)
            lost = lost_in_fastmri(scan)
            if lost:
                say(phase_line("warning", f"fastMRI has no place for: {', '.join(lost)}"))
        else:
            write_scan(scan, output)
    except (OSError, RuntimeError) as error:  # h5py raises the second where closing fails
        raise DataError(
            output, found=reason_of(error), expected="a file that can be written"
        ) from error
    say(str(output))
