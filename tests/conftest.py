"""Checkpoints as people have them, made once for the whole run by really wrapping, training a step and saving."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
import torch

from dav2_utils.depth.model import DepthAnythingV2

for folder in ("tests", "tools", "benchmarks"):  # what tests share, and what they test outside the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / folder))

sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]
# jsonschema, which nbformat imports, would take as long as torch to make a grammar of addresses that nobody here uses

torch.set_num_threads(1)
os.environ.setdefault("OMP_NUM_THREADS", "1")  # for kernels and commands, too: threads that wait for a core spin
os.environ.setdefault("DAV2_LESSONS", tempfile.mkdtemp(prefix="dav2_lessons_"))  # not the reader's own progress


@pytest.hookimpl(tryfirst=True)  # xdist reads the marks in a hook of the same name
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes long to set up is set up by one process of those that share the suite; what takes long is first."""
    for item in items:
        for fixture in ("lab", "hurt", "installed", "archive", "vits"):
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(fixture))
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def tiny_model() -> DepthAnythingV2:
    torch.manual_seed(0)
    return DepthAnythingV2("tiny", max_depth=80.0).eval()


@pytest.fixture(scope="session")
def latest_original(tmp_path_factory: pytest.TempPathFactory, tiny_model: DepthAnythingV2) -> Path:
    path = tmp_path_factory.mktemp("run") / "latest.pth"
    wrapped = torch.nn.DataParallel(tiny_model)
    optimizer = torch.optim.AdamW(wrapped.parameters(), lr=1e-6)
    wrapped(torch.zeros(1, 3, 28, 28)).mean().backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    state = {
        "model": wrapped.state_dict(),
        "optimizer": optimizer.state_dict(),
        "epoch": 39,
        "previous_best": {"d1": 0.9, "abs_rel": 0.1},
    }
    torch.save(state, path)
    return path


@pytest.fixture
def latest(tmp_path: Path, latest_original: Path) -> Path:
    """A fresh copy of a fine-tune in the official layout: a container, and every name under `module.`."""
    path = tmp_path / "latest.pth"
    shutil.copyfile(latest_original, path)
    return path
