"""Maps and weights that mean something other than they seem to are warned of, and only those."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from dav2_utils import ENCODERS, DepthAnythingV2, default_weights, load_model, make_scene, show_depth
from dav2_utils.depth.doubts import DepthWarning, doubts, ends, lightness
from dav2_utils.depth.pictures import pictures_at, write_depth_maps

ROWS = np.linspace(1, 9, 60, dtype=np.float32)[:, None] * np.ones((1, 80), np.float32)  # grows downwards
SKY = np.where(ROWS < 5, 0, ROWS)  # right relative weights: what is far, above, is 0
UPSIDE_DOWN = np.where(ROWS > 4, 0, 9 - ROWS)  # metric weights without their range


@pytest.mark.parametrize(
    ("depth", "max_depth", "encoder", "size", "words"),
    [
        (ROWS, None, "vits", 518, ""),
        (ROWS, 20, "vits", 266, ""),
        (ROWS, 20, "tiny", 112, ""),
        (SKY, None, "vits", 518, ""),
        (np.where(ROWS < 5, 0, ROWS), 20, "vits", 518, ""),  # metres
        (UPSIDE_DOWN, None, "vits", 518, "62% of this map is exactly 0"),
        (0 * ROWS, None, "vits", 518, "100% of this map"),
        (0 * ROWS, 20, "vits", 518, "every pixel has the same value"),
        (10 + ROWS / 20, 20, "vits", 518, "less than 5% apart"),
        (10 + ROWS / 10, 20, "vits", 518, ""),
        (ROWS, 20, "tiny", 518, "112 pixels, and sees little at 518"),
    ],
)
def test_what_is_doubted(depth: np.ndarray, max_depth: float | None, encoder: str, size: int, words: str) -> None:
    found = doubts(depth, max_depth, encoder, size)
    assert len(found) == bool(words) and words in "".join(found)


def test_the_input_size_follows_the_encoder() -> None:
    assert {name: encoder.input_size for name, encoder in ENCODERS.items()} == dict.fromkeys(ENCODERS, 518) | {
        "tiny": 112
    }
    tiny, room = load_model("tiny"), make_scene("rooms", 3).image
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(tiny.infer_image(room), tiny.infer_image(room, 112))
    with pytest.warns(DepthWarning, match="sees little at 154") as caught:
        tiny.infer_image(room, 154)
    assert caught[0].filename == __file__, "the caller's line is shown"


def test_a_metric_fine_tune_without_its_range_is_doubted_from_the_file_and_from_the_map(tmp_path: Path) -> None:
    weights = load_model("tiny").state_dict()
    scores = dict.fromkeys(["d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"], 0.5)
    torch.save({"model": weights, "previous_best": scores}, tmp_path / "latest.pth")
    with pytest.warns(DepthWarning, match="their range in metres"):
        relative = load_model(tmp_path / "latest.pth")
    with pytest.warns(DepthWarning, match="metric weights in the relative model"):
        relative.infer_image(make_scene("rooms", 3).image)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(tmp_path / "latest.pth", max_depth=20)


def test_weights_that_nobody_trained(tmp_path: Path, latest: Path) -> None:
    torch.save(DepthAnythingV2("tiny").state_dict(), tmp_path / "fresh.pth")
    with pytest.warns(DepthWarning, match="never trained"):
        load_model(tmp_path / "fresh.pth")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_model(latest)  # after a single step
        load_model(default_weights())


def test_the_file_is_painted_like_the_figure(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "room.png"), make_scene("rooms", 3, (60, 80)).image)
    for max_depth in (20, None):
        model = load_model("tiny")
        model.max_depth = max_depth
        [done] = write_depth_maps(model, [tmp_path / "room.png"], force=True)
        depth = np.load(done["depth"])
        in_file = cv2.imread(done["picture"])[..., ::-1].astype(int)
        figure = np.asarray(Image.open(io.BytesIO(show_depth(depth, max_depth=max_depth).png)).convert("RGB"))
        left, top, right, bottom = show_depth(depth, max_depth=max_depth).panels[0]
        height, width = figure.shape[:2]
        inside = figure[round(top * height) + 2 : round(bottom * height) - 2,
                        round(left * width) + 2 : round(right * width) - 2]  # fmt: skip
        small = cv2.resize(np.ascontiguousarray(inside), (80, 60), interpolation=cv2.INTER_AREA).astype(int)
        assert np.abs(small - in_file).mean() < 8, max_depth


def test_nearer_is_lighter_and_twice_as_far_is_one_step() -> None:
    metres = np.array([[1.0, 2, 4, 8, 16]])
    steps = np.diff(lightness(metres, 20, ends(metres, 20)))
    assert np.allclose(steps, -0.25)
    assert np.allclose(lightness(metres, None, ends(metres, None)), (metres - 1) / 15)
    assert lightness(0 * metres, None, (0, 0)).max() == 0


def test_a_folder_and_a_pattern_are_pictures(tmp_path: Path) -> None:
    for name in ("b.JPG", "a.png", "a.depth.png", "notes.txt", "a.depth.npy"):
        (tmp_path / name).touch()
    (tmp_path / "sub.png").mkdir()
    (tmp_path / "sub.png" / "c.jpg").touch()
    names = [
        [path.name for path in pictures_at([tmp_path / words])] for words in (".", "*.JPG", "*/*.jpg", "notes.txt")
    ]
    assert names == [["a.png", "b.JPG"], ["b.JPG"], ["c.jpg"], ["notes.txt"]], "what was named is not left out"
