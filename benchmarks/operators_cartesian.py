"""Time Cartesian MRI against deepinv, SigPy and plain FFTs, interleaved in one process.

python benchmarks/operators_cartesian.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from operators_common import Calls, compare, errors
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.operators import CartesianMRI

CASES = ((256, 1, 1), (256, 8, 1), (256, 8, 4), (320, 16, 1))
REFERENCE = "deepinv"


def case(size: int, coils: int, batch: int, repeats: int) -> None:
    """Print the table of one case: maps on the unit sphere, a random quarter of k-space."""
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
    y = theirs.A(x).contiguous()
    sense = sigpy.mri.linop.Sense(maps.numpy(), weights=mask.numpy())
    weighted = sense.H * sense

    def by_rows(linop: sigpy.linop.Linop, z: Tensor) -> Tensor:
        rows = [torch.from_numpy(linop(row.numpy())) for row in to_complex(z)]
        return to_channels(torch.stack(rows))

    axes = (-2, -1)

    def fft(z: Tensor) -> Tensor:
        z = torch.fft.fftn(torch.fft.ifftshift(z, axes), dim=axes, norm="ortho")
        return torch.fft.fftshift(z, axes)

    def ifft(z: Tensor) -> Tensor:
        z = torch.fft.ifftn(torch.fft.ifftshift(z, axes), dim=axes, norm="ortho")
        return torch.fft.fftshift(z, axes)

    def plain_forward(z: Tensor) -> Tensor:
        return to_channels(mask * fft(maps * to_complex(z)[:, None]))

    def plain_adjoint(z: Tensor) -> Tensor:
        return to_channels((maps.conj() * ifft(mask * to_complex(z))).sum(1))

    contenders: dict[str, Calls] = {
        REFERENCE: {
            "forward": lambda: theirs.A(x),
            "adjoint": lambda: theirs.A_adjoint(y),
            "normal": lambda: theirs.A_adjoint_A(x),
        },
        "sciinv": {
            "forward": lambda: ours.A(x),
            "adjoint": lambda: ours.A_adjoint(y),
            "normal": lambda: ours.A_adjoint_A(x),
        },
        "sigpy": {
            "forward": lambda: by_rows(sense, x),
            "adjoint": lambda: by_rows(sense.H, y),
            "normal": lambda: by_rows(weighted, x),
        },
        "plain torch.fft": {
            "forward": lambda: plain_forward(x),
            "adjoint": lambda: plain_adjoint(y),
            "normal": lambda: plain_adjoint(plain_forward(x)),
        },
    }
    exact = CartesianMRI(shape, mask.double(), maps.to(torch.complex128))
    truth = {
        "forward": exact.A(x.double()),
        "adjoint": exact.A_adjoint(y.double()),
        "normal": exact.A_adjoint_A(x.double()),
    }
    found = errors(contenders, {name: np.asarray(value) for name, value in truth.items()})
    compare(
        f"Cartesian MRI, {size}x{size}, {coils} coil(s), batch {batch}", contenders, found,
        reference=REFERENCE, repeats=repeats,
    )  # fmt: skip


def run(repeats: int, quick: bool = False) -> None:
    """Print all tables."""
    for size, coils, batch in CASES[1:2] if quick else CASES:
        case(size, coils, batch, repeats)


def main() -> None:
    """Read the arguments and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=9)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    with torch.no_grad():
        run(arguments.repeats)


if __name__ == "__main__":
    main()
