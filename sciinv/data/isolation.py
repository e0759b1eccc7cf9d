"""Readers run in a process of their own: a file that breaks a library breaks only that process.

libhdf5 and its like are large C programs; a damaged file may end them by a signal, make them take
all memory or never return. The process that reads has limits of memory and time, writes no file,
and hands back plain numbers and arrays over a pipe (:mod:`sciinv.data.isolation_wire`), which are
checked before they are taken. It is no sandbox: it runs with the rights of the user.

Windows has no such limits but that of time; macOS does not enforce that of memory.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import IO, TypeVar

import sciinv
from sciinv.data.isolation_child import OUT_OF_MEMORY
from sciinv.data.isolation_limits import MEMORY, SECONDS, Limits, limits_for, size_of
from sciinv.data.isolation_wire import WireError, read_answer
from sciinv.data.reference import Image
from sciinv.data.scan import Scan
from sciinv.data.sidecar import Sidecar
from sciinv.errors import DataError

__all__ = ["SWITCH", "can_isolate", "is_default", "read_image_isolated", "read_isolated"]

_Answer = TypeVar("_Answer", Scan, Image)
#: Environment variable; 0 reads in the calling process, for work on a reader and for tests.
SWITCH = "SCIINV_READ_ISOLATED"
START = (
    "import json, sys\n"
    "request = json.loads(sys.stdin.buffer.readline())\n"
    "sys.path[:] = request['search']\n"
    "from sciinv.data.isolation_child import serve\n"
    "serve(request)\n"
)
# a wider pipe is faster; more than this needs rights
_PIPE = 2**20
_KEPT = 4096
# not for the reading process: Python's own settings (the search path is passed on another way) and
# what makes libhdf5 load plug-ins
_DROPPED = ("PYTHON", "HDF5_PLUGIN", "HDF5_DRIVER", "HDF5_VOL")
_KEEP = ("PYTHONHOME", "PYTHONUSERBASE")
_CLOSING_TIME = 5.0


def is_default() -> bool:
    """Tell whether readers are isolated unless the caller says otherwise.

    :raises DataError: the environment variable :data:`SWITCH` is neither 0 nor 1.
    """
    value = os.environ.get(SWITCH) or "1"
    if value not in ("0", "1"):
        raise DataError(SWITCH, found=repr(value), expected="0 or 1")
    return value == "1"


def can_isolate() -> bool:
    """Tell whether there is a Python to start: not in a frozen or embedding program."""
    name = Path(sys.executable or "").name.lower()
    return not getattr(sys, "frozen", False) and name.startswith(("python", "pypy"))


def read_isolated(
    path: Path, sidecar: Path | None, described: Sidecar | None = None, limits: Limits | None = None
) -> Scan:
    """Read a scan in a process of its own.

    :param path: of a regular file.
    :param sidecar: path of a side-car, ``None``: the process looks for one.
    :param described: what is in it, from which the size of the files it names is found.
    :param limits: by the size of the files if ``None``.
    :raises DataError: what the reader says; or the process died of a signal, took more memory or
        time than it may, or could not be started.
    """
    limits = limits or limits_for(size_of(path, described))
    with _Reader(path, limits) as reader:
        reader.ask(_request(path, sidecar, "scan", limits))
        return reader.answer(Scan)


def read_image_isolated(path: Path, limits: Limits | None = None) -> Image:
    """Read a reference image in a process of its own.

    :param path: of a file or folder.
    :raises DataError: as for :func:`read_isolated`.
    """
    limits = limits or limits_for(size_of(path, None))
    with _Reader(path, limits) as reader:
        reader.ask(_request(path, None, "image", limits))
        return reader.answer(Image)


def _request(path: Path, sidecar: Path | None, wanted: str, limits: Limits) -> bytes:
    request = {
        "search": [entry for entry in sys.path if isinstance(entry, str)] + [_root()],
        "path": os.fsencode(path).hex(),
        "sidecar": None if sidecar is None else os.fsencode(sidecar).hex(),
        "wanted": wanted,
        "memory": limits.memory,
        "seconds": limits.seconds,
        "parent": os.getpid(),
    }
    return json.dumps(request).encode("ascii") + b"\n"


def _root() -> str:
    """Folder of this package, for installations that are found by an import hook."""
    return str(Path(sciinv.__path__[0]).parent)


def _command() -> list[str]:
    command = [sys.executable, "-P", "-X", f"utf8={sys.flags.utf8_mode}"]
    command += ["-s"] if sys.flags.no_user_site else []
    command += ["-S"] if sys.flags.no_site else []
    command += ["-B"] if sys.dont_write_bytecode else []
    return [*command, "-c", START]


def _environment() -> dict[str, str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEEP or not name.startswith(_DROPPED)
    }
    # each thread of a numerical library reserves address space
    return kept | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


class _Reader:
    """One reading process; leaving the context ends it in any case."""

    def __init__(self, path: Path, limits: Limits) -> None:
        self.path, self.limits = path, limits
        self.late = False
        self.said = bytearray()

    def __enter__(self) -> _Reader:
        try:
            self.process = subprocess.Popen(  # noqa: S603  our own interpreter
                _command(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=_environment(),
                start_new_session=True,  # Ctrl-C is for us; we end it
            )
        except OSError as error:
            raise DataError(
                self.path,
                found=f"no process to read it in: {error.strerror or error}",
                hint=f"{SWITCH}=0 reads files in the main process, without limits",
            ) from None
        self.clock = threading.Timer(self.limits.seconds, self._too_late)
        self.clock.daemon = True
        self.clock.start()
        self.listener = threading.Thread(target=self._listen, daemon=True)
        self.listener.start()
        return self

    def __exit__(self, *args: object) -> None:
        self.clock.cancel()
        self.process.kill()
        self.process.wait()
        self.listener.join(_CLOSING_TIME)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            with suppress(OSError):
                _open(pipe).close()

    def _too_late(self) -> None:
        self.late = True
        self.process.kill()

    def _listen(self) -> None:
        """Keep the end of what libraries print."""
        with suppress(OSError, ValueError):
            while block := _open(self.process.stderr).read(2**16):
                self.said = (self.said + block)[-_KEPT:]

    def ask(self, request: bytes) -> None:
        view = memoryview(request)
        with suppress(BrokenPipeError):  # it died; why is found out with the answer
            while len(view):
                view = view[_open(self.process.stdin).write(view) :]

    def answer(self, wanted: type[_Answer]) -> _Answer:
        stream = _open(self.process.stdout)
        _widen(stream)
        try:
            return read_answer(stream.readinto, self.limits.memory, wanted)  # type: ignore[attr-defined]
        except MemoryError:
            raise self._out_of_memory() from None
        except EOFError:
            raise self._death() from None
        except WireError as error:
            raise DataError(
                self.path, found=f"no answer from the process that read it ({error})",
                expected="a readable file",
            ) from None  # fmt: skip

    def _out_of_memory(self) -> DataError:
        return DataError(
            self.path,
            found=f"a file that takes more than {_size(self.limits.memory)} of memory to read",
            expected="less",
            hint=f"if it is as large as that, set {MEMORY}, for example "
            f"{MEMORY}={_size(2 * self.limits.memory).replace(' ', '')}",
        )

    def _death(self) -> DataError:
        """Say how the process ended that did not answer."""
        try:
            code = self.process.wait(_CLOSING_TIME)
        except subprocess.TimeoutExpired:
            code = 0
        late = self.late or (hasattr(signal, "SIGXCPU") and code == -signal.SIGXCPU)
        if late:
            seconds = f"{self.limits.seconds:.3g}"
            return DataError(
                self.path,
                found=f"a file that takes more than {seconds} s to read",
                expected="less",
                hint=f"if it is sound and the disc is slow, set {SECONDS}, for example "
                f"{SECONDS}={10 * self.limits.seconds:.0f}",
            )
        if code == OUT_OF_MEMORY:
            return self._out_of_memory()
        self.listener.join(_CLOSING_TIME)
        how = f"died of {_signal(-code)}" if code < 0 else f"ended with code {code}"
        lines = self.said.decode("utf-8", "replace").strip().splitlines()
        last = f", saying {lines[-1][:120]!r}" if lines else ""
        return DataError(
            self.path,
            found=f"content that breaks the library that reads it: the process {how}{last}",
            expected="a readable file",
            hint="the file is damaged, or reading it needs more memory than the "
            f"{_size(self.limits.memory)} allowed ({MEMORY})",
        )


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None  # noqa: S101  all three are pipes
    return pipe


def _widen(stream: IO[bytes]) -> None:
    """Make the pipe hold more at a time, where the system lets us."""
    with suppress(ImportError, AttributeError, OSError):
        import fcntl

        fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, _PIPE)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _size(count: float) -> str:
    return f"{count / 1e9:.3g} GB"
