"""The process that reads: limits first, then one file, then the answer on a pipe.

:data:`sciinv.data.isolation.START` takes over the search path of the process that asks, so that
both use the same packages, and calls :func:`serve`. No torch is imported here.
"""

from __future__ import annotations

import ctypes
import math
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["OUT_OF_MEMORY", "serve"]

#: Exit code if memory ends when half of the answer is sent.
OUT_OF_MEMORY = 3
_OPEN_FILES = 256
_PR_SET_PDEATHSIG = 1  # prctl(2)


def serve(request: dict[str, Any]) -> NoReturn:
    """Read what the request names, answer, and end the process.

    :param request: ``path`` and ``sidecar`` (hexadecimal bytes of the file names; ``sidecar`` may
        be ``None``), ``wanted`` (``"scan"`` or ``"image"``), ``memory`` (bytes), ``seconds``,
        ``parent`` (its process number).
    """
    # libraries print to 1 and 2 and must not disturb the answer; 0 ends when the asker is gone
    answer, asker = os.dup(1), os.dup(0)
    os.dup2(2, 1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    _end_with(request["parent"], asker)
    _limit_resources(request["memory"], request["seconds"])
    warnings.simplefilter("ignore")
    code = 0
    try:
        for piece in _answer(request):
            view = memoryview(piece)
            while len(view):
                view = view[os.write(answer, view) :]
    except MemoryError:
        code = OUT_OF_MEMORY
    except BrokenPipeError:
        code = 1
    # not the interpreter's own end: a library that a file has damaged may crash in it
    os._exit(code)


def _answer(request: dict[str, Any]) -> Iterable[bytes | memoryview]:
    from sciinv.data.isolation_wire import error_parts, scan_parts

    try:
        from sciinv.data.load import read_scan
        from sciinv.data.reference import read_image_here

        _limit_files()
        path, sidecar = (
            None if name is None else Path(os.fsdecode(bytes.fromhex(name)))
            for name in (request["path"], request["sidecar"])
        )
        assert path is not None  # noqa: S101
        image = request["wanted"] == "image"
        parts = scan_parts(read_image_here(path) if image else read_scan(path, sidecar))
        return chain([next(parts)], parts)
    except BaseException as error:  # noqa: BLE001  whatever it is, the asker has to hear of it
        return error_parts(error)


def _end_with(parent: int, asker: int) -> None:
    """End when the asking process does, however it does."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(asker, 1):
                pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
    if sys.platform == "linux":
        # the thread cannot run while a library computes; the kernel can
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)


def _limit_resources(memory: int, seconds: float) -> None:
    """Limit memory and processor time, and leave no core dump; nothing where there are no limits.

    The asker watches the clock: processor time only ends a process that was left behind.
    """
    try:
        import resource
    except ImportError:  # Windows
        return
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, math.ceil(2 * seconds)),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
    ):
        _lower(kind, value)


def _limit_files() -> None:
    """Write no files from now on."""
    # before this our own modules may still be compiled and kept
    sys.dont_write_bytecode = True
    with suppress(ImportError):
        import resource

        _lower(resource.RLIMIT_FSIZE, 0)


def _lower(kind: int, value: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with suppress(ValueError, OSError):  # macOS knows limits that it does not take
        resource.setrlimit(kind, (value, value))
