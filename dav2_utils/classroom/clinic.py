"""Broken files on demand: each made on the spot, the way it really comes about, after a public case.

The weights are those of a `tiny` with random numbers, so a patient is a small file. Names of the patients are numbers,
and so are the names of their files: neither gives the diagnosis away.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ..depth.model import DepthAnythingV2
from ..encoders import table_for
from ..errors import CheckpointError
from ..texts import say

StateDict = dict[str, torch.Tensor]
Maker = Callable[[Path], None]


@dataclass(frozen=True)
class Patient:
    """One broken file: the public case behind it, and what a diagnosis must find."""

    name: str
    case: str  # the thread where it happened
    difficulty: str
    causes: tuple[str, ...]  # names in `CAUSES`; none for the one that the file doesn't show
    make: Maker

    @property
    def complaint(self) -> str:
        """What its owner says."""
        return say(f"patients.{self.name}")


def patient(name: str, folder: str | os.PathLike[str] = ".") -> Path:
    """Write the patient called `name` ("01" to "14") into `folder` and return its path; each call writes it again.

    Raises `CheckpointError` (kind `usage`) for a name that is not in `PATIENTS`.
    """
    if name not in PATIENTS:
        raise CheckpointError(f"There is no patient {name!r}", f"one of {', '.join(PATIENTS)}", kind="usage")
    path = Path(folder) / f"patient_{name}.pth"
    path.parent.mkdir(parents=True, exist_ok=True)
    PATIENTS[name].make(path)
    return path


def _model() -> DepthAnythingV2:
    """A `tiny` with the same random numbers each time, whatever has been drawn before."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DepthAnythingV2("tiny", max_depth=80.0)


def _under(prefix: str, state: StateDict) -> StateDict:
    return {prefix + name: tensor for name, tensor in state.items()}


def _container_and_prefix(path: Path) -> None:
    wrapped = nn.DataParallel(_model())
    state = {"model": wrapped.state_dict(), "optimizer": {}, "epoch": 39, "previous_best": {"d1": 0.91}}
    torch.save(state, path)


def _prefix_alone(path: Path) -> None:
    torch.save(nn.DataParallel(_model()).state_dict(), path)


def _compiled(path: Path) -> None:
    torch.save(_under("_orig_mod.", nn.DataParallel(_model()).state_dict()), path)  # torch.compile(DataParallel(model))


def _inner(path: Path) -> None:
    model = _model()
    model.pretrained = nn.DataParallel(model.pretrained)  # type: ignore[assignment]
    torch.save(model.state_dict(), path)


def _lightning(path: Path) -> None:
    state = _under("model.", _model().state_dict())
    others: dict[str, Any] = {"epoch": 12, "global_step": 4800, "loops": {}, "callbacks": {}, "optimizer_states": [],
                              "lr_schedulers": []}  # fmt: skip
    torch.save({"pytorch-lightning_version": "2.4.0", "state_dict": state} | others, path)


def _two_sets(path: Path) -> None:
    raw = _model().state_dict()
    averaged = {name: tensor * 0.99 for name, tensor in raw.items()}
    torch.save({"state_dict": raw, "state_dict_ema": averaged, "epoch": 5}, path)


def _other_encoder(path: Path) -> None:
    """The names and full shapes of vits over a single stored number each: a small file, a true table."""
    hollow = {name: torch.zeros(1).expand(info.shape) for name, info in table_for("vits").items()}
    torch.save({"model": _under("module.", hollow), "epoch": 119}, path)


def _transformers(path: Path) -> None:
    """The blocks of vits under the names that transformers gives them: query, key and value apart."""
    width, state = 384, {"backbone.embeddings.cls_token": torch.zeros(1).expand(1, 1, 384)}
    square, apart = (width, width), ("query", "key", "value")
    layers = {"norm1": (width,), **{f"attention.attention.{part}": square for part in apart},
              "attention.output.dense": square, "norm2": (width,), "mlp.fc1": (4 * width, width),
              "mlp.fc2": (width, 4 * width)}  # fmt: skip
    for block in range(12):
        for name, shape in layers.items():
            state[f"backbone.encoder.layer.{block}.{name}.weight"] = torch.zeros(1).expand(shape)
            state[f"backbone.encoder.layer.{block}.{name}.bias"] = torch.zeros(1).expand(shape[0])
        for scale in ("layer_scale1", "layer_scale2"):
            state[f"backbone.encoder.layer.{block}.{scale}.lambda1"] = torch.zeros(1).expand(width)
    for index in range(4):
        state[f"neck.fusion_stage.layers.{index}.projection.weight"] = torch.zeros(1).expand(64, 64, 1, 1)
    torch.save(state | {"head.conv3.weight": torch.zeros(1).expand(1, 32, 1, 1)}, path)


def _half_a_file(path: Path) -> None:
    _container_and_prefix(path)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size * 2 // 3)


def _lfs_pointer(path: Path) -> None:
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'4d7a' * 16}\nsize 99173660\n")


def _web_page(path: Path) -> None:
    path.write_text(
        "<!DOCTYPE html>\n<html><head><title>Quota exceeded</title></head><body>Too many users.</body></html>\n"
    )


def _numpy_inside(path: Path) -> None:
    best: Any = {"d1": np.float64(0.91)}  # a numpy number where a float would do
    torch.save({"model": nn.DataParallel(_model()).state_dict(), "epoch": 39, "previous_best": best}, path)


def _whole_model(path: Path) -> None:
    torch.save(nn.DataParallel(_model()), path)


def _silent(path: Path) -> None:
    torch.save(_model().state_dict(), path)


PATIENTS: dict[str, Patient] = {
    name: Patient(name, f"https://github.com/{case}", difficulty, causes, make)
    for name, case, difficulty, causes, make in (
        ("01", "DepthAnything/Depth-Anything-V2/issues/8", "easy",
         ("training_container", "wrapper_prefix"), _container_and_prefix),
        ("02", "DepthAnything/Depth-Anything-V2/issues/192", "easy", ("wrapper_prefix",), _prefix_alone),
        ("03", "vllm-project/vllm/issues/1382", "easy", ("not_a_checkpoint",), _lfs_pointer),
        ("04", "pytorch/pytorch/issues/16203", "easy", ("not_a_checkpoint",), _web_page),
        ("05", "pingyang1117/PRBNet_PyTorch/issues/5", "easy", ("truncated_file",), _half_a_file),
        ("06", "huggingface/pytorch-image-models/pull/2003", "medium", ("wrapper_prefix",), _compiled),
        ("07", "QVPR/Patch-NetVLAD/pull/22", "medium", ("wrapper_prefix",), _inner),
        ("08", "OpenTabular/DeepTab/issues/137", "medium", ("training_container", "outer_module_prefix"), _lightning),
        ("09", "DepthAnything/Depth-Anything-V2/issues/90", "medium",
         ("training_container", "wrapper_prefix", "wrong_encoder"), _other_encoder),
        ("10", "MIC-DKFZ/nnUNet/issues/2681", "medium",
         ("refused_pickle", "training_container", "wrapper_prefix"), _numpy_inside),
        ("11", "ultralytics/yolov5/issues/353", "nasty", ("whole_model", "wrapper_prefix"), _whole_model),
        ("12", "Westlake-AGI-Lab/Distill-Any-Depth/issues/11", "nasty", ("other_naming",), _transformers),
        ("13", "open-mmlab/mmagic/issues/1439", "nasty", ("ema_copy",), _two_sets),
        ("14", "heyoeyo/muggled_dpt/issues/5", "nasty", (), _silent),
    )
}  # fmt: skip
