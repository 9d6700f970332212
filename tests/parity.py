"""Our outputs beside those that the official code gave for the weights and inputs of `recipe.py`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import recipe
import torch

from dav2_utils.depth.model import DepthAnythingV2

DATA = Path(__file__).parent / "data"
TOLERANCE = 2e-4  # of the output's standard deviation; noise is about 1e-5, one tensor off by 1 % at least 2e-4
OUTPUTS = {
    (name, max_depth): np.load(DATA / name)
    for name, max_depth in (("out_vits_relative.npz", None), ("out_vits_metric_max20.npz", 20.0))
}
CASES = [
    (file, max_depth, case)
    for (file, max_depth), stored in OUTPUTS.items()
    for case in sorted({key.split("|")[0] for key in stored})
]


def sizes(text: str) -> list[int]:
    return [int(number) for number in text.split("x")]


def run(model: DepthAnythingV2, case: str) -> np.ndarray:
    """What the model gives for one case of the stored outputs, such as `infer_image 480x640@266`."""
    kind, size = case.split()
    if kind == "forward":
        batch, _, height, width = sizes(size)
        with torch.inference_mode():
            return model(torch.from_numpy(recipe.make_input(batch, height, width))).numpy()
    size, input_size = size.split("@")
    image = recipe.make_image(*sizes(size))
    prepared = model.image2tensor(image, int(input_size))[0].numpy()
    return prepared if kind == "image2tensor" else model.infer_image(image, int(input_size))


def departure(stored: np.lib.npyio.NpzFile, case: str, out: np.ndarray) -> float:
    """The largest difference to the official output, in its standard deviations."""
    assert out.dtype == np.float32
    assert list(out.shape) == list(stored[f"{case}|shape"])
    i, (height, width) = np.arange(16), out.shape[-2:]
    grid = out[..., (i * (height - 1) // 15)[:, None], (i * (width - 1) // 15)[None]]
    worst = np.abs(grid - stored[f"{case}|grid"]).max()
    if f"{case}|full" in stored:
        worst = max(worst, np.abs(out - stored[f"{case}|full"]).max())
    return float(worst / stored[f"{case}|stats"][3])
