"""Wheel, sdist, plain and editable installation give a working ``sciinv`` and nothing else."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import sciinv

ROOT = Path(__file__).parent.parent
VERSION = sciinv.__version__
STRAY = ("operators", "data", "tests", "docs", "benchmarks", "examples", "scripts", "baselines")
SHIPPED = sorted(p.name for p in (ROOT / "sciinv/priors/shipped").glob("*") if p.is_file())

# a checkout may hold environments, results and caches; a build must not depend on them
NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv*", "venv", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", "_build",
    "auto_examples", "generated", "demo", "runs", "*_sciinv", "*.h5", "*.npy", "*.nii.gz",
)  # fmt: skip

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_tree(target: Path) -> Path:
    shutil.copytree(ROOT, target, symlinks=True, ignore=NOT_COPIED)
    return target


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build sdist and wheel (the wheel from the sdist, as ``python -m build`` does)."""
    tree = copy_tree(tmp_path_factory.mktemp("build") / "tree")
    out = tree.parent / "out"
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, cwd=tree)
    (wheel,) = out.glob("*.whl")
    (sdist,) = out.glob("*.tar.gz")
    return {"wheel": wheel, "sdist": sdist}


def check_import(site: Path, cwd: Path) -> None:
    """Import sciinv from ``site`` in an interpreter that sees neither the checkout nor its cwd."""
    run(
        sys.executable,
        "-I",
        "-c",
        f"import sys; sys.path.insert(0, {str(site)!r})\n"
        "import sciinv, sciinv.errors, sciinv.data, sciinv.cli\n"
        f"assert sciinv.__file__.startswith({str(site)!r}), sciinv.__file__\n"
        f"assert sciinv.__version__ == {VERSION!r}\n"
        "from importlib.metadata import version\n"
        f"assert version('sciinv') == {VERSION!r}",
        cwd=cwd,
    )


def test_wheel_holds_the_package_and_nothing_else(built: dict[str, Path]) -> None:
    names = zipfile.ZipFile(built["wheel"]).namelist()
    assert {n.partition("/")[0] for n in names} == {"sciinv", f"sciinv-{VERSION}.dist-info"}
    assert "sciinv/py.typed" in names
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "sciinv").rglob("*.py")}
    assert modules <= set(names), sorted(modules - set(names))
    for name in SHIPPED:
        assert f"sciinv/priors/shipped/{name}" in names
    data = {
        str(p.relative_to(ROOT))
        for p in (ROOT / "sciinv").rglob("*")
        if p.is_file() and p.suffix not in {".py", ".pyc", ".nbi", ".nbc"}
    }
    assert data <= set(names), sorted(data - set(names))


def test_sdist_leaves_out_links_and_tests(built: dict[str, Path]) -> None:
    with tarfile.open(built["sdist"]) as archive:
        members = archive.getmembers()
    assert not [m.name for m in members if m.issym() or m.islnk()]
    top = {m.name.split("/")[1] for m in members if "/" in m.name}
    assert top.isdisjoint(STRAY), sorted(top.intersection(STRAY))
    assert {"pyproject.toml", "README.md", "LICENSE", "CITATION.cff", "sciinv"} <= top
    names = {m.name.partition("/")[2] for m in members}
    for name in SHIPPED:
        assert f"sciinv/priors/shipped/{name}" in names


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_installed_package_works(built: dict[str, Path], kind: str, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--target", site, built[kind], cwd=tmp_path,
    )  # fmt: skip
    modules = {p.name for p in site.iterdir()} - {"bin"}
    assert modules == {"sciinv", f"sciinv-{VERSION}.dist-info"}
    check_import(site, tmp_path)
    assert (site / "bin" / "sciinv").exists()


def test_editable_installation_exposes_only_sciinv(tmp_path: Path) -> None:
    tree = copy_tree(tmp_path / "tree")
    prefix = tmp_path / "prefix"
    # --ignore-installed: pip must not remove the installation that runs this test
    run(
        sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation",
        "--ignore-installed", "--prefix", prefix, "--editable", tree, cwd=tmp_path,
    )  # fmt: skip
    (site,) = prefix.glob("lib*/python3.*/site-packages")
    # -S: without the running environment's own packages only this installation can be found
    out = run(
        sys.executable, "-I", "-S", "-c",
        f"import site; site.addsitedir({str(site)!r})\n"
        "import importlib.util as u, sciinv\n"
        "print(sciinv.__file__)\n"
        f"print([n for n in {STRAY!r} if u.find_spec(n)])",
        cwd=tmp_path,
    )  # fmt: skip
    assert out.splitlines() == [str(tree / "sciinv" / "__init__.py"), "[]"]


def test_root_links_lead_into_the_package() -> None:
    for name in ("operators", "data"):
        link = ROOT / name
        assert link.is_symlink()
        assert link.resolve() == (ROOT / "sciinv" / name).resolve()


def test_metadata_agrees_with_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"sciinv": "sciinv.cli:app"}
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {VERSION}\n" in citation
    assert f"\n## {VERSION}" in (ROOT / "CHANGELOG.md").read_text()
