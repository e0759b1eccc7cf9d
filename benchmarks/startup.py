"""How long does the command line take to answer? ``python benchmarks/startup.py [repeats]``.

Prints the best and the median of fresh processes: the bare interpreter, ``import sciinv``,
``sciinv --help``, and, for comparison, ``import torch``. Ends with exit code 1 if the help takes
longer than its budget of 0.5 s (best of the repeats: the machine's other work only adds time).
"""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

BUDGET_S = 0.5
HELP = "import sys; sys.argv = ['sciinv', '--help']; from sciinv.cli import app; app()"
COMMANDS = {
    "python -c pass": "pass",
    "import sciinv": "import sciinv",
    "sciinv --help": HELP,
    "import torch": "import torch",
}


def seconds(code: str) -> float:
    """Wall time of one fresh interpreter that runs the code."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def main() -> int:
    """Time every command and compare the help with its budget."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    best = {}
    print(f"{'command':16} {'best s':>8} {'median s':>9}   ({repeats} fresh processes each)")
    for name, code in COMMANDS.items():
        seconds(code)  # the first run may compile bytecode
        times = [seconds(code) for _ in range(repeats)]
        best[name] = min(times)
        print(f"{name:16} {best[name]:8.3f} {median(times):9.3f}")
    within = best["sciinv --help"] < BUDGET_S
    print(f"sciinv --help: {'within' if within else 'OVER'} its budget of {BUDGET_S} s")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
