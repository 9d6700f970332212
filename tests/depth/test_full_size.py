"""The whole story once more on a file as people have it: ViT-B in the official layout, 0.4 GB of weights.

What begins at two gigabytes is tested in tests/repair/test_paths.py.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.encoders import table_for
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.repair.fixing import fix_file
from dav2_utils.repair.writing import identical
from dav2_utils.weights.loading import load_model


def training_file(path: Path) -> dict[str, torch.Tensor]:
    """Saves the weights of a wrapped ViT-B as the official training script does; gives the unwrapped state dict."""
    torch.manual_seed(0)
    with torch.device("meta"):
        model = DepthAnythingV2("vitb", max_depth=80.0)
    noise = torch.empty(1 << 24).uniform_(-0.05, 0.05)  # more than the largest tensor has; each begins elsewhere in it
    weights = {
        name: noise[1000 * place :][: info.elements].view(info.shape).clone()
        for place, (name, info) in enumerate(table_for("vitb").items())
    }
    model.load_state_dict(weights, assign=True)
    wrapped = torch.nn.DataParallel(model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=5e-6)
    state = {"model": wrapped.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 39, "previous_best": {}}
    torch.save(state, path)
    return weights


@pytest.mark.slow
@pytest.mark.long
def test_a_training_file_at_full_size(tmp_path: Path) -> None:
    latest, fixed = tmp_path / "latest.pth", tmp_path / "latest.fixed.safetensors"
    weights = training_file(latest)
    before = latest.stat()
    assert before.st_size > 0.38e9

    raw = torch.load(latest, map_location="cpu", mmap=True, weights_only=True)
    with torch.device("meta"):
        plain = DepthAnythingV2("vitb", max_depth=80.0)
    container = r'Unexpected key\(s\) in state_dict: "model", "optimizer", "epoch", "previous_best"'
    with pytest.raises(RuntimeError, match=container):
        plain.load_state_dict(raw)
    prefix = r'Unexpected key\(s\) in state_dict: "module\.pretrained\.cls_token"'
    with pytest.raises(RuntimeError, match=prefix) as wall:
        plain.load_state_dict(raw["model"])
    assert len(str(wall.value)) > 15_000
    del raw

    looked = inspect_file(latest)
    assert (looked.container, looked.tensors, looked.encoder) == (["model"], len(weights), "vitb")
    found = diagnose(latest)
    assert [cause.cause for cause in found.causes] == ["training_container", "wrapper_prefix"]
    assert len(str(found).splitlines()) < 40, "a screenful instead of a wall"

    done = fix_file(latest, output=fixed)
    assert (done.status, done.identical) == ("fixed", True)
    model = load_model(fixed, max_depth=80.0)
    assert not model.training and model.max_depth == 80.0
    loaded = model.state_dict()
    assert list(loaded) == list(weights) and identical((loaded[name], weights[name]) for name in weights)
    after = latest.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns), "the source is untouched"
