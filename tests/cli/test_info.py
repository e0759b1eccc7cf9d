"""``sciinv info``: what is said, the picture in the terminal, and the plan."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sciinv.cli import picture
from sciinv.cli.picture import Mode, draw, mode_of
from sciinv.data.facts import facts, sampling
from sciinv.data.load import load
from sciinv.data.native import write_scan
from sciinv.data.phantoms import shepp_logan
from sciinv.data.scan import MRIGeometry
from sciinv.data.simulate import (
    simulate_ct,
    simulate_diffraction,
    simulate_fan,
    simulate_mri,
    simulate_noncartesian,
)
from sciinv.reconstruction.ct_model import expected_shape
from sciinv.reconstruction.estimate import estimate_run
from sciinv.reconstruction.job import Job
from sciinv.reconstruction.mri_model import Coils
from sciinv.reconstruction.progress import Progress
from sciinv.reconstruction.quick import quick_picture
from sciinv.reconstruction.run import plan_run
from sciinv.report.geometry import views

from .conftest import refused, run

SGR = re.compile(r"\x1b\[([0-9;]*)m|(.)")


def letter() -> np.ndarray:
    """An F off the middle: no flip and no transposition of it is itself."""
    image = np.zeros((48, 48), np.float32)
    image[8:38, 12:17] = image[8:13, 12:32] = image[20:24, 12:26] = 1.0
    return image


def decode(lines: list[str]) -> np.ndarray:
    """Grey values in [0, 1] of half blocks, as a terminal would show them."""
    rows: list[list[float]] = []
    for line in lines:
        pairs, colours = [], [0.0, 0.0]
        for match in SGR.finditer(line):
            if match[2] == "\N{UPPER HALF BLOCK}":
                pairs.append(tuple(colours))
            elif match[1] not in (None, "0"):
                codes = [int(code) for code in match[1].split(";")]
                if codes[1] == 2:
                    colours = [codes[2] / 255, codes[7] / 255]
                else:
                    greys = {16: 0.0, 231: 1.0} | {232 + n: (8 + 10 * n) / 255 for n in range(24)}
                    colours = [greys[codes[2]], greys[codes[5]]]
        if pairs:
            rows += [[upper for upper, _ in pairs], [lower for _, lower in pairs]]
    return np.array(rows)


# drawing ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("environment", "encoding", "terminal", "expected"),
    [
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "utf-8", True, Mode.TRUE),
        ({"TERM": "xterm-256color"}, "utf-8", True, Mode.INDEXED),
        ({"TERM": "xterm"}, "utf-8", True, Mode.ASCII),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "utf-8", True, Mode.ASCII),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, "utf-8", True, Mode.ASCII),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "utf-8", True, Mode.INDEXED),
        ({"TERM": "xterm-256color"}, "latin-1", True, Mode.ASCII),
        ({"TERM": "xterm-256color"}, None, True, Mode.ASCII),
        ({"TERM": "xterm-256color"}, "utf-8", False, Mode.ASCII),
        ({"TERM": "xterm-256color", "FORCE_COLOR": "1"}, "utf-8", False, Mode.INDEXED),
        ({}, "utf-8", True, Mode.ASCII),
    ],
)
def test_what_a_terminal_can_show(environment, encoding, terminal, expected):
    assert mode_of(environment, encoding, terminal=terminal) is expected


@pytest.mark.parametrize(("mode", "error"), [(Mode.TRUE, 0.003), (Mode.INDEXED, 0.04)])
def test_half_blocks_show_the_image_as_the_figure_does(mode, error):
    image = letter()
    view = views(np.ones((1, 48, 48), bool), np.diag([2.0, 1.0, 1.0, 1.0]), oriented=False)[0]
    lines = draw(view.cut(image[None]), view, (0.0, 1.0), mode, (24, 40))
    assert all(line.endswith("\x1b[0m") for line in lines)
    shown = decode(lines)
    # rows are twice as far apart as columns: twice as many pixels down as across
    assert shown.shape == (48, 24)
    expected = Image.fromarray(image).resize((24, 48), Image.Resampling.BOX)
    assert np.abs(shown - np.asarray(expected)).max() <= error


def test_ascii_shades_and_letters():
    view = views(np.ones((1, 48, 48), bool), np.diag([-1.0, -1.0, 1.0, 1.0]))[0]
    lines = draw(letter(), view, (0.0, 1.0), Mode.ASCII, (40, 20))
    left, right, top, bottom = view.letters
    assert lines[0].strip() == top and lines[-1].strip() == bottom
    middle = lines[1 + (len(lines) - 2) // 2]
    assert middle.startswith(f"{left} ") and middle.endswith(f" {right}")
    body = [line[2:] for line in lines[1:-1]]
    assert max(map(len, lines)) <= 40 and len(lines) <= 20
    assert "\x1b" not in "".join(lines) and set("".join(body)) <= set(picture._SHADES + right)
    ink = [(y, x) for y, line in enumerate(body) for x, c in enumerate(line) if c == "@"]
    assert min(x for _, x in ink) == min(x for y, x in ink if y == max(y for y, _ in ink))
    widths = {y: sum(1 for a, _ in ink if a == y) for y, _ in ink}
    assert widths[min(widths)] > 2 * widths[max(widths)]  # the bar of the F is at the top


@pytest.mark.parametrize(
    "make",
    [
        lambda x: simulate_mri(x, coils=3, acceleration=2.0, noise_std=0.01, rng=1),
        lambda x: simulate_noncartesian(x, trajectory="spiral", coils=2, noise_std=0.01, rng=1),
        lambda x: simulate_ct(0.02 * x, num_angles=60, noise_std=0.002, rng=1),
        lambda x: simulate_fan(0.02 * x, num_angles=90, noise_std=0.002, rng=1),
    ],
    ids=["cartesian", "spiral", "parallel", "fan"],
)
def test_quick_picture_lies_as_the_truth_does(make):
    scan = make(letter())
    made = quick_picture(scan)
    assert made.images.shape == (1, 48, 48) and made.images.dtype == np.float32
    np.testing.assert_array_equal(made.affine, scan.affine)
    truth = np.abs(scan.reference[0])

    def alike(x):
        return np.corrcoef(x.ravel(), truth.ravel())[0, 1]

    right = alike(made.images[0])
    turned = [made.images[0].T, made.images[0][::-1], made.images[0][:, ::-1]]
    assert right > 0.75 and right > 0.3 + max(alike(x) for x in turned)
    # the scale is that of the scan
    values = made.images[0][truth > 0.5 * truth.max()]
    assert np.median(values) == pytest.approx(truth.max(), rel=0.4)


def test_quick_picture_of_volumes_coarse_grids_and_patterns():
    volume = np.stack([letter() * (n % 3 == 1) for n in range(6)])
    made = quick_picture(simulate_mri(volume, coils=2, acceleration=1.0, rng=1, volume=True))
    assert made.images.shape == (1, 6, 48, 48)
    wide = np.kron(letter(), np.ones((6, 6), np.float32))[:, :285]
    scan = simulate_ct(0.02 * wide, num_angles=90, noise_std=0.002, rng=1)
    made = quick_picture(scan)
    assert made.images.shape == (1, 288, 285)
    centre = [np.argwhere(image > 0.5 * scan.reference.max()).mean(0) for image in
              (made.images[0], scan.reference[0])]  # fmt: skip
    assert np.abs(centre[0] - centre[1]).max() < 1.1
    pattern = simulate_diffraction(letter().astype(complex), photons=1e5, rng=1)
    made = quick_picture(pattern)
    assert made.images.shape == (1, *pattern.geometry.pattern_shape)
    assert made.images.max() == pytest.approx(np.log1p(pattern.data.max()), rel=1e-6)


# words ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (np.ones(64), "all 64 lines"),
        (np.arange(64) % 4 == 0, "16 of 64 lines, one of 4, 1 in the centre"),
        ((np.arange(64) % 4 == 0) | (abs(np.arange(64) - 32) < 8), "one of 4, 17 in the centre"),
        (np.isin(np.arange(64), [1, 4, 5, 11, 20, 31, 32, 33, 40, 42, 57, 63]), "irregular, 3 in"),
        (np.arange(64) >= 20, "44 of 64 lines, partial Fourier, 44 in the centre"),
        ((np.arange(64) % 2 == 0) & (np.arange(64) >= 20), "one of 2, partial Fourier, 1 in"),
    ],
)
def test_sampling_in_words(lines, said):
    mask = np.broadcast_to(np.asarray(lines, bool), (8, 64))
    assert said in sampling(MRIGeometry((8, 64), mask, readout_axis=0))


def test_sampling_of_points_and_of_stacks():
    mask = np.zeros((2, 16, 16), bool)
    mask[:, 5:11, 5:11] = True
    mask[1, 0, 3] = True
    said = sampling(MRIGeometry((16, 16), mask))
    assert said == "37 of 256 points, irregular, 6x6 in the centre, other slices differ"


def test_facts_of_a_scan_with_a_place(tmp_path):
    affine = np.array([[0, -2.0, 0, 30], [-1.5, 0, 0, 40], [0, 0, 5.0, -7], [0, 0, 0, 1]])
    scan = simulate_mri(letter(), coils=2, acceleration=2.0, rng=1, noise_std=0.02,
                        voxel_size=(5.0, 1.5, 2.0), state_noise=False)  # fmt: skip
    found = facts(scan.with_(affine=affine, oriented=True))
    assert found["axes"][0] == {"name": "slice", "size": 1}
    assert [axis["size"] for axis in found["axes"]] == list(scan.data.shape)
    place = found["geometry"]
    assert place["voxel_mm"] == {"row": 1.5, "column": 2.0, "slice": 5.0}
    assert place["directions"] == {"rows": "P", "columns": "L", "slices": "S"}
    assert place["centre_ras_mm"] == [30 - 2 * 24, 40 - 1.5 * 24, -7]
    assert found["noise"]["level"] == pytest.approx(0.02, rel=0.15)
    assert found["noise"]["source"].startswith("estimated")


# the command ------------------------------------------------------------------------------------
def test_info_says_what_would_be_run(scans):
    begin = time.perf_counter()
    ran = run("info", scans / "mri.h5", "--picture")
    assert ran.code == 0, ran.err
    assert time.perf_counter() - begin < 15  # 2 s where nothing else runs
    for text in (
        "axes      slice 1, coil 3,", "lines, ", "in the centre", "noise     0.0",
        "(stated)", "voxel     ", "position  ", "zero-filled, root sum",
        "plan      MMT around a point estimate", "prior mri: 16 samples", "time      about 0:",
        "for 1 slice", "memory    about 0.6 GiB",
    ):  # fmt: skip
        assert text in ran.out, (text, ran.out)
    drawn = [line for line in ran.out.splitlines() if set(line) & set("*#%@")]
    assert len(drawn) >= 6 and "\x1b" not in ran.out
    # nothing is drawn where nobody looks
    assert "zero-filled" not in run("info", scans / "mri.h5", "--no-plan").out


def test_info_as_json(scans):
    ran = run("info", scans / "ct.h5", "--json")
    assert ran.code == 0 and ran.out.count("\n") == 1, ran.err
    found = json.loads(ran.out)
    assert found["file"] == "ct.h5" and found["kind"] == "ct"
    assert [axis["name"] for axis in found["axes"]] == ["slice", "angle", "detector"]
    assert found["plan"]["solver"] == "MMT" and found["plan"]["prior"] == "ct"
    assert found["plan"]["seconds"] > 0 and found["plan"]["effort"]["num_samples"] == 16
    assert "MMT" in found["solvers"]
    assert "plan" not in json.loads(run("info", scans / "ct.h5", "--json", "--no-plan").out)


def test_plan_of_info_is_that_of_a_run(scans, tmp_path):
    file = tmp_path / "pattern.h5"
    pattern = simulate_diffraction(shepp_logan((24, 24)).astype(complex), photons=1e6, rng=1)
    write_scan(pattern, file)
    for path in (scans / "stack.h5", scans / "ct.h5", file):
        scan = load(path)
        quick, real = estimate_run(scan, time_budget=300), plan_run(scan)
        for name in ("solver", "prior", "slices"):
            assert getattr(quick, name) == getattr(real, name)
        for name in ("point_steps", "steps", "num_samples", "krylov"):
            assert getattr(quick.effort, name) == getattr(real.effort, name)
        assert 0.05 < quick.seconds / real.seconds < 20


def test_time_of_a_small_object_is_that_of_its_part(scans):
    """Of a tomogram only the middle that holds the object is reconstructed."""
    scan = load(scans / "ct.h5")
    rows, columns = np.meshgrid(*(np.linspace(-1, 1, 96),) * 2, indexing="ij")
    image = np.where((rows / 0.3) ** 2 + (columns / 0.4) ** 2 < 1, 0.02, 0).astype(np.float32)
    small = simulate_ct(image, num_angles=60, noise_std=0.01, rng=0)
    model = Job(small, None, None, Progress(), None, Coils()).model(0, None, None, 0)
    found = expected_shape(small, 0)
    assert max(found) < 70
    for size, used in zip(found, model.physics.image_shape, strict=True):
        assert abs(size - used) <= 4
    assert expected_shape(scan, 0) == scan.image_shape, "an object that fills the image"


def test_bad_file_is_one_line(tmp_path):
    refused(run("info", tmp_path / "no.h5", "--json"), "no.h5", "no such file")


SIDECARS = Path(__file__).resolve().parents[2] / "examples" / "sidecars"


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sidecar", "said"),
    [
        ("mri_brain16ch_fastmri.h5", None, ["all 128 lines", "row (readout) 128"]),
        ("mri_phantom16ch_ismrmrd.h5", None, ["rows to A, columns to R", "  P\n"]),
        ("mri_brain8ch_poisson.npy", "mri_brain8ch_poisson", ["5148 of 41400 points", "24x24 in"]),
        ("ct_parallel_tooth.h5", None, ["angle 181, detector 640", "quick filtered"]),
        ("mri_spiral20ch_ksp.mat", "mri_spiral20ch", ["shot 54, sample 310", "gridded"]),
        ("phase_bcdi_crystal.tif", "phase_bcdi_crystal", ["frame 72", "log(1 + counts)"]),
        ("pet_transmission_phantom_trans.mat", "pet_transmission_phantom", ["photon counts"]),
    ],
)  # fmt: skip
def test_pictures_of_real_scans(real_data, name, sidecar, said):
    words = () if sidecar is None else ("--sidecar", SIDECARS / f"{sidecar}.toml")
    ran = run("info", real_data / name, *words, "--picture", "--no-plan")
    assert ran.code == 0, ran.err
    for text in said:
        assert text in ran.out, (text, ran.out)
    assert sum(1 for line in ran.out.splitlines() if set(line) & set("*#%@")) >= 4
