"""How long does the command line take to answer? ``python benchmarks/startup.py [repeats]``.

Prints the best and the median wall time and the best processor time of fresh processes: the bare
interpreter, ``import sciinv``, ``sciinv --help``, and, for comparison, ``import torch``. Ends with
exit code 1 if the help takes longer than its budget of 0.5 s. The best of the repeats counts,
because the machine's other work only adds time; where wall and processor time differ much, the
machine was busy and the processor time is the better figure.
"""

from __future__ import annotations

import resource
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


def processor_seconds() -> float:
    """Processor time of all children that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def seconds(code: str) -> tuple[float, float]:
    """Wall and processor time of one fresh interpreter that runs the code."""
    start, used = time.perf_counter(), processor_seconds()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start, processor_seconds() - used


def main() -> int:
    """Time every command and compare the help with its budget."""
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    best = {}
    print(f"{'':16} {'wall best':>10} {'median':>8} {'cpu best':>9}   ({repeats} fresh processes)")
    for name, code in COMMANDS.items():
        seconds(code)  # the first run may compile bytecode
        wall, cpu = zip(*(seconds(code) for _ in range(repeats)), strict=True)
        best[name] = min(wall)
        print(f"{name:16} {min(wall):9.3f}s {median(wall):7.3f}s {min(cpu):8.3f}s")
    within = best["sciinv --help"] < BUDGET_S
    print(f"sciinv --help: {'within' if within else 'OVER'} its {BUDGET_S} s (best wall time)")
    return 0 if within else 1


if __name__ == "__main__":
    raise SystemExit(main())
