from __future__ import annotations

import subprocess
import sys

import h5py
import numpy as np
import pytest

from sciinv.data.kspace_checks import suspect_axes
from sciinv.data.masks import cartesian_mask
from sciinv.data.phantoms import shepp_logan
from sciinv.data.simulate import birdcage_maps, simulate_mri
from sciinv.errors import DataError

N = 64
REAL = ["brain16", "phantom16", "brain8"]
SCANS = ["simulated", *[pytest.param(name, marks=pytest.mark.data) for name in REAL]]
# of the real scans only those that are fully sampled
FULL = ["simulated", *[pytest.param(name, marks=pytest.mark.data) for name in REAL[:2]]]


def fft(x, axes=(-2, -1)):
    k = np.fft.fftn(np.fft.ifftshift(x, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(k, axes=axes)


def ifft(k, axes=(-2, -1)):
    x = np.fft.ifftn(np.fft.ifftshift(k, axes=axes), axes=axes, norm="ortho")
    return np.fft.fftshift(x, axes=axes)


def kinds(*arguments):
    return [finding.kind for finding in suspect_axes(*arguments)]


def smooth_phase(shape):
    r, c = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    return np.exp(1j * (2 * r + c**2))


def noise(shape, std, seed=0):
    rng = np.random.default_rng(seed)
    return std * (rng.normal(size=shape) + 1j * rng.normal(size=shape))


def simulated(noise_std=0.01, shape=(N, N), coils=8):
    maps = birdcage_maps(coils, shape)
    image = shepp_logan(shape) * smooth_phase(shape)
    return fft(maps * image) + noise((coils, *shape), noise_std), maps


@pytest.fixture(scope="module")
def load(real_data_or_none):
    """A function: name of a scan to k-space ``(coils, H, W)`` and maps."""
    cache = {"simulated": simulated()}

    def get(name):
        if name not in cache:
            if real_data_or_none is None:
                pytest.skip("no folder of real scans")
            cache[name] = read(real_data_or_none, name)
        return cache[name]

    return get


@pytest.fixture(scope="module")
def real_data_or_none(request):
    try:
        return request.getfixturevalue("real_data")
    except pytest.skip.Exception:
        return None


def read(folder, name):
    import torch

    from sciinv.operators import estimate_coil_maps

    if name == "brain16":
        with h5py.File(folder / "mri_brain16ch_fastmri.h5") as file:
            kspace = file["kspace"][0]
    elif name == "brain8":
        kspace = np.load(folder / "mri_brain8ch_poisson.npy")
    else:
        kspace = np.zeros((16, 128, 128), np.complex64)
        with h5py.File(folder / "mri_phantom16ch_ismrmrd.h5") as file:
            for line in file["dataset/data"][:]:
                samples = line["data"].view(np.complex64).reshape(16, 128)
                kspace[:, line["head"]["idx"]["kspace_encode_step_1"]] = samples
    kspace = kspace / np.abs(kspace).max()
    # the first of two sets: eigenvectors in closed form, faster here than by powers
    maps = estimate_coil_maps(torch.from_numpy(kspace[None]), calibration=24, sets=2)
    return kspace, maps[0, 0].numpy()


# -- sound scans -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCANS)
def test_sound_scans_have_no_findings(name, load):
    kspace, maps = load(name)
    assert suspect_axes(kspace, maps) == []
    assert suspect_axes(kspace[None], maps[None], np.any(kspace != 0, axis=0)) == []
    assert suspect_axes(np.stack([kspace, 0.5 * kspace]), np.stack([maps, maps])) == []


@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize(
    ("pattern", "acceleration", "calibration"),
    [
        ("uniform", 4, 16),
        ("uniform", 4, 0),
        ("variable_density", 4, 16),
        ("variable_density", 6, 8),
        ("poisson", 4, 16),
        ("poisson", 8, 12),
    ],
)
def test_undersampling_is_no_mistake(name, pattern, acceleration, calibration, load):
    kspace, maps = load(name)
    shape = kspace.shape[1:]
    for seed in range(2):
        mask = cartesian_mask(shape, acceleration, calibration, seed, pattern)
        assert suspect_axes(kspace * mask, maps) == []
        assert suspect_axes(kspace * mask, maps, mask) == []
        # the mask of a retrospective experiment with fully sampled data
        assert suspect_axes(kspace, maps, mask) == []
        assert suspect_axes(kspace.swapaxes(1, 2) * mask.T, maps.swapaxes(1, 2)) == []


@pytest.mark.parametrize("name", FULL)
def test_partial_fourier_and_cut_matrices_are_no_mistake(name, load):
    kspace, maps = load(name)
    rows, columns = kspace.shape[1:]
    for part in (
        np.s_[:, : 3 * rows // 8], np.s_[:, :, : 3 * columns // 8], np.s_[:, -rows // 4 :],
        np.s_[:, : rows // 4, :],
    ):  # fmt: skip
        partial = kspace.copy()
        partial[part] = 0
        assert suspect_axes(partial, maps) == []
    # odd numbers, and an echo that is a little off
    assert suspect_axes(kspace[:, 1:, 3:]) == []
    assert suspect_axes(np.roll(kspace, (3, -4), (1, 2))) == []
    # scaled and rotated data are as good
    assert suspect_axes(1e-9j * kspace, maps) == []


@pytest.mark.parametrize("noise_std", [0.0, 0.05, 0.1, 0.3, 3.0])
def test_noise_is_no_mistake(noise_std):
    for seed in range(3):
        kspace, maps = simulated(noise_std)
        kspace = kspace + noise(kspace.shape, noise_std, seed + 1)
        assert suspect_axes(kspace, maps) == []


def test_small_objects_off_the_middle_are_no_mistake():
    rows, columns = np.meshgrid(*[np.linspace(-1, 1, N)] * 2, indexing="ij")
    maps = birdcage_maps(6, (N, N))
    vial = ((rows - 0.7) ** 2 + (columns + 0.6) ** 2 < 0.04).astype(float)
    assert suspect_axes(fft(maps * vial), maps) == []
    # two legs: the middle of the field of view is empty, but so is its border
    legs = ((columns - 0.5) ** 2 + rows**2 < 0.16) | ((columns + 0.5) ** 2 + rows**2 < 0.16)
    assert suspect_axes(fft(maps * legs), maps) == []
    # a body that fills the field of view to its border
    full = 1 + 0.5 * np.cos(3 * rows) * np.cos(2 * columns)
    assert suspect_axes(fft(maps * full), maps) == []


def test_volumes():
    shape = (20, 24, 22)
    maps = birdcage_maps(6, shape)
    image = shepp_logan(shape)
    kspace = fft(maps * image, (-3, -2, -1))[None]
    assert suspect_axes(kspace, maps) == []
    assert kinds(np.fft.ifftshift(kspace, axes=2)) == ["not_centred"]
    assert kinds(ifft(kspace, (-1,))) == ["image_space"]
    assert "partitions" in str(suspect_axes(ifft(kspace, (-3,)))[0])
    assert kinds(kspace, maps[:, :, ::-1]) == ["maps_mirrored"]
    assert kinds(kspace, maps.conj()) == ["maps_conjugated"]
    few = kspace[:, :, 8:12]  # four partitions
    assert suspect_axes(few) == []


def test_slices_frames_and_echoes_are_no_mistake_on_their_axis():
    volume = shepp_logan((N, N, N))[20:44:4]
    maps, phase = birdcage_maps(6, (N, N)), smooth_phase((N, N))
    stack = fft(maps * (volume * phase)[:, None])
    assert suspect_axes(stack, maps) == []
    # one coil: slices, repeated frames, echoes with a phase that grows
    assert suspect_axes(stack[:, :1]) == []
    frames = np.repeat(stack[2:3, :1], 6, 0) + noise((6, 1, N, N), 0.02)
    assert suspect_axes(frames) == []
    field = np.linspace(-1, 1, N)[:, None] * np.arange(6)[:, None, None, None]
    assert suspect_axes(fft(volume[2] * maps[0] * np.exp(2j * field))) == []


# -- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCANS)
def test_kspace_that_is_not_centred(name, load):
    kspace, _ = load(name)
    shifted = np.fft.ifftshift(kspace, axes=(1, 2))
    (finding,) = suspect_axes(shifted)
    assert finding.kind == "not_centred" and finding.field == "kspace"
    text = str(finding)
    assert "apply fftshift along axis 0 (rows) and 1 (columns)" in text
    assert "expected it near the centre" in text
    (finding,) = suspect_axes(np.fft.ifftshift(kspace, axes=2))
    assert "fftshift along axis 1 (columns)" in finding.hint
    rows = kspace.shape[1]
    assert kinds(kspace[:, 3 * rows // 8 :]) == ["off_centre"]


@pytest.mark.parametrize("name", SCANS)
def test_image_space_and_hybrid_space(name, load):
    kspace, _ = load(name)
    (finding,) = suspect_axes(ifft(kspace))
    assert finding.kind == "image_space" and "along every axis" in finding.found
    (finding,) = suspect_axes(ifft(kspace, (-1,)))
    assert finding.kind == "image_space" and "along axis 1 (columns) only" in finding.found


@pytest.mark.parametrize("name", SCANS)
def test_a_transform_without_a_shift_of_the_image(name, load):
    kspace, _ = load(name)
    signs = (-1.0) ** np.arange(kspace.shape[2])
    (finding,) = suspect_axes(kspace * signs)
    assert finding.kind == "image_not_centred" and "1 (columns)" in finding.found
    # what a user writes who forgets ifftshift
    image = ifft(kspace)
    wrong = np.fft.fftshift(np.fft.fft2(image), axes=(1, 2))
    assert "image_not_centred" in kinds(wrong)


@pytest.mark.parametrize("name", SCANS)
def test_coils_on_the_slice_axis(name, load):
    kspace, _ = load(name)
    (finding,) = suspect_axes(kspace[:, None])
    assert finding.kind == "coil_axis" and "exchange the first two axes" in finding.hint


def test_slices_on_the_coil_axis():
    volume = shepp_logan((N, N, N))[16:48:4] * smooth_phase((N, N))
    maps = birdcage_maps(6, (N, N))
    one_coil = fft(maps[0] * volume)
    (finding,) = suspect_axes(one_coil)
    assert finding.kind == "coil_axis" and "slices" in finding.hint
    # (coils, slices, H, W) in place of (slices, coils, H, W)
    stack = fft(maps[:, None] * volume) + noise((6, 8, N, N), 0.01)
    (finding,) = suspect_axes(stack)
    assert finding.kind == "coil_axis" and "first two axes are probably exchanged" in finding.hint
    assert suspect_axes(stack.swapaxes(0, 1)) == []


@pytest.mark.parametrize("name", SCANS)
@pytest.mark.parametrize("undersampled", [False, True])
def test_maps_in_another_convention(name, undersampled, load):
    kspace, maps = load(name)
    if undersampled and name != "brain8":
        kspace = kspace * cartesian_mask(kspace.shape[1:], 4, 16, 0)
    assert kinds(kspace, maps.conj()) == ["maps_conjugated"]
    assert kinds(kspace, maps[:, ::-1]) == ["maps_mirrored"]
    assert kinds(kspace, maps[:, :, ::-1]) == ["maps_mirrored"]
    (finding,) = suspect_axes(kspace, maps[:, ::-1, ::-1])
    assert finding.kind == "maps_mirrored" and "other sign" in finding.hint
    assert kinds(kspace, np.fft.fftshift(maps, axes=(1, 2))) == ["maps_not_centred"]
    (finding,) = suspect_axes(kspace.conj(), maps)
    assert finding.kind == "kspace_conjugated" and finding.field == "kspace"
    swapped = suspect_axes(kspace, maps.swapaxes(1, 2))
    square = kspace.shape[1] == kspace.shape[2]
    assert [f.kind for f in swapped] == ["maps_axes" if square else "maps_shape"]
    # maps of some other object: no explanation, and it says so
    assert kinds(kspace, np.roll(maps, maps.shape[1] // 3, axis=1)) == ["maps"]


def test_two_coils_that_see_nearly_the_same():
    r, c = np.meshgrid(*[np.linspace(-1, 1, N)] * 2, indexing="ij")
    maps = np.stack([(2.5 - c + 0.3 * r) * np.exp(0.3j * r), (2.5 + c) * np.exp(0.5j * c)])
    maps /= np.sqrt((np.abs(maps) ** 2).sum(0))
    kspace = fft(maps * shepp_logan((N, N))) + noise((2, N, N), 0.01)
    assert suspect_axes(kspace, maps) == []
    (finding,) = suspect_axes(kspace, maps.conj())
    # wrong maps explain more than nine tenths here, right ones all of it
    assert finding.kind == "maps_conjugated" and float(finding.found.split()[3]) < 10
    assert kinds(kspace, maps[:, :, ::-1]) == ["maps_mirrored"]
    assert kinds(kspace, maps.swapaxes(1, 2)) == ["maps_axes"]


@pytest.mark.parametrize("name", SCANS)
def test_coils_in_another_order(name, load):
    kspace, maps = load(name)
    order = np.random.default_rng(1).permutation(len(maps))
    (finding,) = suspect_axes(kspace, maps[order])
    assert finding.kind == "coil_order"
    # the hint undoes it
    inverse = [int(i) for i in np.argsort(order)]
    assert finding.hint == f"take maps[{inverse}]"


def test_shapes_of_maps_and_masks():
    kspace, maps = simulated(shape=(40, 48))
    (finding,) = suspect_axes(kspace, np.moveaxis(maps, 0, -1))
    assert finding.kind == "maps_shape" and "transpose them by (2, 0, 1)" in finding.hint
    assert np.moveaxis(maps, 0, -1).transpose(2, 0, 1).shape == maps.shape
    (finding,) = suspect_axes(kspace, maps[:5])
    assert "another scan" in finding.hint
    mask = cartesian_mask((40, 48), 4, 8, 0)
    (finding,) = suspect_axes(kspace * mask, None, mask.T)
    assert finding.kind == "mask" and "transpose" in finding.hint
    with pytest.raises(DataError, match=r"mask: found shape \(7, 7\)"):
        suspect_axes(kspace, None, np.ones((7, 7)))


def test_masks_of_another_layout():
    kspace, _ = simulated(shape=(48, 48))
    mask = cartesian_mask((48, 48), 6, 4, 0, "poisson")
    assert suspect_axes(kspace * mask, None, mask) == []
    (finding,) = suspect_axes(kspace * mask, None, np.fft.fftshift(mask))
    assert finding.kind == "mask" and "fftshift" in finding.hint
    (finding,) = suspect_axes(kspace * mask, None, ~mask)
    assert finding.kind == "mask" and "invert" in finding.hint


def test_a_mask_hides_what_lies_outside():
    kspace, maps = simulated()
    mask = cartesian_mask((N, N), 2, 16, 0)
    spoiled = np.where(mask, kspace, 100 * noise(kspace.shape, 1.0, 5) * (np.abs(kspace) < 0.02))
    assert kinds(spoiled, maps, mask) != []  # most of the energy lies outside: say so
    assert suspect_axes(np.where(mask, kspace, 0), maps, mask) == []


def test_takes_tensors_and_simulated_scans():
    import torch

    scan = simulate_mri(shepp_logan((N, N)), noise_std=0.01, rng=0, include_maps=True)
    kspace = torch.from_numpy(scan.data)
    assert suspect_axes(kspace, torch.from_numpy(scan.coil_maps), scan.geometry.mask) == []
    lazy = torch.from_numpy(scan.coil_maps).conj()
    assert kinds(kspace, lazy, scan.geometry.mask) == ["maps_conjugated"]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((np.ones((4, 8, 8)),), "kspace: found float64"),
        ((np.ones((8, 8), complex),), r"found complex128 \(8, 8\)"),
        ((np.zeros((4, 8, 8), complex),), "only zeros"),
        ((np.full((4, 8, 8), np.nan + 0j),), "NaN or Inf"),
        ((fft(np.ones((4, 8, 8))), np.ones((4, 8, 8))), "complex sensitivities"),
    ],
)
def test_refusals(arguments, text):
    with pytest.raises(DataError, match=text):
        suspect_axes(*arguments)


def test_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np\n"
        "from sciinv.data.kspace_checks import suspect_axes\n"
        "x = np.zeros((2, 32, 32), complex); x[:, 16, 16] = 1\n"
        "x += 0.01 * np.random.default_rng(0).normal(size=x.shape)\n"
        "suspect_axes(x, np.ones_like(x))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
