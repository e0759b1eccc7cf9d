"""Pages opened in a real browser: no error, no request, keys that work, pictures, two sheets.

A probe is added to a copy of a page, with its own hash in the policy, presses keys and writes what
it saw into an attribute of the document, which ``--dump-dom`` hands back.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from sciinv.report.figures import plain_png
from sciinv.report.page import report_html

from .conftest import make_result
from .test_page import HOSTILE, provenance

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here (package chromium)")

# runs before the page's own script (errors) and after it (keys)
BEFORE = """
window.seen = { errors: [], refused: [] };
window.requestAnimationFrame = (draw) => setTimeout(draw, 0); // no frames in virtual time
window.addEventListener("error", (e) => window.seen.errors.push(e.message));
document.addEventListener("securitypolicyviolation", (e) => window.seen.refused.push(e.blockedURI));
"""
AFTER = """
const first = document.querySelector("#panels canvas.image");
const copy = document.createElement("canvas");
const reader = copy.getContext("2d", { willReadFrequently: true });
const sum = (canvas) => {
  copy.width = canvas.width;
  copy.height = canvas.height;
  reader.drawImage(canvas, 0, 0);
  const { data } = reader.getImageData(0, 0, copy.width, copy.height);
  let total = 0;
  for (const value of data) total += value;
  return total / data.length;
};
const brightest = (canvas) => {
  sum(canvas);
  const { data } = reader.getImageData(0, 0, copy.width, copy.height);
  let best = 0;
  for (let i = 0; i < data.length; i += 4) if (data[i] > data[best]) best = i;
  return [Math.floor(best / 4 / copy.width), (best / 4) % copy.width];
};
const look = () => ({
  title: document.querySelector("#panels h3").textContent, label: first.getAttribute("aria-label"),
  pixels: sum(first), ends: document.querySelector(".ends").textContent,
  pressed: [...document.querySelectorAll("#keys [aria-pressed=true]")].map((b) => b.dataset.key),
});
const press = (key) => document.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
const settle = () => new Promise((done) => setTimeout(done, 20));
(async () => {
  const found = window.seen;
  found.keys = {};
  for (const key of ["0", ...document.body.dataset.keys]) {
    press(key);
    await settle();
    found.keys[key] = look();
  }
  press("0");
  const level = document.getElementById("level");
  level.value = 800;
  level.dispatchEvent(new Event("input"));
  await settle();
  found.dragged = look();
  press("w");
  await settle();
  found.reset = look();
  press("s");
  press("u");
  await settle();
  found.same = look();
  press("u");
  press("0");
  press("+");
  await settle();
  found.next = look();
  const fold = document.getElementById("planes");
  if (fold) {
    fold.open = true;
    await new Promise((done) => setTimeout(done, 300));
    found.planes = [...fold.querySelectorAll("canvas")].map((c) => [c.width, c.height, sum(c)]);
    const cursor = JSON.parse(document.body.dataset.cursor);
    cursor.forEach((at, axis) => {
      const slider = document.querySelector(`#plane-${axis} input`);
      slider.value = at;
      slider.dispatchEvent(new Event("input"));
    });
    found.marked = [...fold.querySelectorAll("canvas")].map(brightest);
    const slice = document.getElementById("slice");
    slice.value = cursor[0];
    slice.dispatchEvent(new Event("input"));
    await settle();
    found.marked.push(brightest(first));
  }
  found.requests = performance.getEntriesByType("resource").map((e) => e.name)
    .filter((name) => !name.startsWith("data:"));
  document.documentElement.dataset.found = JSON.stringify(found);
})();
"""


def chromium(tmp_path, *arguments: str) -> str:
    command = [
        str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-extensions", "--disable-background-networking", "--no-first-run",
        "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", *arguments,
    ]  # fmt: skip
    run = subprocess.run(command, capture_output=True, text=True, timeout=90, check=True)
    # what a page writes to the console, errors and refused loads among it
    assert "CONSOLE" not in run.stderr, run.stderr
    return run.stdout


def probed(text: str, keys: str, cursor: tuple[int, ...] = (0, 0, 0)) -> str:
    """The page with the probe before and after its own script."""
    for script in (BEFORE, AFTER):
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
        text = text.replace("script-src ", f"script-src 'sha256-{digest}' ", 1)
    text = text.replace("<style>", f"<script>{BEFORE}</script><style>", 1)
    text = text.replace("<body ", f'<body data-keys="{keys}" data-cursor="{list(cursor)}" ', 1)
    return text.replace("</body>", f"<script>{AFTER}</script></body>", 1)


def opened(tmp_path, text: str, keys: str, cursor: tuple[int, ...] = (0, 0, 0)) -> dict:
    page = tmp_path / "page.html"
    page.write_text(probed(text, keys, cursor), encoding="utf-8")
    dom = chromium(
        tmp_path, "--virtual-time-budget=4000", "--window-size=1400,1000", "--dump-dom",
        page.as_uri(),
    )  # fmt: skip
    found = re.search(r'data-found="([^"]*)"', dom)
    assert found, dom[:2000]
    return json.loads(html.unescape(found.group(1)))


def figures() -> dict[str, bytes]:
    """Figures that cost nothing."""
    names = ("overview", "samples", "orthogonal", "null_space", "residual", "histogram")
    return dict.fromkeys(names, plain_png(np.eye(4), (0.0, 1.0)))


CASES = {
    "mri": lambda: make_result(slices=3, null_share=0.2, name=HOSTILE, units=HOSTILE,
                               baseline_name=HOSTILE, warnings=(HOSTILE,)),
    "ct": lambda: make_result("ct", shape=(60, 90), null_share=0.02, provenance=provenance()),
    "diffraction": lambda: make_result("diffraction", oriented=False, units="a.u."),
    "volume": lambda: make_result(slices=1, shape=(12, 24, 20), residual=None),
}  # fmt: skip
KEYS = {"mri": "12bsnf", "ct": "4bsn", "diffraction": "3bs", "volume": "2bsf"}


@pytest.mark.parametrize("case", CASES)
def test_page_works_in_a_browser(case, tmp_path):
    result = CASES[case]()
    keys = KEYS[case]
    found = opened(tmp_path, report_html(result, figures()), keys)
    assert found["errors"] == [] and found["refused"] == [] and found["requests"] == []
    seen = found["keys"]
    assert seen["0"]["title"] == "Posterior mean"
    assert seen["s"]["title"] == "Standard deviation"
    assert seen["b"]["title"].startswith("Baseline: ")
    for key in keys:
        assert seen[key]["pressed"] == [key]
        # opaque pixels have at least a mean of a quarter of 255
        assert 255 / 4 < seen[key]["pixels"] < 255
    assert len({entry["pixels"] for entry in seen.values()}) == len(seen)
    # a higher level is darker; w brings the first window back
    assert found["dragged"]["pixels"] < found["reset"]["pixels"] == seen["0"]["pixels"]
    assert found["dragged"]["ends"] != seen["0"]["ends"]
    # the standard deviation in the window of the mean, and labelled so
    assert found["same"]["title"] == "Standard deviation"
    assert found["same"]["ends"].split(" ")[0] == found["reset"]["ends"].split(" ")[0]
    assert found["same"]["pixels"] != seen["s"]["pixels"]
    stack = result.samples.shape[-3] > 1
    assert (found["next"]["pixels"] != found["reset"]["pixels"]) == stack
    assert ("slice" in found["next"]["label"]) == stack
    if case == "volume":
        wide, tall = 14, 20  # what is seen of 20 columns and 24 rows
        sizes = [plane[:2] for plane in found["planes"]]
        assert sizes == [[wide, tall], [wide, 12], [tall, 12]]
        assert all(70 < plane[2] < 250 for plane in found["planes"])
    else:
        assert "planes" not in found


def test_a_marked_voxel_lies_where_the_letters_say(tmp_path):
    # to the superior, anterior and right of what is seen: rows grow to posterior, columns to left
    samples = np.full((2, 1, 12, 24, 20), 0.1, np.float32)
    samples[..., 9, 5, 7] = 1.0
    result = make_result("ct", shape=(12, 24, 20), residual=None, samples=2,
                         replaced={"samples": samples, "baseline": samples[0]})  # fmt: skip
    # what is seen begins at row 2 and column 3; the head is up in the cuts across the slices
    found = opened(tmp_path, report_html(result, figures()), "12", cursor=(9, 5 - 2, 7 - 3))
    axial, coronal, sagittal, panel = found["marked"]
    assert axial == [5 - 2, 7 - 3]
    assert coronal == [11 - 9, 7 - 3]
    assert sagittal == [11 - 9, 5 - 2]
    assert panel == [5, 7]


def test_first_screen_and_print(tmp_path):
    result = make_result(shape=(96, 80), null_share=0.1, provenance=provenance(),
                         notes=("one note",) * 5, warnings=("a warning",) * 2,
                         stats={"timings": dict.fromkeys("abcdef", 1.0)})  # fmt: skip
    page = tmp_path / "page.html"
    page.write_text(report_html(result), encoding="utf-8")
    picture, sheets = tmp_path / "shot.png", tmp_path / "print.pdf"
    chromium(
        tmp_path, "--virtual-time-budget=3000", "--window-size=1400,1000",
        f"--screenshot={picture}", f"--print-to-pdf={sheets}", page.as_uri(),
    )  # fmt: skip
    pixels = np.asarray(Image.open(picture).convert("RGB"), np.float64)
    assert pixels.shape == (1000, 1400, 3)
    assert pixels[:, :20].min() > 200  # margin
    # in the middle of the three panels below the verdict: noise, two times grey and once not
    mean, baseline, std = (pixels[400:700, a : a + 150] for a in (200, 625, 1055))
    assert baseline.std() > mean.std() > 15 and std.std() > 15
    grey = [abs(part[..., 0] - part[..., 2]).max() == 0 for part in (mean, baseline, std)]
    assert grey == [True, True, False]
    assert len(re.findall(rb"/Type\s*/Page\b", sheets.read_bytes())) in (1, 2)
