"""The card says what was measured, and its page and picture show it."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sciinv.training.card import make_card, page, picture
from sciinv.training.config import make_config
from sciinv.training.curve import contact_sheet
from sciinv.training.source import make_source


@pytest.fixture
def card() -> dict[str, Any]:
    config = make_config({"prior": {"name": "some", "description": "Words."},
                          "data": {"without": ["texture"]}})  # fmt: skip
    source = make_source(config, 0)
    made = make_card(config, source, 1234567, 8, 7300.0, 0.05)
    rows = {"0.1": {"psnr": 31.5, "error_over_sigma": 0.266},
            "1": {"psnr": 17.25, "error_over_sigma": 0.137}}  # fmt: skip
    return {**made, "denoising": rows}


def test_page_holds_the_facts(card: dict[str, Any]) -> None:
    text = page(card)
    for part in (
        "# some", "Words.", "1,234,567", "2.0 hours on 8 devices", "noise of 0.003 to 5",
        "world generic", "without texture", "| 0.1 | 20.00 | 31.50 | 0.266 |",
        "| 1 | 0.00 | 17.25 | 0.137 |", "card.png", "medical device",
        f"{8000 * 12 * 8} patches",
    ):  # fmt: skip
        assert part in text, part


def test_picture_is_a_png_with_curve_and_examples(card: dict[str, Any]) -> None:
    examples = torch.rand(3, 4, 2, 16, 16)
    image = np.asarray(Image.open(io.BytesIO(picture(card, examples))).convert("RGB"))
    assert image.shape[1] > image.shape[0] > 300
    right = image[:, image.shape[1] // 2 :]
    other = np.asarray(
        Image.open(io.BytesIO(picture(card, torch.zeros_like(examples)))).convert("RGB")
    )[:, image.shape[1] // 2 :]
    assert (right != other).mean() > 0.2


def test_contact_sheet_puts_rows_and_columns_in_their_places() -> None:
    examples = torch.zeros(3, 2, 1, 4, 5)
    examples[0, 0] = 2.0  # clean, first image: its own white
    examples[2, 1] = 1.0  # denoised, second image, whose clean one is black
    sheet = contact_sheet(examples)
    assert sheet.shape == (12, 10)
    assert bool((sheet[:4, :5] == 1).all()) and bool((sheet[8:, 5:] == 1).all())
    assert float(sheet.sum()) == 40
    pair = torch.zeros(3, 1, 2, 2, 2)
    pair[0, 0, 0], pair[0, 0, 1] = 3.0, 4.0
    pair[1, 0, 1] = -2.5
    assert contact_sheet(pair)[2, 0] == 0.5  # a magnitude
