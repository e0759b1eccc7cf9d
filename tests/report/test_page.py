"""The HTML page: verdict first, everything escaped, nothing from the network."""

from __future__ import annotations

import base64
import hashlib
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from sciinv.report import page, verdict
from sciinv.report.page import grain, report_html
from sciinv.report.plain import harmless, plain, show
from sciinv.result import Status

HOSTILE = "<script>alert(1)</script>\x1b]0;owned\x07 \N{RIGHT-TO-LEFT OVERRIDE}gpj.exe \"'&\0"


class Reader(HTMLParser):
    """Collect tags with attributes, scripts and the visible text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.scripts, self.data, self.texts, self._stack = [], [], [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._json = tag == "script" and dict(attrs).get("type") == "application/json"
        if tag not in ("meta", "link", "img", "input", "br"):
            self._stack.append(tag)

    def handle_endtag(self, tag):
        assert self._stack.pop() == tag  # well formed

    def handle_data(self, data):
        if self._stack and self._stack[-1] == "script":
            (self.data if self._json else self.scripts).append(data)
        elif "style" not in self._stack and "head" not in self._stack and data.strip():
            self.texts.append(" ".join(data.split()))


@pytest.fixture(scope="module")
def stubs():
    """Figures that cost nothing."""
    buffer = io.BytesIO()
    Image.new("L", (2, 2)).save(buffer, format="PNG")
    return dict.fromkeys(("overview", "samples", "histogram", "residual"), buffer.getvalue())


def drawn(stubs, name):
    """The stubs with one figure more."""
    return {**stubs, name: stubs["overview"]}


def provenance():
    return {
        "seed": 11,
        "solver": {"name": "MMT", "steps": 10},
        "prior": {"name": "generic", "sha256": "ab" * 32, "card": {"licence": "BSD"}},
        "operator": "CartesianMRI 24 x 20",
        "versions": {"numpy": "2.4"},
        "command": "sciinv reconstruct scan.h5 --seed 11",
        "settings": {
            "noise_std": {"value": 0.0131, "origin": "estimated"},
            "steps": (10, "default"),
        },
        "citations": ("@article{own2025,\n  title = {Own}\n}",),
    }


# verdict ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {"warnings": ("a", "b")},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02). 2 warnings.",
        ),
        (
            {"chi_squared": 1.0132, "chi_squared_tolerance": 0.004, "warnings": ("a",)},
            "Fits the data to the noise (chi-squared 1.013, expected 1.000 ± 0.004). 1 warning.",
        ),
        (
            {"chi_squared": 1.3},
            "Fits the data roughly (chi-squared 1.30, expected 1.00 ± 0.02).",
        ),
        (
            {"chi_squared": 2.5, "status": Status.MISFIT},
            "Does not fit: misses the data (chi-squared 2.50, expected 1.00 ± 0.02): "
            "noise level too low or model wrong.",
        ),
        (
            {"chi_squared": 0.3, "status": Status.MISFIT},
            "Does not fit: overfits the data (chi-squared 0.30, expected 1.00 ± 0.02): "
            "noise level probably set too high.",
        ),
        (
            {"status": Status.STOPPED},
            "Stopped after 4 samples. "
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02).",
        ),
        (
            {"provenance": {"noise": 0.01, "noise_used": 0.025}},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02, "
            "at 2.5 times the noise level of the scan).",
        ),
        (
            {"provenance": {"noise": 0.01, "noise_used": 0.012}},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02).",
        ),
        (
            {"null_share": 0.14, "warnings": ("a",)},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02). "
            "14 % of the image energy comes from the prior. 1 warning.",
        ),
        (
            {"null_share": 0.023},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02). "
            "2.3 % of the image energy comes from the prior.",
        ),
        (
            {"null_share": 0.0},
            "Fits the data to the noise (chi-squared 1.01, expected 1.00 ± 0.02). "
            "Below 0.1 % of the image energy comes from the prior.",
        ),
        (
            {"chi_squared": float("nan"), "status": Status.FAILED, "null_share": 0.2},
            "Failed: do not use these images (chi-squared is not a number).",
        ),
    ],
)
def test_verdict(make, changes, expected):
    assert verdict(make(**changes)) == expected


def test_first_line_is_the_verdict(make, stubs):
    result = make(warnings=("look here",))
    texts = Reader(report_html(result, stubs)).texts
    assert texts[0] == verdict(result)
    assert "look here" in texts[:5]


# content ----------------------------------------------------------------------------------------
def test_everything_is_told(make, stubs):
    result = make(
        provenance=provenance(),
        stats={"nfe": 20, "seconds": 200.0, "peak_memory": 2**30, "timings": {"coils": 1.5}},
        notes=("the axis was guessed",),
    )
    text = "\n".join(Reader(report_html(result, stubs)).texts)
    expected = (
        "noise_std\n0.0131\nestimated",
        "steps\n10\ndefault",
        "sciinv reconstruct scan.h5 --seed 11",
        "prior: sha256\n" + "ab" * 32,
        "licence\nBSD",
        "numpy\n2.4",
        "@software{sciinv,",
        "@article{own2025,",
        "the axis was guessed",
        "coils\n1.5 s",
        "3 min 20 s",
        "1.00 GiB",
        "1.5 x 1.2 x 3 mm",
        "not a guarantee",
        "not shape uncertainty",
        "Research use only",
    )
    for piece in expected:
        assert piece in text, piece


def test_masked_share_is_told(make, stubs):
    result = make()
    # the border of make_result: 20 of 24 rows and 14 of 20 columns are seen
    assert float(result.visible.mean()) == pytest.approx(20 * 14 / 480)
    text = " ".join(Reader(report_html(result, stubs)).texts)
    assert "41.7 % of the pixels cannot be seen" in text
    everything = make(visible=np.ones((1, 24, 20), bool))
    assert "cannot be seen" not in report_html(everything, stubs)


def test_samples_have_keys_and_buttons(make, stubs):
    result = make(samples=12, null_share=0.1, reference=np.ones((1, 24, 20), np.float32))
    reader = Reader(report_html(result, stubs))
    keys = [a["data-key"] for tag, a in reader.tags if tag == "button" and "data-key" in a]
    assert keys == [*"0123456789", "b", "s", "n", "r", "f"]
    panels = [a["data-map"] for tag, a in reader.tags if a.get("class") == "panel"]
    assert panels == ["0", "b", "s", "n", "f"]
    # what a screen reader says
    images = [a for tag, a in reader.tags if a.get("class") == "image"]
    assert all(a["aria-label"] and a["role"] == "img" for a in images)
    assert all(a["alt"] for tag, a in reader.tags if tag == "img")


def test_one_sample_has_no_std_frame(make, stubs):
    text = report_html(make(samples=1), stubs)
    assert 'data-key="s"' not in text and 'data-map="s"' not in text
    assert "draw at least two" in text


def test_drawn_without_given_figures(make):
    text = report_html(make(slices=8, null_share=0.1))
    assert "Three planes" in text
    assert text.count('src="data:image/png;base64,') == 6


def test_what_the_prior_added_is_told(make, stubs):
    text = " ".join(Reader(report_html(make(null_share=0.14), stubs)).texts)
    assert "14 % of the energy of the image, 37 % of its amplitude" in text
    texts = " ".join(Reader(report_html(make("diffraction", oriented=False), stubs)).texts)
    assert "Not defined for diffraction" in texts
    assert "Directions unknown" in texts


def test_settings_that_the_run_filled_in(make, stubs):
    known = provenance()
    known["settings"] = {
        "noise": {"value": None, "origin": "default"},
        "samples": {"value": None, "origin": "default"},
        "prior": {"value": "ct", "origin": "command line"},
        "coils": {"value": None, "origin": "default"},
    }
    known["noise"] = 0.0131
    text = "\n".join(Reader(report_html(make(provenance=known), stubs)).texts)
    assert "noise\n0.0131\nestimated from the scan" in text
    assert "samples\n4\nfitted to the time budget" in text
    assert "prior\nct\ncommand line" in text
    assert "coils\nnone\ndefault" in text


def test_k_space_coverage_and_position(make, stubs):
    known = {"operator": {"operator": "CartesianMRI"}}
    text = "\n".join(Reader(report_html(make(provenance=known), stubs)).texts)
    # every third of 20 columns was not measured: 13 are left
    assert "k-space measured\n65.0 % (R = 1.54)" in text
    # the affine of the stack at the middle of 24 rows and 20 columns
    centre = (-1.2 * 9.5 + 10, -1.5 * 11.5 + 20, -5)
    assert "\n{:.4g}, {:.4g}, {:.4g} mm".format(*centre) in text


def test_reference_is_compared_in_numbers(make, stubs):
    result = make()
    reference = (result.mean + np.where(result.visible, 0.1, 0)).astype(np.float32)
    text = " ".join(Reader(report_html(make(reference=reference), drawn(stubs, "reference"))).texts)
    peak = reference[result.visible].max()
    assert f"Mean: PSNR {20 * np.log10(peak / 0.1):.1f} dB" in text


def test_grain_of_noise_and_of_structure(rng):
    noise = np.abs(rng.normal(size=(60, 80)))
    noise[:, ::7] = np.nan
    assert abs(grain(noise)) < 5 / np.sqrt(60 * 80)
    stripes = noise + 2 * (np.arange(60)[:, None] // 6 % 2)
    assert grain(stripes) > 0.3
    assert grain(None) is None and grain(np.full((60, 80), np.nan)) is None


# safety -----------------------------------------------------------------------------------------
def test_hostile_texts_are_escaped(make, stubs):
    result = make(
        name=HOSTILE,
        units=HOSTILE,
        baseline_name=HOSTILE,
        notes=(HOSTILE,),
        warnings=(HOSTILE,),
        stats={HOSTILE: HOSTILE, "timings": {HOSTILE: 1.0}},
        provenance={
            "settings": {HOSTILE: {"value": HOSTILE, "origin": HOSTILE}},
            "command": HOSTILE,
            "versions": {HOSTILE: HOSTILE},
            "solver": {HOSTILE: [HOSTILE]},
            "citations": (HOSTILE,),
            HOSTILE: HOSTILE,
        },
    )
    text = report_html(result, stubs)
    reader = Reader(text)
    assert len(reader.scripts) == 1
    assert "<script>alert" not in text
    assert text.count("&lt;script&gt;alert") > 15
    allowed = {"\n", "\t"}
    assert not {c for c in text if not c.isprintable()} - allowed
    assert "\\x1b]0;owned\\x07" in text
    assert not any(name.startswith("on") for _, attrs in reader.tags for name in attrs)


def test_nothing_is_loaded_from_anywhere(make, stubs):
    text = report_html(make(provenance=provenance()), stubs)
    reader = Reader(text)
    loads = ("src", "href", "srcset", "data", "action", "poster", "background")
    for tag, attrs in reader.tags:
        for name in loads:
            assert attrs.get(name, "data:").startswith("data:"), (tag, name)
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|import\(", text)


def test_only_our_script_may_run(make, stubs):
    text = report_html(make(), stubs)
    (script,) = Reader(text).scripts
    policy = next(
        attrs["content"]
        for tag, attrs in Reader(text).tags
        if attrs.get("http-equiv") == "Content-Security-Policy"
    )
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy


@pytest.mark.parametrize("shape", [(16, 640, 640), (1, 256, 256, 256)], ids=str)
def test_large_images_stay_below_the_limit(make, stubs, shape):
    # noise does not compress; the figures are bounded by their size in inches
    noise = np.random.default_rng(1).random((1, *shape), np.float32)
    seen = np.ones(shape, bool)
    fields = {"samples": noise, "baseline": noise[0], "null_space": noise[0], "visible": seen}
    result = make("ct", samples=1, residual=None, replaced=fields)
    figures = drawn(stubs, "orthogonal")
    assert len(report_html(result, figures).encode()) < 0.9 * page.SIZE_LIMIT


# plain values -----------------------------------------------------------------------------------
def test_plain_values(tmp_path):
    values = {
        "path": tmp_path / "patient.h5",
        "numbers": (np.float32(0.5), np.int64(3), True, None),
        "array": np.arange(3),
        "bad": [float("nan"), -np.inf],
        "status": Status.MISFIT,
        "set": {"b", "a"},
        "complex": 1 + 2j,
        "surrogate": "caf\udce9",
    }
    assert plain(values) == {
        "path": "patient.h5",
        "numbers": [0.5, 3, True, None],
        "array": [0, 1, 2],
        "bad": ["nan", "-inf"],
        "status": "misfit",
        "set": ["a", "b"],
        "complex": {"real": 1.0, "imag": 2.0},
        "surrogate": "caf\\udce9",
    }
    assert type(plain(Status.DONE)) is str
    assert [show(v) for v in (True, None, 0.123456, [1, 2.5], {"a": 1})] == [
        "yes",
        "none",
        "0.1235",
        "1, 2.5",
        "a = 1",
    ]


def test_harmless_keeps_readable_text():
    text = "Grüße, 中文 ±\n\tx"
    assert harmless(text) == text
    assert harmless("a\x1b[31m\x9b\N{RIGHT-TO-LEFT OVERRIDE}\udce9") == (
        "a\\x1b[31m\\x9b\\u202e\\udce9"
    )
