"""Drawings: what is drawn is what is there, with alt text, on a light and a dark background."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from dav2_utils import draw_box, draw_cuts, draw_paths, draw_tables, read_picture, sample_photo
from dav2_utils.classroom.plots import Picture

MODEL = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1))
WRAPPED = nn.DataParallel(MODEL)
WAYS = {"replace": lambda name: name.replace("module.", ""), "removeprefix": lambda name: name.removeprefix("module.")}
DRAWN: dict[str, Callable[..., Picture]] = {
    "tables": lambda **how: draw_tables(WRAPPED, MODEL, **how),
    "paths": lambda **how: draw_paths({"at home": MODEL, "in training": WRAPPED}, **how),
    "box": lambda **how: draw_box({"model": WRAPPED.state_dict(), "epoch": 39, "best": {}}, **how),
    "cuts": lambda **how: draw_cuts("module.se_module.fc1.weight", WAYS, **how),
}


def pixels(picture: Picture) -> Any:
    return np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)


@pytest.mark.parametrize("name", DRAWN)
def test_light_and_dark_are_one_drawing_on_two_grounds(name: str) -> None:
    light, dark = DRAWN[name](), DRAWN[name](dark=True)
    assert light.alt == dark.alt and len(light.alt) > 60
    one, two = pixels(light), pixels(dark)
    assert one.shape == two.shape and one.shape[1] <= 2000 and len(light.png) < 90_000
    assert (one[0, 0] == 255).all() and two[0, 0].sum() < 120
    assert DRAWN[name]().png == light.png, "the same bytes each time"


def test_the_alt_texts_say_what_is_drawn() -> None:
    assert "module.0.weight ≠ 0.weight" in DRAWN["tables"]().alt and "4 under another name" in DRAWN["tables"]().alt
    assert "at home: 0.weight; in training: module.0.weight" in DRAWN["paths"]().alt
    assert "model: module.0.weight, module.0.bias, module.1.weight, ... and 1 more; epoch: 39" in DRAWN["box"]().alt
    assert "replace: se_fc1.weight; removeprefix: se_module.fc1.weight" in DRAWN["cuts"]().alt


def orange(picture: Picture) -> int:
    """How many pixels have the background of what a wrapper or a tool added."""
    return int((np.abs(pixels(picture) - [0xFD, 0xEB, 0xD6]).sum(-1) < 6).sum())


def test_only_what_was_added_is_marked() -> None:
    assert orange(draw_paths({"at home": MODEL})) == 0 < orange(draw_paths({"in training": WRAPPED}))
    assert orange(draw_tables(MODEL, MODEL)) == 0 < orange(draw_tables(WRAPPED, MODEL))
    both = nn.DataParallel(WRAPPED)
    assert orange(draw_paths({"both": both})) > orange(draw_paths({"one": WRAPPED}))
    one, two = (draw_cuts("module.se_module.w", {"way": WAYS[way]}) for way in ("removeprefix", "replace"))
    assert orange(two) > 1.8 * orange(one), "two cuts, two marks"


def test_the_photograph_is_there_and_says_whose_it_is() -> None:
    photo = sample_photo()
    assert read_picture(photo).shape == (240, 360, 3) and photo.stat().st_size < 30_000
    assert "CC0" in (photo.parent / "README.txt").read_text(encoding="utf-8")
