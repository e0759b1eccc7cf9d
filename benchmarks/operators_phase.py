"""Time Fourier phase retrieval against plain FFTs and deepinv, interleaved in one process.

deepinv's ``PhaseRetrieval`` squares any linear operator; it has no Fourier one of its own with
zero-padding, so it is given the fastest that plain torch allows. All measure intensities.

    python benchmarks/operators_phase.py --threads 1 --repeats 9
"""

from __future__ import annotations

import argparse
import warnings

import numpy as np
import torch
from operators_common import Calls, compare, errors
from torch import Tensor

from sciinv.channels import to_channels, to_complex
from sciinv.operators import FourierPhaseRetrieval

CASES = (((128, 128), 1), ((256, 256), 4), ((36, 64, 64), 1))
MAPS = ("A", "A_vjp")
REFERENCE = "plain torch.fft"


class Padded:
    """Field of an object on twice the grid, and its transpose, as one writes them by hand."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        self.axes = tuple(range(-len(shape), 0))
        # index n // 2 goes to index n of the pattern of 2 n
        self.part = (..., *(slice(n - n // 2, n - n // 2 + n) for n in shape))
        self.large = tuple(2 * n for n in shape)

    def field(self, z: Tensor) -> Tensor:
        """Complex images to complex fields."""
        padded = z.new_zeros((*z.shape[: -len(self.large)], *self.large))
        padded[self.part] = z
        padded = torch.fft.ifftshift(padded, self.axes)
        return torch.fft.fftshift(torch.fft.fftn(padded, dim=self.axes, norm="ortho"), self.axes)

    def adjoint(self, u: Tensor) -> Tensor:
        """Complex fields to complex images."""
        u = torch.fft.ifftn(torch.fft.ifftshift(u, self.axes), dim=self.axes, norm="ortho")
        return torch.fft.fftshift(u, self.axes)[self.part]


def case(shape: tuple[int, ...], batch: int, repeats: int) -> None:
    """Print the table of one case: a complex random object, oversampled twice."""
    import deepinv

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(batch, 2, *shape, generator=generator)
    large = tuple(2 * n for n in shape)
    v = torch.randn(batch, 1, *large, generator=generator)
    ours = FourierPhaseRetrieval(shape, mode="intensity")
    by_hand = Padded(shape)

    def plain(z: Tensor) -> Tensor:
        u = by_hand.field(to_complex(z)[:, None])
        return u.real.square() + u.imag.square()

    def plain_vjp(z: Tensor, weight: Tensor) -> Tensor:
        u = by_hand.field(to_complex(z)[:, None])
        return to_channels(by_hand.adjoint(2 * weight * u)[:, 0])

    linear = deepinv.physics.LinearPhysics(A=by_hand.field, A_adjoint=by_hand.adjoint)
    theirs = deepinv.physics.phase_retrieval.PhaseRetrieval(linear)
    z = to_complex(x)[:, None]
    leaf = x.clone().requires_grad_()

    def autograd() -> Tensor:
        with torch.enable_grad():
            return torch.autograd.grad(plain(leaf), leaf, v)[0]

    contenders: dict[str, Calls] = {
        REFERENCE: {"A": lambda: plain(x), "A_vjp": lambda: plain_vjp(x, v)},
        "sciinv": {"A": lambda: ours.A(x), "A_vjp": lambda: ours.A_vjp(x, v)},
        "deepinv PhaseRetrieval": {
            "A": lambda: theirs.A(z),
            "A_vjp": lambda: to_channels(theirs.A_vjp(z, v)[:, 0]),
        },
        "autograd through torch.fft": {"A_vjp": autograd},
    }
    exact = FourierPhaseRetrieval(shape, mode="intensity", dtype=torch.float64)
    truth = {
        "A": np.asarray(exact.A(x.double())),
        "A_vjp": np.asarray(exact.A_vjp(x.double(), v.double())),
    }
    size = "x".join(map(str, shape))
    compare(
        f"Fourier phase retrieval, {size}, batch {batch}", contenders, errors(contenders, truth),
        maps=MAPS, reference=REFERENCE, repeats=repeats,
    )  # fmt: skip


def run(repeats: int, quick: bool = False) -> None:
    """Print all tables."""
    for shape, batch in CASES[1:2] if quick else CASES:
        case(shape, batch, repeats)


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
