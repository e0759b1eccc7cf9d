"""The U-Net: initial state, sizes, independence of batch rows and of position, gradients."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from sciinv.priors.network import UNet


def _small(
    channels: int = 2,
    *,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
    patch: int = 1,
    blocks: int | tuple[int, ...] = 1,
) -> UNet:
    """Return a small network with every weight away from zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = UNet(channels, widths=(6, 8, 10), features=8, patch=patch, blocks=blocks)
        for name, parameter in net.named_parameters():
            if name.startswith("tail") or ".second." in name:
                nn.init.normal_(parameter, std=0.2)
    return net.to(dtype)


def _images(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_default_size_and_architecture_round_trip() -> None:
    net = UNet(2, widths=(24, 56, 96, 128))
    assert sum(p.numel() for p in net.parameters()) == 983_362
    again = UNet(**net.architecture)
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in net.state_dict().items()
    }


def test_patches_and_blocks_of_each_level_round_trip() -> None:
    net = UNet(1, widths=(4, 6, 8), blocks=(2, 1, 3), features=8, patch=2)
    assert net.architecture["blocks"] == [2, 1, 3]
    again = UNet(**net.architecture)
    assert again.architecture == net.architecture
    again.load_state_dict(net.state_dict())  # same names, same shapes
    assert [len(level) for level in net.down_blocks] == [2, 1]  # type: ignore[arg-type]
    assert [len(level) for level in net.up_blocks] == [2, 1]  # type: ignore[arg-type]
    assert len(net.middle) == 3
    # a patch of 2 x 2 pixels becomes channels
    assert net.head.in_channels == net.tail.out_channels == 4
    # one number means the same as that number for every level
    shapes = [
        {k: v.shape for k, v in UNet(1, widths=(4, 6), blocks=b, features=8).state_dict().items()}
        for b in (2, (2, 2))
    ]
    assert shapes[0] == shapes[1]


def test_output_is_zero_before_training() -> None:
    net = UNet(1, widths=(4, 6), features=8)
    out = net(_images(2, 1, 9, 7, dtype=torch.float32), torch.tensor([-1.0, 0.3]))
    assert torch.equal(out, torch.zeros(2, 1, 9, 7))


@pytest.mark.parametrize("patch", [1, 2, 3])
@pytest.mark.parametrize("size", [(8, 8), (13, 9), (1, 3), (12, 17)])
def test_odd_sizes_equal_a_replicated_border(size: tuple[int, int], patch: int) -> None:
    net = _small(patch=patch, blocks=(2, 1, 1))
    x, c = _images(2, 2, *size), torch.tensor([-0.8, 0.1], dtype=torch.float64)
    bottom, right = -size[0] % (4 * patch), -size[1] % (4 * patch)
    wide = functional.pad(x, (0, right, 0, bottom), mode="replicate")
    out = net(x, c)
    assert out.shape == x.shape
    torch.testing.assert_close(out, net(wide, c)[..., : size[0], : size[1]], rtol=0, atol=1e-12)


def test_rows_of_a_batch_do_not_see_each_other_and_the_level_matters() -> None:
    net = _small()
    x, c = _images(3, 2, 8, 8), torch.tensor([-1.2, -0.4, 0.2], dtype=torch.float64)
    out = net(x, c)
    for row in range(3):
        torch.testing.assert_close(
            out[row], net(x[row : row + 1], c[row : row + 1])[0], rtol=0, atol=1e-12
        )
    assert (net(x, c) - net(x, c.flip(0)))[[0, 2]].abs().max() > 1e-3


def test_moves_with_the_image() -> None:
    # the coarsest grid has a period of 4 pixels: shifted by 4, a small object far from the
    # border gives the shifted output, whatever is elsewhere (no statistics of the image are used)
    net = _small()
    c = torch.tensor([-0.5], dtype=torch.float64)
    x = torch.zeros(1, 2, 96, 96, dtype=torch.float64)
    x[..., 40:48, 40:48] = _images(1, 2, 8, 8)
    moved = x.roll((4, -8), dims=(-2, -1))
    # the border is seen 22 pixels deep (six 3x3 layers at full, four at half, two at quarter
    # resolution) and up to 3 more by the grid; the move drags that zone along
    inner = (slice(None), slice(None), slice(32, 64), slice(28, 60))
    torch.testing.assert_close(
        net(moved, c)[inner], net(x, c).roll((4, -8), dims=(-2, -1))[inner], rtol=0, atol=1e-12
    )


def test_a_patch_is_seen_in_its_place() -> None:
    # what the first level sees as channels returns to the pixels it came from: moved by one whole
    # cell of the coarsest grid (patch 2 times 4) the output moves along, as without patches
    net = _small(patch=2)
    c = torch.tensor([-0.5], dtype=torch.float64)
    x = torch.zeros(1, 2, 160, 160, dtype=torch.float64)
    x[..., 72:80, 72:80] = _images(1, 2, 8, 8)
    out, moved = net(x, c), net(x.roll((8, -16), dims=(-2, -1)), c)
    # the border zone is twice as deep as at patch 1, see test_moves_with_the_image
    inner = (slice(None), slice(None), slice(64, 104), slice(56, 96))
    torch.testing.assert_close(
        moved[inner], out.roll((8, -16), dims=(-2, -1))[inner], rtol=0, atol=1e-12
    )
    still = net(torch.zeros_like(x), c)
    assert (out - still)[..., 72:80, 72:80].abs().max() > 1e-2


def test_gradient_matches_finite_differences() -> None:
    net = _small(1).requires_grad_(False)
    c = torch.tensor([-0.7], dtype=torch.float64, requires_grad=True)
    x = _images(1, 1, 5, 4).requires_grad_()
    assert torch.autograd.gradcheck(net, (x, c))


def test_wrong_inputs_and_settings_are_refused() -> None:
    net = UNet(2, widths=(4,), features=4)
    with pytest.raises(ValueError, match="found"):
        net(torch.zeros(1, 1, 8, 8), torch.zeros(1))
    with pytest.raises(ValueError, match="found"):
        net(torch.zeros(2, 8, 8), torch.zeros(1))
    for bad in ({"channels": 0}, {"widths": ()}, {"widths": (4, 0)}, {"blocks": 0}):
        with pytest.raises(ValueError, match="positive"):
            UNet(**bad)  # type: ignore[arg-type]
    for bad in ({"patch": 0}, {"widths": (4, 6), "blocks": (1, 0)}):
        with pytest.raises(ValueError, match="positive"):
            UNet(**bad)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="blocks: found 3 numbers, expected 2"):
        UNet(widths=(4, 6), blocks=(1, 1, 1))
