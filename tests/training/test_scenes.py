"""Scenes: the same bytes everywhere, exact depth, honest scores, and seeds that never meet the training."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from dav2_utils.depth.hub import default_weights
from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.depth.scores import depth_scores
from dav2_utils.errors import CheckpointError
from dav2_utils.training.data import evaluate
from dav2_utils.training.raycast import FOCAL, Light, Paint, Solid, View, render
from dav2_utils.training.scenes import DOMAINS, HELD_OUT, held_out, make_scene

DIGESTS = json.loads((Path(__file__).parents[1] / "data" / "scenes.json").read_text())


@pytest.mark.elsewhere
@pytest.mark.parametrize("name", list(DIGESTS))
def test_scenes_are_frozen(name: str) -> None:
    """The embedded weights and every published score belong to these very bytes."""
    domain, seed, height, width = re.fullmatch(r"(\w+) (\d+) (\d+)x(\d+)", name).groups()  # type: ignore[union-attr]
    scene = make_scene(domain, int(seed), (int(height), int(width)))
    assert hashlib.sha256(scene.image.tobytes() + scene.depth.tobytes()).hexdigest() == DIGESTS[name]


@pytest.mark.parametrize("domain", list(DOMAINS))
def test_what_a_scene_is(domain: str) -> None:
    for seed in range(20):
        scene = make_scene(domain, seed)
        assert scene.image.shape == (112, 154, 3) and scene.image.dtype == np.uint8
        assert scene.depth.shape == (112, 154) and scene.depth.dtype == np.float32
        assert scene.depth.min() > 0.2 and scene.depth.max() <= DOMAINS[domain]
        assert scene.image.std() > 10 and len(np.unique(scene.depth)) > 1000
    assert not np.array_equal(make_scene(domain, 1).depth, make_scene(domain, 2).depth)


@pytest.mark.parametrize("size", [(1, 1), (14, 28), (518, 518)])
def test_any_size(size: tuple[int, int]) -> None:
    assert make_scene("streets", 3, size).depth.shape == size


WHITE, LAMP = Paint((1.0, 1.0, 1.0)), Light((0.0, 2.0, 0.0), False, 0.5)


def unproject(depth: np.ndarray, view: View) -> np.ndarray:
    """Points in the world, (3, H, W), by angles and a matrix: another road than the one that raycast takes."""
    height, width = depth.shape
    yaw, pitch = 2 * np.arctan(view.yaw), 2 * np.arctan(view.pitch)
    x = (np.arange(width) + 0.5 - width / 2) / (FOCAL * width)
    y = -(np.arange(height) + 0.5 - height / 2) / (FOCAL * width)
    rays = np.stack([np.broadcast_to(x, depth.shape), np.broadcast_to(y[:, None], depth.shape), np.ones(depth.shape)])
    tilt = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    turn = np.array([[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]])
    return np.einsum("ij,jk,khw->ihw", turn, tilt, rays * depth) + np.array(view.eye)[:, None, None]


def test_depth_is_along_the_axis_and_not_along_the_ray() -> None:
    wall = Solid((-50, -50, 5), (50, 50, 6), WHITE)
    _, depth = render([wall], View((0, 0, 0), 0, 0), LAMP, (56, 84), 20.0)
    assert np.abs(depth - 5).max() < 1e-5


@pytest.mark.parametrize("view", [View((0.3, 1.5, 0.2), 0.2, 0.09), View((1.2, 1.2, 0.5), -0.15, -0.05)])
def test_every_pixel_lies_on_the_room_or_the_ball(view: View) -> None:
    room = Solid((-3, 0, -4), (3, 2.5, 9), WHITE, shape="room", casts=False)
    ball = Solid((-0.5, 0.5, 3), (0.5, 1.5, 4), WHITE, shape="ball")
    _, depth = render([room, ball], view, LAMP, (56, 84), 20.0)
    x, y, z = unproject(depth, view)
    to_walls = np.min([abs(x - 3), abs(x + 3), abs(y), abs(y - 2.5), abs(z - 9)], axis=0)
    to_ball = abs(np.sqrt(x**2 + (y - 1) ** 2 + (z - 3.5) ** 2) - 0.5)
    assert np.minimum(to_walls, to_ball).max() < 1e-3
    assert (to_ball < 1e-3).sum() > 100 and (to_walls < 1e-3).sum() > 1000


def test_a_shadow_falls_away_from_the_lamp() -> None:
    floor = Solid((-9, -1, -9), (9, 0, 30), WHITE, casts=False)
    crate = Solid((-0.5, 0, 4), (0.5, 1, 5), WHITE)
    light = Light((-6.0, 3.0, 4.5), False, 0.5)
    image, _ = render([floor, crate], View((0, 1.5, 0), 0, 0), light, (112, 154), 20.0)
    row = image[85, :, 0].astype(int)  # on the floor, in front of the far edge of the crate
    assert row[10] > 100 and image[80].min() < image[80].max()
    bare, _ = render([floor], View((0, 1.5, 0), 0, 0), light, (112, 154), 20.0)
    darker = (bare[..., 0].astype(int) - image[..., 0]) > 20
    columns = np.flatnonzero(darker[60:].any(axis=0))
    assert columns.size and columns.mean() > 77, "the lamp is on the left, so the shadow lies on the right"


def test_held_out_seeds_never_meet_the_training() -> None:
    from dav2_utils.training import loop as finetune

    assert min(held_out("rooms", 200)) >= HELD_OUT and len(set(held_out("streets", 200))) == 200
    assert not set(finetune.VALIDATION) & set(held_out("streets", 200_000))
    for seed in (0, 499):
        for rank in (0, 1):
            plan = finetune.Plan(Path(), epochs=2, seed=seed)
            assert max(finetune._loader(plan, 1, rank, 2).dataset.seeds) < HELD_OUT  # type: ignore[attr-defined]


def test_scores_by_hand() -> None:
    truth = np.array([[1.0, 2.0], [4.0, 0.0]])  # nothing is known where depth is 0
    found = depth_scores(np.array([[1.1, 2.0], [6.0, 5.0]]), truth)
    assert found["abs_rel"] == pytest.approx((0.1 + 0 + 0.5) / 3)
    assert found["delta1"] == pytest.approx(2 / 3)
    assert found["rmse"] == pytest.approx(((0.01 + 0 + 4) / 3) ** 0.5)
    assert depth_scores([1.25, 0.8], [1.0, 1.0])["delta1"] == 0.0, "delta1 counts what is below 1.25"
    assert depth_scores([0.0, -1.0], [1.0, 1.0])["delta1"] == 0.0


@pytest.mark.parametrize(
    "call",
    [
        lambda: make_scene("forests", 0),
        lambda: make_scene("rooms", -1),
        lambda: make_scene("rooms", 0, (0, 10)),
        lambda: depth_scores(np.ones((2, 2)), np.ones((2, 3))),
        lambda: depth_scores(np.ones(2), np.zeros(2)),
    ],
)
def test_bad_input_says_what_was_expected(call: object) -> None:
    with pytest.raises(CheckpointError, match="Expected"):
        call()  # type: ignore[operator]


def test_embedded_weights_tell_where_they_come_from() -> None:
    assert default_weights().stat().st_size < 8 << 20
    with safe_open(default_weights(), "pt") as file:
        facts = file.metadata()
    assert (facts["encoder"], facts["max_depth"], facts["trained_on"]) == ("tiny", "20", "rooms")
    assert {"command", "seed", "seconds", "torch", "numpy", "dav2_utils"} <= set(facts)
    assert all(
        tensor.dtype == torch.float16 and tensor.isfinite().all() for tensor in load_file(default_weights()).values()
    )


@pytest.mark.elsewhere
def test_embedded_weights_see_rooms() -> None:
    """On a part of the held-out rooms; the full table is `python benchmarks/scores.py`."""
    model = DepthAnythingV2("tiny", max_depth=DOMAINS["rooms"])
    model.load_state_dict(load_file(default_weights()))
    seeds = held_out("rooms", 20)
    average = np.mean([make_scene("rooms", seed).depth for seed in range(60)], axis=0)
    blind = np.mean([depth_scores(average, make_scene("rooms", seed).depth)["abs_rel"] for seed in seeds])
    found = evaluate(model, "rooms", seeds)
    assert found["abs_rel"] < blind / 3
    assert found["delta1"] > 0.9
