"""A process whose system calls are looked at: everything is made and imported before ``BEGIN``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from .mutate import mutant
from .rewrite import TRAP
from .seeds import FORMATS, READERS, make
from .worker import judge, prepare, write


def main(folder: Path, count: int) -> None:
    prepare("prior")
    import pydicom  # noqa: F401

    work = []
    for name in FORMATS:
        seeds = make(name)
        reader = READERS.get(name, "scan")
        for number in range(count if seeds else 0):
            place = folder / f"{name}-{number}"
            place.mkdir()
            work.append((reader, write(mutant(seeds, number), place)))
        for number, seed in enumerate(seeds):
            place = folder / f"warm-{name}-{number}"
            place.mkdir()
            judge(reader, write(seed, place))  # what is imported on the way
    (folder / "BEGIN").touch()
    outcomes = [judge(reader, path)[0] for reader, path in work]
    traps = sum(TRAP.encode() in file.read_bytes() for _, path in work for file in _files(path))
    (folder / "END").write_text(json.dumps({"outcomes": outcomes, "traps": traps}))


def _files(path: Path) -> list[Path]:
    return list((path if path.is_dir() else path.parent).iterdir())


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
