#!/usr/bin/env bash
# Are there wheels of all dependencies for the Python versions that the tests do not run on?
# Resolves without installing anything: scripts/check_wheels.sh [VERSION ...]
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# pip cannot build the project itself for another version, so only its requirements are resolved
"$python" - >"$scratch/requirements.txt" <<'PY'
import tomllib
from pathlib import Path

print("\n".join(tomllib.loads(Path("pyproject.toml").read_text())["project"]["dependencies"]))
PY

status=0
for version in "${@:-3.12 3.13}"; do
    for v in $version; do
        if "$python" -m pip install -qq --dry-run --ignore-installed --no-cache-dir \
            --target "$scratch/target" --python-version "$v" --only-binary=:all: \
            --report "$scratch/report-$v.json" -r "$scratch/requirements.txt"; then
            "$python" - "$v" "$scratch/report-$v.json" <<'PY'
import json
import sys
from pathlib import Path

found = json.loads(Path(sys.argv[2]).read_text())["install"]
names = {i["metadata"]["name"].lower(): i["metadata"]["version"] for i in found}
shown = ", ".join(f"{n} {names[n]}" for n in ("torch", "deepinv", "astra-toolbox", "numba", "h5py"))
print(f"Python {sys.argv[1]}: wheels for all {len(names)} packages ({shown})")
PY
        else
            echo "Python $v: no complete set of wheels" >&2
            status=1
        fi
    done
done
exit "$status"
