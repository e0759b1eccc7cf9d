"""``sciinv demo``."""

from __future__ import annotations

from pathlib import Path

import typer


def demo(
    output: Path = typer.Option(
        Path("demo"), "--output", "-o", metavar="DIR", help="Folder to write."
    ),
    overwrite: bool = typer.Option(False, help="Replace an older demo."),
) -> None:
    """Simulate a small MRI scan, reconstruct it, and compare with the truth."""
    from sciinv.cli.console import Console, phase_line, say
    from sciinv.cli.evaluate import compare
    from sciinv.cli.simulate import make
    from sciinv.data.describe import describe
    from sciinv.data.load import load
    from sciinv.data.native import write_scan
    from sciinv.errors import DataError
    from sciinv.report.save import check_output
    from sciinv.report.verdict import verdict

    file, folder = output / "scan.h5", output / "scan_sciinv"
    if file.exists() and not overwrite:
        raise DataError(
            output, found="an older demo", expected="none", hint="use --overwrite or -o"
        )
    if output.exists() and not output.is_dir():
        raise DataError(output, found="a file", expected="a folder or nothing")
    check_output(folder, overwrite=overwrite)
    output.mkdir(parents=True, exist_ok=True)
    write_scan(make("mri", "shepp-logan", noise=0.01, seed=0), file)
    from sciinv.reconstruction.run import reconstruct

    scan = load(file)
    console = Console(preview_path=None)
    console.phase("simulate", str(file))
    console.phase("read", describe(scan))
    with console:
        result = reconstruct(scan, seed=0, time_budget=60.0, progress=console)
    result.save(folder, overwrite=overwrite)
    say(phase_line("done", verdict(result)))
    assert result.reference is not None  # noqa: S101  the simulation carries it
    for key, value in compare(result.mean, result.reference, result).items():
        say(phase_line("truth", f"{key:<30}{value:.3g}"))
    say(f"{folder / 'report.html'}")
