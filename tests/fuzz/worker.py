"""One process that reads many mutants, one after the other, within the limits of memory and time.

It is told what to do by lines of JSON on standard input and answers each with lines of JSON.
"""

from __future__ import annotations

import base64
import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from sciinv.errors import SciinvError

from .mutate import mutant
from .parts import Seed

#: What a mutant may take: seconds of the processor, bytes of memory beyond those of the process.
SECONDS, BYTES = 25, 2_500_000_000
_LONGEST_MESSAGE = 2000


class Late(BaseException):
    """The time is over; not an Exception, so that no reader takes it for damage."""


def pack(seeds: list[Seed]) -> list[dict[str, Any]]:
    """Seeds as JSON."""
    return [
        {
            "files": {k: base64.b64encode(v).decode() for k, v in seed.files.items()},
            "main": seed.main,
            "targets": list(seed.targets),
        }
        for seed in seeds
    ]


def unpack(packed: list[dict[str, Any]]) -> list[Seed]:
    """Seeds from JSON."""
    return [
        Seed(
            {k: base64.b64decode(v) for k, v in one["files"].items()},
            one["main"],
            tuple(one["targets"]),
        )
        for one in packed
    ]


# readers ----------------------------------------------------------------------------------------
def _read_scan(path: Path, isolated: bool = False) -> str:
    from sciinv.data.load import load

    return check_scan_of_mutant(load(path, isolated=isolated))


def _read_prior(path: Path) -> str:
    from sciinv.priors.store import load

    denoiser = load(path)
    assert denoiser.channels in (1, 2)
    return ""


def _read_result(path: Path) -> str:
    from sciinv.result import load_result

    result = load_result(path)
    repr(result), result.status.text  # noqa: B018
    if result.samples.size < 100_000:
        result.mean, result.std, result.interval()  # noqa: B018
    return ""


_calls = 0


def _abort(path: Path) -> str:
    """Die by a signal at the third mutant (after the first seed): for a test of the harness."""
    global _calls
    _calls += 1
    if _calls == 4:
        os.abort()
    return ""


def _spin(path: Path) -> str:
    """Hang there, deaf to the alarm."""
    global _calls
    _calls += 1
    if _calls == 4:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGPROF})
        while True:
            pass
    return ""


def _read_image(path: Path, isolated: bool = False) -> str:
    from sciinv.data.reference import read_image

    image = read_image(path, isolated=isolated)
    if not np.isfinite(image.affine).all() or np.linalg.det(image.affine[:3, :3]) == 0:
        return "affine"
    return "" if image.values.size and all(isinstance(n, str) for n in image.notes) else "values"


READERS: dict[str, Callable[[Path], str]] = {
    "scan": _read_scan,
    # as the command line reads: this process survives whatever the file does
    "isolated-scan": partial(_read_scan, isolated=True),
    "isolated-image": partial(_read_image, isolated=True),
    "image": _read_image,
    "prior": _read_prior,
    "result": _read_result,
    "abort": _abort,
    "spin": _spin,
}


def check_scan_of_mutant(scan: Any) -> str:
    """What any scan that was read must satisfy; returns what does not hold."""
    from sciinv.data.describe import describe, details

    texts = [describe(scan), scan.units, *scan.notes, *(f"{n}{t}" for n, t in details(scan))]
    texts += [*scan.header.keys(), *scan.header.values()]
    if not all(isinstance(text, str) for text in texts):
        return "a text that is none"
    if scan.affine.shape != (4, 4) or not np.isfinite(scan.affine).all():
        return "affine"
    if abs(np.linalg.det(scan.affine[:3, :3])) == 0:
        return "singular affine"
    if not np.isfinite(scan.data).all():
        return "data"
    if scan.noise_std is not None and not 0 < scan.noise_std < np.inf:
        return f"noise_std {scan.noise_std}"
    if scan.num_slices < 1 or min(scan.image_shape) < 1 or scan.data.size == 0:
        return "an empty scan"
    for name in ("voxel_size", "detector_spacing", "pixel_size", "slice_spacing"):
        value = getattr(scan.geometry, name, 1.0)
        if not np.all(np.isfinite(value)) or not np.all(np.asarray(value) > 0):
            return f"{name} {value}"
    return ""


# one mutant -------------------------------------------------------------------------------------
def judge(reader: str, path: Path) -> tuple[str, str]:
    """Read a file; returns the outcome and a text about it.

    ``scan`` (or a prior, a result), ``refused`` by one line that names the file; everything else is
    a failure: ``traceback``, ``message``, ``inconsistent``, ``late``.
    """
    folder = path if path.is_dir() else path.parent
    names = [file.name for file in folder.iterdir()] + [path.name]
    try:
        with _alarm(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wrong = READERS[reader](path)
    except SciinvError as error:
        text = str(error)
        if "\n" in text or "\r" in text or len(text) > _LONGEST_MESSAGE:
            return "message", repr(text[:_LONGEST_MESSAGE])
        if not any(name in text for name in names):
            return "message", f"no file named: {text}"
        return "refused", text
    except Late:
        return "late", f"more than {SECONDS} s"
    except BaseException as error:  # noqa: BLE001 - this is what is counted
        return "traceback", f"{_where(error)}: {type(error).__name__}: {str(error)[:200]}"
    return ("inconsistent", wrong) if wrong else ("scan", "")


def _where(error: BaseException) -> str:
    """The last line of our own in a traceback."""
    place, step = "?", error.__traceback__
    while step is not None:
        code = step.tb_frame.f_code
        if "sciinv" in code.co_filename:
            place = f"{Path(code.co_filename).name}:{step.tb_lineno}"
        step = step.tb_next
    return place


@contextmanager
def _alarm() -> Iterator[None]:
    def ring(*_: object) -> None:
        raise Late

    # time of the processor: the machine may be busy with something else
    signal.signal(signal.SIGPROF, ring)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def write(seed: Seed, folder: Path) -> Path:
    """Write the files of a mutant into a folder that holds nothing else."""
    for old in folder.iterdir():
        old.unlink()
    for name, content in seed.files.items():
        (folder / name).write_bytes(content)
    return folder / seed.main


# the process ------------------------------------------------------------------------------------
def limit_memory() -> None:
    """Allow :data:`BYTES` more than what the libraries take."""
    with Path("/proc/self/statm").open() as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + BYTES,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _peak() -> int:
    """Largest resident memory since the last reset, bytes."""
    with Path("/proc/self/status").open() as file:
        line = next(line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _reset_peak() -> None:
    with Path("/proc/self/clear_refs").open("w") as file:
        file.write("5")


def prepare(reader: str) -> None:
    """Import everything that a reader imports; looking up entry points takes 9 ms a file."""
    cached = lru_cache(importlib.metadata.entry_points)
    importlib.metadata.entry_points = cached  # type: ignore[assignment]
    import h5py
    import tifffile

    assert h5py.version and tifffile.__version__
    if importlib.util.find_spec("hdf5plugin") is not None:
        importlib.import_module("hdf5plugin")
    if reader == "prior":
        import sciinv.priors.store

        assert sciinv.priors.store
    import sciinv.data.load
    import sciinv.report.store
    import sciinv.result

    assert sciinv.data.load and sciinv.result and sciinv.report.store


def serve(folder: Path) -> None:
    """Answer orders: seeds, reader, first and last number."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print does not belong to the answers
    order = json.loads(sys.stdin.readline())
    seeds, reader = unpack(order["seeds"]), order["reader"]
    prepare(reader)
    write(seeds[0], folder)
    judge(reader, folder / seeds[0].main)
    limit_memory()
    for number in range(order["first"], order["last"]):
        made = mutant(seeds, number)
        path = write(made, folder)
        answers.write(json.dumps({"number": number}) + "\n")
        _reset_peak()  # what making it took is not what reading it takes
        begin = time.process_time()
        said = os.fstat(2).st_size
        outcome, text = judge(reader, path)
        if reader != "scan" and os.fstat(2).st_size > said:
            # of a scan that is read in a process of its own nobody hears it
            outcome, text = "noise", "a library wrote to standard error"
        seconds = time.process_time() - begin
        peak = _peak()
        answers.write(
            json.dumps({"number": number, "outcome": outcome, "text": text,
                        "seconds": round(seconds, 4), "peak": peak}) + "\n"
        )  # fmt: skip
    answers.write(json.dumps({"end": True}) + "\n")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
