"""The lines of docs/beyond.md, run in their order, but for those that need a package that we don't install."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from dav2_utils import load_model, make_scene, save_weights

PAGE = Path(__file__).parents[2] / "docs" / "beyond.md"


def test_the_lines_of_the_page_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    model = load_model("tiny")
    save_weights(model, "base.pth")
    with torch.no_grad():
        model.depth_head.scratch.output_conv1.bias += 1  # the one thing that a "fine-tune" changed
    save_weights(model, "latest.fixed.pth")
    cv2.imwrite("room.jpg", make_scene("rooms", 7).image)
    found: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    ran = [exec(block, found) for block in blocks if "onnx" not in block]
    assert len(ran) == 4
    depth, points = found["depth"], found["points"]
    assert isinstance(depth, np.ndarray) and isinstance(points, np.ndarray)
    back = cv2.imread("room.depth.png", cv2.IMREAD_UNCHANGED)
    assert back is not None and np.abs(back / 1000 - depth).max() <= 0.00051
    assert points.shape == (depth.size, 3) and np.array_equal(points[:, 2], depth.ravel())
    change = found["change"]
    assert isinstance(change, dict)
    assert max(change, key=lambda name: change[name]) == "depth_head.scratch.output_conv1.bias"
