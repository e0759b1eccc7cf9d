"""Time the operators against the libraries that do the same, interleaved in one process.

Prints one markdown table per operator. Ratios below one are faster than the reference (deepinv).

    python benchmarks/operators.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import statistics
import time
import warnings
from collections.abc import Callable

import torch

from sciinv.operators import CartesianMRI


def interleaved(calls: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each call; the calls take turns, so that load hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(repeats):
        for name, call in calls.items():
            start = time.process_time()
            call()
            seconds[name].append(time.process_time() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}


# -- MRI ---------------------------------------------------------------------------------------
def mri_case(size: int, coils: int, batch: int, repeats: int) -> list[str]:
    """One row: forward / adjoint / normal of ours and of SigPy over deepinv's, and milliseconds."""
    import deepinv
    import sigpy.mri

    generator = torch.Generator().manual_seed(0)
    shape = (size, size)
    maps = torch.randn(coils, *shape, dtype=torch.complex64, generator=generator)
    maps = maps / maps.abs().square().sum(0).sqrt()
    mask = (torch.rand(shape, generator=generator) < 0.25).float()
    x = torch.randn(batch, 2, *shape, generator=generator)
    ours = CartesianMRI(shape, mask, maps)
    theirs = deepinv.physics.MultiCoilMRI(mask=mask, coil_maps=maps)
    sense = sigpy.mri.linop.Sense(maps.numpy(), weights=mask.numpy())
    y = theirs.A(x).contiguous()
    difference = float((ours.A(x) - y).norm() / y.norm())
    if difference > 1e-6:
        raise RuntimeError(f"the operators differ by {difference:.1e}")

    def sigpy_forward() -> torch.Tensor:
        rows = [sense(torch.complex(row[0], row[1]).numpy()) for row in x]
        z = torch.stack([torch.from_numpy(row) for row in rows])
        return torch.stack([z.real, z.imag], 1)

    def sigpy_adjoint() -> torch.Tensor:
        rows = [sense.H(torch.complex(row[0], row[1]).numpy()) for row in y]
        z = torch.stack([torch.from_numpy(row) for row in rows])
        return torch.stack([z.real, z.imag], 1)

    reference = {
        "forward": lambda: theirs.A(x),
        "adjoint": lambda: theirs.A_adjoint(y),
        "normal": lambda: theirs.A_adjoint_A(x),
    }
    mine = {
        "forward": lambda: ours.A(x),
        "adjoint": lambda: ours.A_adjoint(y),
        "normal": lambda: ours.A_adjoint_A(x),
    }
    sigpys = {"forward": sigpy_forward, "adjoint": sigpy_adjoint}
    cells, ratios, others = [], [], []
    for name in reference:
        calls = {"deepinv": reference[name], "sciinv": mine[name]}
        if name in sigpys:
            calls["sigpy"] = sigpys[name]
        seconds = interleaved(calls, repeats)
        cells.append(f"{1e3 * seconds['deepinv']:.1f}")
        ratios.append(f"{seconds['sciinv'] / seconds['deepinv']:.2f}")
        if "sigpy" in seconds:
            others.append(f"{seconds['sigpy'] / seconds['deepinv']:.2f}")
    label = f"{size}², {coils} coils, batch {batch}"
    return [label, " / ".join(cells), " / ".join(ratios), " / ".join(others), f"{difference:.0e}"]


def mri(repeats: int) -> None:
    """Print the MRI table."""
    print("\n### Cartesian MRI: forward / adjoint / normal\n")
    print("| case | deepinv, ms | sciinv / deepinv | SigPy / deepinv | difference |")
    print("|---|---|---|---|---|")
    for size, coils, batch in ((256, 1, 1), (256, 8, 1), (256, 8, 4), (320, 16, 1)):
        print("| " + " | ".join(mri_case(size, coils, batch, repeats)) + " |", flush=True)


# CT has its own file, operators_ct.py; further operators go here
BENCHMARKS: dict[str, Callable[[int], None]] = {"mri": mri}


def main() -> None:
    """Read the arguments and run the benchmarks asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=list(BENCHMARKS), help="one table instead of all")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    with torch.no_grad():
        for name in [arguments.only] if arguments.only else BENCHMARKS:
            BENCHMARKS[name](arguments.repeats)


if __name__ == "__main__":
    main()
