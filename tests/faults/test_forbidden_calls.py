"""The package contains no call that turns data into code, found in its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import sciinv

PACKAGE = Path(sciinv.__file__).parent

# modules that unpickle, run code or open archives by the names inside them; importing is enough
MODULES = {
    "pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "yaml",
    "jsonpickle", "pickletools", "code", "codeop", "tarfile", "shutil.unpack_archive",
    "multiprocessing.shared_memory", "pty",
}  # fmt: skip
# names of built-in functions
BUILT_IN = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
# last part of a dotted call, with whichever object it is called on
METHODS = {
    "loads": {"json", "tomllib"},  # the modules of which it is meant and harmless
    "load": {"safetensors", "nibabel", "nib", "np", "numpy", "entry", "point", "tomllib", "json"},
    "extractall": set(), "extract": set(), "unpack_archive": set(), "load_module": set(),
    "literal_eval": set(), "load_state_dict_from_url": set(), "urlopen": set(),
    "urlretrieve": set(), "system": {"platform"}, "popen": set(), "exec_module": set(),
    "from_pretrained": set(), "unsafe_load": set(), "full_load": set(), "read_pickle": set(),
}  # fmt: skip
# options that switch safety off
OPTIONS = {"allow_pickle": True, "weights_only": False, "shell": True}
NETWORK = {
    "socket", "urllib.request", "http.client", "http.server", "requests", "httpx", "aiohttp",
    "ftplib", "smtplib", "xmlrpc", "huggingface_hub", "webbrowser",
}  # fmt: skip


def forbidden(source: str) -> list[tuple[int, str]]:
    """Return ``(line, what)`` for everything that must not be there."""
    found: list[tuple[int, str]] = []

    def module(line: int, name: str) -> None:
        parts = name.split(".")
        prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
        found.extend((line, f"imports {bad}") for bad in sorted(prefixes & (MODULES | NETWORK)))

    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                module(node.lineno, alias.name)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            for alias in node.names:
                module(node.lineno, f"{node.module}.{alias.name}")
        elif isinstance(node, ast.Call):
            found.extend((node.lineno, what) for what in _of_call(node))
            first = node.args[0] if node.args else None
            if _name(node.func) in ("import_module", "importorskip") and isinstance(
                first, ast.Constant
            ):
                module(node.lineno, str(first.value))
    return found


def _name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _of_call(node: ast.Call) -> list[str]:
    found = []
    if isinstance(node.func, ast.Name) and node.func.id in BUILT_IN:
        found.append(f"calls {node.func.id}")
    if isinstance(node.func, ast.Attribute) and node.func.attr in METHODS:
        owner = _name(node.func.value)
        if owner not in METHODS[node.func.attr]:
            found.append(f"calls {owner or '?'}.{node.func.attr}")
    for keyword in node.keywords:
        value = keyword.value
        if keyword.arg in OPTIONS:
            safe = isinstance(value, ast.Constant) and value.value is (not OPTIONS[keyword.arg])
            if not safe:
                found.append(f"passes {keyword.arg}={ast.unparse(value)}")
    if _name(node.func) == "load" and _owner(node) in ("np", "numpy"):
        named = {keyword.arg for keyword in node.keywords}
        if "allow_pickle" not in named:
            found.append("calls np.load without allow_pickle=False")
    return found


def _owner(node: ast.Call) -> str:
    return _name(node.func.value) if isinstance(node.func, ast.Attribute) else ""


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_turns_data_into_code(path: Path) -> None:
    problems = forbidden(path.read_text(encoding="utf-8"))
    assert not problems, "\n".join(f"{path}, line {line}: {what}" for line, what in problems)


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import numpy, pickle as p",
        "from pickle import loads",
        "from multiprocessing import shared_memory",
        "from urllib import request",
        "import urllib.request",
        "def f():\n    import socket",
        "import_module('yaml')",
        "eval('1')",
        "exec(text)",
        "__import__('os')",
        "torch.load(path)",
        "torch.load(path, weights_only=True)",
        "t.load(path)",
        "yaml.load(text)",
        "archive.extractall('.')",
        "zipfile.ZipFile(p).extract('a')",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path, allow_pickle=flag)",
        "anything(weights_only=False)",
        "subprocess.run('ls', shell=True)",
        "os.system('ls')",
        "torch.hub.load_state_dict_from_url(u)",
        "torch.jit.load(p)",
        "spec.loader.exec_module(m)",
    ],
)
def test_the_check_finds(source: str) -> None:
    assert forbidden(source)


@pytest.mark.parametrize(
    "source",
    [
        "json.loads(text)",
        "np.load(path, allow_pickle=False)",
        "net.eval()",
        "re.compile(pattern)",
        "text = 'eval(x) pickle.loads'",
        "import zipfile",
        "load(path)",
    ],
)
def test_the_check_leaves(source: str) -> None:
    assert not forbidden(source)
