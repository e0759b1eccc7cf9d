"""What the kernel sees of reading damaged files: nothing but those files is opened.

Python's own audit hooks do not see what libraries in C open; ``strace`` does.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .campaign import ROOT
from .rewrite import TRAP

COUNT = int(os.environ.get("SCIINV_TRACED", "30"))
# calls that open, make, change or remove files, reach other machines, or start programs
CALLS = (
    "open,openat,openat2,creat,execve,connect,socket,bind,sendto,unlink,unlinkat,rename,renameat,"
    "renameat2,mkdir,mkdirat,link,linkat,symlink,symlinkat,truncate,chmod,fchmodat,fork,vfork,memfd_create"
)
_OPEN = re.compile(r'open(?:at)?\((?:AT_FDCWD, )?"((?:[^"\\]|\\.)*)", ([A-Z_|]+)')
_WRITES = {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}


def allowed() -> tuple[str, ...]:
    """Beginnings of names that an interpreter opens by itself."""
    paths = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, str(ROOT / "sciinv")}
    paths |= {str(Path(path).resolve()) for path in paths}
    return (*(f"{path}/" for path in paths), "/proc/self/", "/proc/meminfo", "/sys/", "/lib/",
            "/usr/lib/", "/etc/ld.so.cache", "/dev/null", "/dev/urandom")  # fmt: skip


def strange(lines: list[str], folder: Path) -> list[str]:
    """Calls between the marks that are neither a reading of input nor the interpreter's own."""
    found, inside = [], False
    for line in lines:
        match = _OPEN.search(line)
        name = match.group(1).encode().decode("unicode_escape") if match else ""
        if name == f"{folder}/BEGIN":
            inside = True
        elif name == f"{folder}/END":
            return found
        elif not inside or "+++ exited" in line or "--- SIG" in line:
            continue
        elif match is None:
            found.append(line)
        else:
            writes = bool(_WRITES & set(match.group(2).split("|")))
            # what is looked for and not there gives nothing away
            missing = "ENOENT" in line or "ENOTDIR" in line
            ours = name.startswith((f"{folder}/", *allowed())) and "/../" not in name
            if writes or not (ours or missing):
                found.append(line)
    raise AssertionError(f"no end among {len(lines)} lines: {lines[-3:]}")


def trace(command: list[str], log: Path) -> subprocess.CompletedProcess[str]:
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed: what is opened was not looked at")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
                   "OMP_NUM_THREADS": "1"}  # fmt: skip
    probe = subprocess.run(["strace", "-o", str(log), "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip("strace may not trace here")
    return subprocess.run(
        ["strace", "-f", "--seccomp-bpf", "-s", "4096", "-e", f"trace={CALLS}", "-o", str(log),
         *command],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_mutants_open_nothing_but_themselves(tmp_path):
    pytest.importorskip("pydicom")
    folder = tmp_path / "input"
    folder.mkdir()
    log = tmp_path / "log"
    ran = trace([sys.executable, "-m", "tests.fuzz.quiet", str(folder), str(COUNT)], log)
    assert ran.returncode == 0, ran.stderr[-2000:]
    answer = json.loads((folder / "END").read_text())
    assert set(answer["outcomes"]) == {"scan", "refused"}
    assert len(answer["outcomes"]) > 10 * COUNT
    assert answer["traps"] > 1  # mutants that name a file elsewhere
    lines = log.read_text(errors="replace").splitlines()
    assert strange(lines, folder) == []


def test_strange_calls_are_seen(tmp_path):
    log, folder = tmp_path / "log", tmp_path / "in"
    folder.mkdir()
    text = f"""
import os, socket, subprocess, sys
open("{folder}/x", "w").close(); open("{folder}/BEGIN", "w").close()
open("{TRAP}").close(); open("{folder}/x").close(); open("{folder}/../log").close()
open("{folder}/new", "w").close(); os.unlink("{folder}/new")
socket.socket().close(); subprocess.run(["true"]); os.path.exists("/etc/passwd")
open("{folder}/END", "w").close()
"""
    ran = trace([sys.executable, "-c", text], log)
    assert ran.returncode == 0, ran.stderr
    seen = "\n".join(strange(log.read_text().splitlines(), folder))
    for word in (TRAP, "/../log", f'{folder}/new", O_WRONLY', "unlink", "socket(", "execve("):
        assert word in seen, seen
    assert f"{folder}/x" not in seen and "passwd" not in seen
