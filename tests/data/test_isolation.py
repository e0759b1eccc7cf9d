"""Reading in a process of its own: the same scans, and every way to die is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from sciinv.data import isolation, load
from sciinv.data.isolation_limits import Limits, limits_for, machine_memory, size_of
from sciinv.data.load import ALL_FORMATS
from sciinv.data.sidecar import read_sidecar
from sciinv.errors import DataError

from .example_files import SIDE, SINOGRAM, WRITERS
from .test_bart import write_pair
from .test_isolation_wire import same

pytestmark = pytest.mark.skipif(os.name != "posix", reason="limits and signals are those of POSIX")

# a format of another package: its file says in one word what the reader does
BREAKING = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from sciinv.data import MRIGeometry, Scan

NAME = "breaking"

def sniff(path):
    return path.read_bytes().startswith(b"BREAK ")

def scan(path, **changes):
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((1, 1, 4, 4)) + 1j).astype(np.complex64)
    fields = dict(kind="mri", data=data, geometry=MRIGeometry((4, 4), np.ones((4, 4), bool)),
                  format=NAME, source=path, units="a.u.", affine=np.eye(4))
    return Scan(**(fields | changes))

def read(path, sidecar):
    word = path.read_text().split()[1]
    if word == "segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if word == "abort":
        os.write(2, b"free(): invalid pointer\\n")
        os.abort()
    if word == "exit":
        os._exit(0)
    if word == "memory":
        np.ones(2**40)
    if word == "cpp":  # what libraries in C++ do when memory ends
        try:
            np.ones(2**40)
        except MemoryError:
            os.abort()
    if word == "hang":
        (path.parent / f"pid-{os.getpid()}").touch()
        while True:
            time.sleep(0.1)
    if word == "raise":
        raise KeyError("lost")
    if word == "leave":
        sys.exit("gone")
    if word == "object":
        return scan(path, header={"serial": object()})
    if word == "write":
        (path.parent / "left-behind").write_text("x")
    if word == "noise":
        for _ in range(100):
            os.write(1, b"x" * 65536)
            os.write(2, b"y" * 65536)
        print("printed")
        import warnings
        warnings.warn("warned")
    notes = [f"stdin {os.read(0, 1)!r}"]
    notes += sorted(name for name in os.environ if name.startswith(("HDF5", "PYTHON")))
    notes += sorted({"torch", "deepinv", "scipy"} & set(sys.modules))
    notes.append(str(os.getpid()))
    return scan(path, notes=tuple(notes))
"""


@pytest.fixture
def breaking(tmp_path, monkeypatch):
    """Install the format; return a function that writes a file that makes it do something."""
    site = tmp_path / "site"
    about = site / "breaking-1.0.dist-info"
    about.mkdir(parents=True)
    (site / "breaking_reader.py").write_text(BREAKING)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: breaking\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[sciinv.formats]\nbreaking = breaking_reader\n")
    monkeypatch.syspath_prepend(site)

    def write(word: str) -> Path:
        path = tmp_path / f"{word}.scan"
        path.write_text(f"BREAK {word}\n")
        return path

    return write


def refusal(path: Path, *words: str, **options) -> str:
    with pytest.raises(DataError) as caught:
        load(path, isolated=True, **options)
    text = str(caught.value)
    assert "\n" not in text
    for word in (str(path), *words):
        assert word in text, text
    return text


# the same scans ---------------------------------------------------------------------------------
def test_every_format_has_an_example():
    assert {form.NAME for form in ALL_FORMATS} == set(WRITERS), "add one to example_files.py"


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_reads_the_same(tmp_path, name):
    if name == "twix":
        pytest.importorskip("twixtools")
    path = WRITERS[name](tmp_path)
    scan = load(path, isolated=True)
    assert scan.format == name
    same(scan, load(path, isolated=False))


def test_isolated_is_the_default(breaking, monkeypatch):
    path = breaking("fine")
    monkeypatch.delenv("SCIINV_READ_ISOLATED", raising=False)
    assert load(path).notes[-1] != str(os.getpid())
    assert load(path, isolated=False).notes[-1] == str(os.getpid())
    monkeypatch.setenv("SCIINV_READ_ISOLATED", "0")
    assert load(path).notes[-1] == str(os.getpid())
    assert load(path, isolated=True).notes[-1] != str(os.getpid())
    monkeypatch.setenv("SCIINV_READ_ISOLATED", "no")
    with pytest.raises(DataError, match="SCIINV_READ_ISOLATED: found 'no', expected 0 or 1"):
        load(path)


def test_what_the_process_has(breaking, monkeypatch):
    for name in ("HDF5_PLUGIN_PATH", "HDF5_DRIVER", "HDF5_VOL_CONNECTOR", "PYTHONSTARTUP"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HDF5_USE_FILE_LOCKING", "FALSE")  # a matter of network file systems
    *notes, _ = load(breaking("fine"), isolated=True).notes
    assert notes == ["stdin b''", "HDF5_USE_FILE_LOCKING"]


def test_prints_and_warnings_are_not_shown(breaking, capfd):
    scan = load(breaking("noise"), isolated=True)
    assert scan.data.shape == (1, 1, 4, 4)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", [b"-c a;'$(x)\n.h5", "ü\u202e".encode() + b"\xff\xfe.h5"])
def test_odd_names(tmp_path, name, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = WRITERS["sciinv"](tmp_path)
    path = Path(os.fsdecode(name))
    try:
        made.rename(path)
    except OSError:
        pytest.skip("the file system takes no such name")
    scan = load(path, isolated=True)
    assert scan.source == path  # relative, as it was given
    same(scan, load(path, isolated=False))


def test_side_cars_and_pairs_by_relative_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("scan.npy", SINOGRAM)
    Path("other.toml").write_text(SIDE)
    assert load("scan.npy", sidecar="other.toml", isolated=True).data.shape == (1, *SINOGRAM.shape)
    with pytest.raises(DataError, match=r"other\.tom: found no such file"):
        load("scan.npy", sidecar="other.tom", isolated=True)
    rng = np.random.default_rng(0)
    write_pair(Path("pair"), rng.standard_normal((6, 5)) + 1j)
    scan = load("pair", isolated=True)
    assert scan.source == Path("pair.cfl")
    same(scan, load("pair", isolated=False))


def test_missing_files_start_no_process(tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess, "Popen", None)
    refusal(tmp_path / "no.h5", "no such file")
    refusal(tmp_path, "a folder")


def test_errors_of_readers_are_the_same(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 4)))
    texts = []
    for isolated in (True, False):
        with pytest.raises(DataError) as caught:
            load(path, isolated=isolated)
        texts.append(vars(caught.value))
    assert texts[0] == texts[1]


def test_threads_read_at_the_same_time(breaking):
    path, pids = breaking("fine"), []
    threads = [
        threading.Thread(target=lambda: pids.append(load(path, isolated=True).notes[-1]))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(pids)) == 3


# every way to die -------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("word", "words"),
    [
        ("segv", ("died of SIGSEGV", "damaged")),
        ("abort", ("died of SIGABRT", "free(): invalid pointer")),
        ("exit", ("ended with code 0",)),
        ("cpp", ("died of SIGABRT", "SCIINV_READ_MEMORY")),
        ("raise", ("KeyError", "lost")),
        ("leave", ("SystemExit", "gone")),
        ("object", ("header", "object", "'breaking'", "cannot leave the process")),
        ("write", ("File too large",)),
    ],
)
def test_death_is_one_line(breaking, word, words):
    path = breaking(word)
    refusal(path, *words)


def test_memory_limit(breaking, monkeypatch):
    monkeypatch.setenv("SCIINV_READ_MEMORY", "1.5GB")
    refusal(breaking("memory"), "more than 1.5 GB of memory", "SCIINV_READ_MEMORY=3GB")


def test_memory_of_this_process(breaking):
    with pytest.raises(DataError, match=r"memory\.scan: found a file that takes more memory"):
        load(breaking("memory"), isolated=False)


def test_a_real_file_above_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "a.npy"
    np.save(path, np.broadcast_to(np.float64(1), (2500, 8000)))
    path.with_suffix(".toml").write_text(SIDE.replace("24", "2500"))
    monkeypatch.setenv("SCIINV_READ_MEMORY", "300MB")
    refusal(path, "more than 0.3 GB of memory")


def test_time_limit(breaking, monkeypatch):
    monkeypatch.setenv("SCIINV_READ_SECONDS", "0.8")
    started = []
    popen = subprocess.Popen

    def start(*args, **kwargs):
        started.append(popen(*args, **kwargs))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", start)
    begin = time.monotonic()
    refusal(breaking("hang"), "more than 0.8 s", "SCIINV_READ_SECONDS=8")
    assert time.monotonic() - begin < 30
    assert [process.returncode for process in started] == [-signal.SIGKILL]


def test_the_file_disappears_between(tmp_path, monkeypatch):
    path = WRITERS["sciinv"](tmp_path)
    real = isolation.size_of
    monkeypatch.setattr(isolation, "size_of", lambda *args: (real(*args), path.unlink())[0])
    refusal(path, "no such file")


def test_no_process_can_be_started(tmp_path, monkeypatch):
    path = WRITERS["sciinv"](tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python-that-is-not-there"))
    refusal(path, "no process to read it in", "SCIINV_READ_ISOLATED=0")


@pytest.mark.parametrize("program", [None, "", "/opt/blender", "frozen"])
def test_programs_without_an_interpreter_read_themselves_and_say_so(tmp_path, monkeypatch, program):
    path = WRITERS["sciinv"](tmp_path)
    if program == "frozen":
        monkeypatch.setattr(sys, "frozen", True, raising=False)
    else:
        monkeypatch.setattr(sys, "executable", program)
    assert "no Python interpreter to start" in load(path, isolated=True).notes[-1]


def test_a_process_that_cannot_import_is_one_line(tmp_path, monkeypatch):
    path = WRITERS["sciinv"](tmp_path)
    monkeypatch.setattr(isolation, "START", "raise SystemExit('no such module')")
    refusal(path, "ended with code 1", "no such module")


def test_a_format_that_cannot_be_imported_is_named(breaking, tmp_path):
    (tmp_path / "site" / "breaking_reader.py").write_text("import no_such_module\n")
    with pytest.raises(DataError, match=r"format 'breaking' .*no_such_module"):
        load(breaking("fine"), isolated=True)


# nobody stays behind ----------------------------------------------------------------------------
def child_of(path: Path) -> int:
    """Wait for the reader of a hanging file and return its process number."""
    for _ in range(1000):
        found = list(path.parent.glob("pid-*"))
        if found:
            return int(found[0].name[4:])
        time.sleep(0.05)
    raise AssertionError("the reader never began")


def gone(pid: int) -> bool:
    """Wait until a process has ended."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
            if "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text():
                return True  # its new parent has not asked for it yet
        except (OSError, ValueError):
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_the_reader_ends_with_whoever_asked(breaking, tmp_path, number):
    path = breaking("hang")
    # whoever runs the tests in the background may have told them to ignore Ctrl-C
    code = (
        "import signal, sys\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"sys.path[:] = {sys.path!r}\nfrom sciinv import load\nload({str(path)!r})"
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith("SCIINV")}
    asker = subprocess.Popen(
        [sys.executable, "-c", code], env=environment, stderr=subprocess.PIPE, text=True
    )
    pid = child_of(path)
    assert os.getsid(pid) != os.getsid(asker.pid)  # Ctrl-C on a terminal does not reach it
    asker.send_signal(number)
    _, said = asker.communicate(timeout=20)
    assert asker.returncode == -number
    assert ("KeyboardInterrupt" in said) == (number == signal.SIGINT)
    assert gone(pid)


def test_an_error_in_the_asker_ends_the_reader(breaking, monkeypatch):
    path = breaking("hang")

    def broken(readinto, limit, wanted):
        child_of(path)
        raise RuntimeError("here")

    monkeypatch.setattr(isolation, "read_answer", broken)
    with pytest.raises(RuntimeError, match="here"):
        load(path, isolated=True)
    assert gone(child_of(path))


# limits -----------------------------------------------------------------------------------------
def test_limits_grow_with_the_file(monkeypatch):
    monkeypatch.delenv("SCIINV_READ_MEMORY", raising=False)
    monkeypatch.setattr("sciinv.data.isolation_limits.machine_memory", lambda: 64 * 10**9)
    assert limits_for(0) == Limits(2_500_000_000, 60.0)
    assert limits_for(10**9) == Limits(18_500_000_000, 260.0)
    assert limits_for(10**10).memory == 64 * 10**9
    monkeypatch.setattr("sciinv.data.isolation_limits.machine_memory", lambda: None)
    assert limits_for(10**10).memory == 162_500_000_000


def test_the_machine_has_memory():
    assert (machine_memory() or 10**9) > 10**8


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("8GB", 8e9), ("8 gb", 8e9), ("1.5e9", 1.5e9), ("2GiB", 2**31), ("512MB", 512e6),
        ("3000000000", 3e9), ("1TB", 1e12), ("300000 kB", 3e8),
    ],
)  # fmt: skip
def test_memory_as_users_write_it(monkeypatch, text, size):
    monkeypatch.setenv("SCIINV_READ_MEMORY", text)
    assert limits_for(0).memory == size


@pytest.mark.parametrize("text", ["lots", "-1GB", "0", "100MB", "8 apples", "nan", "1e30", "8GB8"])
def test_memory_that_is_none(monkeypatch, text):
    monkeypatch.setenv("SCIINV_READ_MEMORY", text)
    with pytest.raises(DataError, match="SCIINV_READ_MEMORY: found .*expected a size"):
        limits_for(0)


@pytest.mark.parametrize("text", ["soon", "-1", "0", "nan", "inf"])
def test_seconds_that_are_none(monkeypatch, text):
    monkeypatch.setenv("SCIINV_READ_SECONDS", text)
    with pytest.raises(DataError, match="SCIINV_READ_SECONDS: found .*expected seconds"):
        limits_for(0)


def test_the_size_counts_all_files_of_a_scan(tmp_path):
    for name, size in (("a.npy", 10), ("blank.npy", 200), ("track.npy", 3000), ("p.cfl", 50_000)):
        (tmp_path / name).write_bytes(bytes(size))
    (tmp_path / "p.hdr").write_bytes(bytes(4))
    side = tmp_path / "a.toml"
    side.write_text(SIDE + '[blank]\nfile = "blank.npy"\n[dark]\nfile = "missing.npy"\n')
    assert size_of(tmp_path / "a.npy", None) == 10
    assert size_of(tmp_path / "a.npy", read_sidecar(side)) == 210
    assert size_of(tmp_path / "p.hdr", None) == size_of(tmp_path / "p.cfl", None) + 4 == 50_004
    side.write_text(
        'kind = "mri"\nquantity = "kspace"\naxes = ["shot", "sample"]\n[mri]\nfov = [9, 9]\n'
        'trajectory = { file = "track.npy", unit = "normalised" }\n'
    )
    assert size_of(tmp_path / "a.npy", read_sidecar(side)) == 3010


def test_limits_hold_in_the_process(tmp_path):
    code = (
        "import os, resource, json\n"
        "from sciinv.data import isolation_child as c\n"
        "c._limit_resources(10**9, 3.0)\n"
        "c._limit_files()\n"
        "r = resource\n"
        "print([r.getrlimit(k) for k in (r.RLIMIT_AS, r.RLIMIT_CPU, r.RLIMIT_CORE, "
        "r.RLIMIT_NOFILE, r.RLIMIT_FSIZE)])\n"
        "c._limit_resources(2 * 10**9, 5.0)\n"  # a limit that is there already stays
        "print(r.getrlimit(r.RLIMIT_AS))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        f"{[(10**9, 10**9), (6, 6), (0, 0), (256, 256), (0, 0)]}",
        f"{(10**9, 10**9)}",
    ]
