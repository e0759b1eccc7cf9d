"""Write the output folder of a result so that it appears complete or not at all."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sciinv.errors import DataError, reason_of
from sciinv.report.dicom import check_dicom, write_dicom
from sciinv.report.store import dump_json, metadata, write_hdf5, write_images
from sciinv.report.tiff import write_tiffs

if TYPE_CHECKING:
    from sciinv.result import Result

_MARKERS = ("run.json", "result.h5")  # a folder with both is one of ours
_PREVIEW = "preview.png"  # may lie there before the result does; it is kept


def check_output(folder: str | Path, *, overwrite: bool = False) -> None:
    """Refuse an output folder before any work is done; see :meth:`sciinv.Result.save`.

    :raises DataError: if something is in the way.
    """
    folder = Path(folder)
    if not folder.exists() and not folder.is_symlink():
        return
    if not folder.is_dir():
        raise DataError(folder, found="a file", expected="a folder or nothing")
    try:
        names = {item.name for item in folder.iterdir()}
    except OSError as error:
        raise DataError(folder, found=error.strerror or error, expected="a folder") from error
    if names <= {_PREVIEW}:
        return
    if not names.issuperset(_MARKERS):
        hint = "choose another output folder"
        raise DataError(folder, found="a folder with other files", expected="none", hint=hint)
    if not overwrite:
        hint = "choose another output folder or allow overwriting"
        raise DataError(folder, found="an older result", expected="no such folder", hint=hint)


def clear_leftovers(folder: Path) -> None:
    """Remove what a process that was killed while it saved left beside a folder.

    A result that it had moved aside comes back. Only for the holder of the folder's lock: there is
    no other run whose files these could be.
    """
    folder = folder.expanduser().absolute()
    if folder.is_symlink():
        folder = folder.resolve()
    pattern = re.compile(rf"\.{re.escape(folder.name)}\.[0-9a-f]{{8}}\.(partial|old)")
    try:
        found = [p for p in folder.parent.iterdir() if pattern.fullmatch(p.name)]
    except OSError:
        return  # whether it can be written is found out elsewhere
    for path in found:
        if path.is_symlink() or not path.is_dir():
            continue
        if path.suffix == ".old" and not folder.exists():
            path.rename(folder)
        else:
            shutil.rmtree(path, ignore_errors=True)


def save_result(
    result: Result,
    folder: Path,
    *,
    overwrite: bool,
    samples: bool,
    tiff: bool = False,
    dicom: bool = False,
) -> Path:
    """Write into a temporary sibling folder and rename it at the end.

    :return: the folder.
    :raises DataError: if it exists or cannot be written; what was there before is then untouched.
    """
    folder = folder.expanduser().absolute()
    if folder.is_symlink():
        folder = folder.resolve()
    check_output(folder, overwrite=overwrite)
    if dicom:
        check_dicom(result.kind)
    token = secrets.token_hex(4)
    work = folder.with_name(f".{folder.name}.{token}.partial")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        work.mkdir()
        _fill(result, work, samples=samples)
        _fill_optional(result, work, tiff=tiff, dicom=dicom)
        _swap(work, folder, folder.with_name(f".{folder.name}.{token}.old"))
    except OSError as error:
        raise DataError(
            folder, found=reason_of(error), expected="a folder that can be written"
        ) from error
    finally:
        # also on Ctrl-C; after a successful swap there is nothing left to remove
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _fill(result: Result, folder: Path, *, samples: bool) -> None:
    # the drawing modules take a while to import: only when something is saved
    from sciinv.report.figures import all_figures
    from sciinv.report.page import report_html

    write_images(result, folder, samples=samples)
    try:
        write_hdf5(result, folder / "result.h5")
    except RuntimeError as error:  # what h5py makes of a disc that fills up while closing
        raise OSError(str(error)) from error
    (folder / "run.json").write_text(dump_json(metadata(result)), encoding="utf-8")
    figures = all_figures(result)
    (folder / "figures").mkdir()
    for name, png in figures.items():
        (folder / "figures" / f"{name}.png").write_bytes(png)
    (folder / "report.html").write_text(report_html(result, figures), encoding="utf-8")


def _fill_optional(result: Result, folder: Path, *, tiff: bool, dicom: bool) -> None:
    if tiff:
        (folder / "tiff").mkdir()
        write_tiffs(result, folder / "tiff")
    if dicom:
        (folder / "dicom").mkdir()
        write_dicom(result, folder / "dicom")


def _swap(work: Path, folder: Path, old: Path) -> None:
    if not folder.exists():
        work.rename(folder)
        return
    preview = folder / _PREVIEW
    if preview.is_file():
        shutil.copyfile(preview, work / _PREVIEW)
    folder.rename(old)
    try:
        work.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)
