"""``sciinv phantoms``: the right pictures in the right places, and refusals."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from sciinv.cli.phantoms import BRIGHTEST, GAP
from sciinv.data.phantoms import World

from .conftest import refused, run


def pixels(file: Path) -> np.ndarray:
    with Image.open(file) as picture:
        return np.asarray(picture)


def test_real_images_lie_in_rows_on_one_grey_scale(tmp_path: Path) -> None:
    file = tmp_path / "ct.png"
    words = ("--world", "ct", "--size", 20, "--count", 5, "--columns", 3, "--seed", 7)
    ran = run("phantoms", *words, "-o", file)
    assert ran.code == 0, ran.err
    picture = pixels(file)
    assert picture.shape == (2 * 20 + GAP, 3 * 20 + 2 * GAP)
    rng = np.random.default_rng(7)
    images = [World("ct").draw((20, 20), rng) for _ in range(5)]
    fifth = picture[20 + GAP :, 20 + GAP : 40 + GAP] / 255 * BRIGHTEST
    np.testing.assert_allclose(fifth, np.minimum(images[4], BRIGHTEST), atol=BRIGHTEST / 510 + 1e-6)


def test_phase_stands_beside_the_magnitude(tmp_path: Path) -> None:
    file = tmp_path / "mri.png"
    ran = run("phantoms", "--world", "mri", "--size", 24, "--count", 1, "--seed", 3, "-o", file)
    assert ran.code == 0, ran.err
    picture = pixels(file)
    assert picture.shape == (24, 48, 3)
    image = World("mri").draw((24, 24), np.random.default_rng(3))
    # where the object is the colour is that of its phase, and air is black
    air = np.abs(image) < 0.02 * np.abs(image).max()
    assert (picture[:, 24:][air] == 0).all()
    straight = ~air & (np.abs(np.angle(image)) < 0.05)
    turned = ~air & (np.abs(np.angle(image)) > 1.5)
    assert straight.any() or turned.any()
    if straight.any():
        assert picture[:, 24:][straight].min() > 190
    if turned.any():
        assert picture[:, 24:][turned].min(axis=-1).max() < 190


def test_ingredients_are_left_out(tmp_path: Path) -> None:
    whole, rest = tmp_path / "whole.png", tmp_path / "rest.png"
    words = ("phantoms", "--size", 16, "--count", 8, "--seed", 1)
    assert run(*words, "-o", whole).code == 0
    ran = run(*words, "--without", "texture,shading", "--without", "anatomy", "-o", rest)
    assert ran.code == 0, ran.err
    assert "texture, shading, heads, thoraxes, limbs, teeth" in ran.out
    assert (pixels(whole) != pixels(rest)).any()


def test_refusals(tmp_path: Path) -> None:
    file = tmp_path / "grid.png"
    file.write_bytes(b"mine")
    refused(run("phantoms", "-o", file), str(file), "an existing file", "--overwrite")
    assert file.read_bytes() == b"mine"
    assert run("phantoms", "--size", 16, "--count", 1, "-o", file, "--overwrite").code == 0
    assert pixels(file).shape == (16, 16)
    new = tmp_path / "new.png"
    refused(run("phantoms", "--world", "mars", "-o", new), "'mars'", "generic, mri, ct, objects")
    refused(run("phantoms", "--without", "metal", "-o", new), "'metal'", "'generic'")
    refused(run("phantoms", "--world", "ct", "--complex", "-o", new), "'ct' is real")
    refused(run("phantoms", "-o", tmp_path / "grid.jpg"), ".jpg", ".png")
    refused(run("phantoms", "-o", tmp_path / "no" / "grid.png"), "no such folder")
    refused(run("phantoms", "--size", 8, "-o", new), "--size", code=2)
    assert not new.exists()
