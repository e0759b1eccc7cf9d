"""One run at a time into one output folder."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sciinv.errors import DataError

# file systems without locks: a run there is not refused, it only is not guarded
_NO_LOCKS = frozenset({errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})


@contextmanager
def output_lock(folder: Path) -> Iterator[None]:
    """Hold the lock of an output folder, which need not exist.

    The lock is one of the kernel on the file ``.NAME.lock`` beside the folder, which holds the
    number of the process: it ends with the process, however that ends, and a file that stays
    behind locks nothing.

    :raises DataError: another process holds it, or the file cannot be made.
    """
    folder = folder.expanduser().absolute()
    if folder.is_symlink():
        folder = folder.resolve()
    path = folder.with_name(f".{folder.name}.lock")
    try:
        made = _missing_parents(folder)
        descriptor = _acquire(folder, path)
    except OSError as error:
        reason = error.strerror or error
        raise DataError(
            folder,
            found=f"{folder.parent} cannot be written ({reason})",
            expected="a folder that can be written",
            hint="choose another with -o",
        ) from error
    try:
        yield
    finally:
        # removed while it is still held: whoever waits for it sees that the name has gone
        path.unlink(missing_ok=True)
        os.close(descriptor)
        _remove_empty(made)


def _missing_parents(folder: Path) -> list[Path]:
    """Make the parents of a folder; return those that were missing, the innermost first."""
    missing = [parent for parent in folder.parents if not parent.exists()]
    folder.parent.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return  # the result is in it


def _acquire(folder: Path, path: Path) -> int:
    import fcntl

    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DataError(
                folder,
                found=f"process {holder or 'unknown'} writing into this folder",
                expected="one run at a time",
                hint="wait for it, or choose another output folder",
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
        if _same_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()}\n".encode())
            return descriptor
        os.close(descriptor)  # its holder removed it in the meantime: the next one is ours


def _same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
