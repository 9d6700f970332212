"""Errors that torch, safetensors and pickle really raise, by loading the wrong thing: small modules, real messages.

`ERRORS` maps a short title to the cause and to what raises it; `text_of(title)` raises it once and gives what a person
would see. Full-size Depth Anything V2 models are built on the meta device, which holds names and shapes alone.
"""
# ruff: noqa: E501 - the table below is read as one row per error

from __future__ import annotations

import argparse
import io
import pickle
import sys
import tarfile
import tempfile
import traceback
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any
from unittest.mock import patch

import safetensors.torch
import torch
from torch import nn

from dav2_utils.depth.model import DepthAnythingV2

State = dict[str, torch.Tensor]
Raise = Callable[[Path], Any]


class Block(nn.Module):
    def __init__(self, width: int, names: tuple[str, ...]) -> None:
        super().__init__()
        for name in names:
            self.add_module(name, nn.Linear(width, width))


class Net(nn.Module):
    """A small network with blocks, a normalisation and a head, as many repositories have it."""

    def __init__(self, width: int = 8, classes: int = 10, depth: int = 3, names: tuple[str, ...] = ("fc1", "fc2")):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3)
        self.bn = nn.BatchNorm2d(width)
        self.blocks = nn.ModuleList(Block(width, names) for _ in range(depth))
        self.head = nn.Linear(width, classes)


class Outer(nn.Module):
    """A larger model around a network."""

    def __init__(self, inner: nn.Module, more: bool = True) -> None:
        super().__init__()
        self.core = inner
        if more:
            self.bins = nn.Linear(4, 4)


class Vit(nn.Module):
    """The first tensors of a vision transformer: position table and patch embedding."""

    def __init__(self, tokens: int = 197, patch: int = 16, channels: int = 3) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, 32))
        self.pos_embed = nn.Parameter(torch.zeros(1, tokens, 32))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(channels, 32, patch, patch)})
        self.norm = nn.LayerNorm(32)


class Named(nn.Module):
    """Parameters under any names, dots included, as nested modules would have them."""

    def __init__(self, names: Iterable[str], shape: tuple[int, ...] = (2, 2)) -> None:
        super().__init__()
        for name in names:
            *path, last = name.split(".")
            place: nn.Module = self
            for part in path:
                if part not in dict(place.named_children()):
                    place.add_module(part, nn.Module())
                place = dict(place.named_children())[part]
            place.register_parameter(last, nn.Parameter(torch.zeros(shape)))


def under(prefix: str, state: State) -> State:
    return {prefix + name: tensor for name, tensor in state.items()}


def dav2(encoder: str, **options: Any) -> nn.Module:
    with torch.device("meta"):
        return DepthAnythingV2(encoder, **options)


def latest() -> dict[str, Any]:
    wrapped = nn.DataParallel(Net())
    return {
        "model": wrapped.state_dict(),
        "optimizer": torch.optim.AdamW(wrapped.parameters()).state_dict(),
        "epoch": 3,
        "previous_best": {"d1": 0.9},
    }


def compiled() -> State:
    state: State = torch.compile(Net()).state_dict()  # type: ignore[attr-defined]
    return state


def averaged() -> State:
    return dict(torch.optim.swa_utils.AveragedModel(Net()).state_dict())


def into(model: Callable[[], nn.Module], state: Callable[[], Any]) -> Raise:
    return lambda _folder: model().load_state_dict(state())


def read(content: Callable[[], bytes], suffix: str = ".pth", **options: Any) -> Raise:
    """What `torch.load`, or safetensors by the suffix, raises for a file of these bytes."""

    def raises(folder: Path) -> Any:
        path = folder / f"weights{suffix}"
        path.write_bytes(content())
        if suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, **{"map_location": "cpu", "weights_only": True} | options)

    return raises


def saved(value: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, **options)
    return file.getvalue()


def half(data: bytes) -> bytes:
    return data[: 2 * len(data) // 3]


def from_cuda() -> bytes:
    """A file whose tensors say that they come from a GPU which no machine has."""
    with patch("torch.serialization.location_tag", lambda _storage: "cuda:63"):
        return saved(Net().state_dict())


def foreign_model() -> bytes:
    """A whole pickled model whose source folder is not on this machine."""
    module = types.ModuleType("models")
    kind = type("DepthNet", (nn.Module,), {"__module__": "models"})
    module.DepthNet = kind  # type: ignore[attr-defined]
    with patch.dict(sys.modules, models=module):
        return saved(kind())


def scripted() -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.save(torch.jit.trace(nn.Linear(2, 2), torch.zeros(1, 2)), file)
    return file.getvalue()


def read_script(folder: Path) -> Any:
    path = folder / "weights.pt"
    path.write_bytes(saved(Net().state_dict()))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.load(path)


def old_tar() -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(0, protocol=2)
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return file.getvalue()


def of_the_future() -> bytes:
    """A file in a version of the format that does not exist yet."""
    source, target = zipfile.ZipFile(io.BytesIO(saved({"a": torch.zeros(1)}))), io.BytesIO()
    with zipfile.ZipFile(target, "w") as zipped:
        for name in source.namelist():
            zipped.writestr(name, b"999999\n" if name.endswith("/version") else source.read(name))
    return target.getvalue()


def no_counters() -> State:
    """As an older library saved it: without the counters of BatchNorm, and saying that nothing is lacking."""
    state = Net().state_dict()
    del state["bn.num_batches_tracked"]
    return state


def profiled() -> State:
    model = Net()
    for part in list(model.modules()):
        part.register_buffer("total_ops", torch.zeros(1))
        part.register_buffer("total_params", torch.zeros(1))
    return model.state_dict()


def with_ema() -> State:
    return Net().state_dict() | under("ema_model.", Net().state_dict())


def quantised() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.ao.quantization.quantize_dynamic(Net(), {nn.Linear}).state_dict()


def tied(folder: Path) -> Any:
    """A shared tensor: safetensors keeps one of its two names."""
    model = nn.ModuleDict({"embed_tokens": nn.Embedding(4, 2), "lm_head": nn.Linear(2, 4, bias=False)})
    model["lm_head"].weight = model["embed_tokens"].weight
    path = folder / "tied.safetensors"
    safetensors.torch.save_file({"embed_tokens.weight": torch.zeros(4, 2)}, path)
    return model.load_state_dict(safetensors.torch.load_file(path))


def optimizer(_folder: Path) -> Any:
    state = torch.optim.AdamW(Net().parameters()).state_dict()
    return torch.optim.AdamW(Net().head.parameters()).load_state_dict(state)


def use_as_model(_folder: Path) -> Any:
    return OrderedDict(Net().state_dict()).eval()  # type: ignore[attr-defined]


def transformers_names(width: int = 2) -> list[str]:
    return [f"encoder.layer.{i}.attention.attention.{part}.weight" for i in range(width) for part in ("query", "key")]


def original_names(width: int = 2) -> list[str]:
    return [f"blocks.{i}.attn.qkv.weight" for i in range(width)]


def lora_names() -> list[str]:
    return [f"blocks.{i}.attn.qkv.lora_{side}.weight" for i in range(2) for side in "AB"]


def damageable() -> Named:
    return Named("pretrained." + name for name in original_names(4))


def cut_names() -> State:
    """What a script makes that cuts seven characters off every name, whether `module.` is there or not."""
    return {name[7:]: tensor for name, tensor in damageable().state_dict().items()}


def twice() -> State:
    return under("_forward_module.module.", Net().state_dict()) | under("_original_module.", Net().state_dict())


def two_in_one() -> State:
    return under("student.", Net().state_dict()) | under("teacher.", Net().state_dict())


def slices() -> State:
    """What process 0 of 2 holds of a sharded model: the first half of every first dimension."""
    return {name: t[: (len(t) + 1) // 2] if t.dim() else t for name, t in dav2("vits").state_dict().items()}


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("latest.pth", saved(Net().state_dict()))
    return file.getvalue()


def refused() -> bytes:
    return saved({"model": Net().state_dict(), "args": argparse.Namespace(lr=1)})


def tensors() -> bytes:
    return safetensors.torch.save(Net().state_dict())


HTML, POINTER = (
    b"<!DOCTYPE html><html><body>Sign in</body></html>\n" * 5,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1340000000\n",
)

ERRORS: dict[str, tuple[str, Raise]] = {
    "DataParallel": ("wrapper_prefix", into(Net, lambda: nn.DataParallel(Net()).state_dict())),
    "torch.compile": ("wrapper_prefix", into(Net, compiled)),
    "compiled, then DataParallel": ("wrapper_prefix", into(Net, lambda: under("module.", compiled()))),
    "averaged model": ("wrapper_prefix", into(Net, averaged)),
    "vits under module.": ("wrapper_prefix", into(lambda: dav2("vits"), lambda: under("module.", dav2("vits").state_dict()))),
    "a version among the tensors": ("wrapper_prefix", into(Net, lambda: under("module.", Net().state_dict()) | {"version": "1", "epoch": 3})),
    "plain into DataParallel": ("model_is_wrapped", into(lambda: nn.DataParallel(Net()), lambda: Net().state_dict())),
    "plain vits into DataParallel": ("model_is_wrapped", into(lambda: nn.DataParallel(dav2("vits")), lambda: dav2("vits").state_dict())),
    "from a larger model": ("outer_module_prefix", into(Net, lambda: Outer(Net(), more=False).state_dict())),
    "from two models around": ("outer_module_prefix", into(Net, lambda: under("core.core.", Net().state_dict()))),
    "part of a model": ("missing_outer_prefix", into(lambda: Outer(Net(), more=False), lambda: Net().state_dict())),
    "part of more": ("missing_outer_prefix", into(lambda: Outer(Net()), lambda: Net().state_dict())),
    "latest.pth as it is": ("training_container", into(Net, latest)),
    "latest.pth into vits": ("training_container", into(lambda: dav2("vits"), latest)),
    "the wrong entry": ("no_such_entry", lambda _folder: Net().load_state_dict(latest()["state_dict"])),
    "averaged copy beside": ("ema_copy", into(Net, with_ema)),
    "student and teacher in one": ("training_container", into(Net, two_in_one)),
    "names of transformers": ("other_naming", into(lambda: Named(original_names()), lambda: Named(transformers_names()).state_dict())),
    "parts renamed": ("other_naming", into(Net, lambda: Net(names=("lin1", "lin2")).state_dict())),
    "vits into vitl": ("wrong_encoder", into(lambda: dav2("vitl"), lambda: dav2("vits").state_dict())),
    "vitl into vits": ("wrong_encoder", into(lambda: dav2("vits"), lambda: dav2("vitl").state_dict())),
    "vitb into vits": ("wrong_encoder", into(lambda: dav2("vits"), lambda: dav2("vitb").state_dict())),
    "vitg into vitl": ("wrong_encoder", into(lambda: dav2("vitl"), lambda: dav2("vitg").state_dict())),
    "another image size": ("input_geometry", into(Vit, lambda: Vit(tokens=577).state_dict())),
    "another patch size": ("input_geometry", into(Vit, lambda: Vit(tokens=257, patch=14).state_dict())),
    "other channels": ("input_geometry", into(Vit, lambda: Vit(channels=4).state_dict())),
    "another model": ("different_model", into(lambda: dav2("vits"), lambda: Net().state_dict())),
    "head with BatchNorm": ("different_model", into(lambda: dav2("vits", use_bn=True), lambda: dav2("vits").state_dict())),
    "file with BatchNorm": ("different_model", into(lambda: dav2("vits"), lambda: dav2("vits", use_bn=True).state_dict())),
    "head with other features": ("different_model", into(lambda: dav2("vits"), lambda: dav2("vits", features=128).state_dict())),
    "one of several files": ("sharded_model", into(lambda: dav2("vits"), lambda: dict(list(dav2("vits").state_dict().items())[:20]))),
    "no counters": ("bookkeeping_buffers", into(Net, no_counters)),
    "profiled": ("bookkeeping_buffers", into(Net, profiled)),
    "half a file": ("truncated_file", read(lambda: half(saved(Net().state_dict())))),
    "half a larger file": ("truncated_file", read(lambda: half(saved(Net(64).state_dict())))),
    "half an old file": ("truncated_file", read(lambda: half(saved(Net(64).state_dict(), _use_new_zipfile_serialization=False)))),
    "half a safetensors file": ("truncated_file", read(lambda: half(tensors()), ".safetensors")),
    "empty": ("empty_file", read(lambda: b"")),
    "empty, read unsafely": ("empty_file", read(lambda: b"", weights_only=False)),
    "empty safetensors": ("empty_file", read(lambda: b"", ".safetensors")),
    "web page": ("not_a_checkpoint", read(lambda: HTML)),
    "web page, read unsafely": ("not_a_checkpoint", read(lambda: HTML, weights_only=False)),
    "web page as safetensors": ("not_a_checkpoint", read(lambda: HTML, ".safetensors")),
    "LFS pointer": ("not_a_checkpoint", read(lambda: POINTER)),
    "LFS pointer, read unsafely": ("not_a_checkpoint", read(lambda: POINTER, weights_only=False)),
    "LFS pointer as safetensors": ("not_a_checkpoint", read(lambda: POINTER, ".safetensors")),
    "zip around a checkpoint": ("not_a_checkpoint", read(zipped)),
    "an ordinary pickle": ("not_a_checkpoint", read(lambda: pickle.dumps({"a": 1}, 2), weights_only=False)),
    "arguments inside": ("refused_pickle", read(refused)),
    "whole model": ("whole_model", read(lambda: saved(nn.Sequential(nn.Linear(2, 2))))),
    "whole model, code elsewhere": ("whole_model", read(foreign_model, weights_only=False)),
    "a model for a state dict": ("whole_model", into(Net, Net)),
    "scripted": ("torchscript", read(scripted)),
    "plain file to torch.jit": ("torchscript", read_script),
    "tar archive": ("legacy_format", read(old_tar)),
    "pickle of Python 2": ("legacy_format", lambda _folder: pickle.loads(b"U\x01\xe9.")),
    "from a GPU": ("cuda_device", read(from_cuda, map_location=None)),
    "a path": ("not_a_state_dict", into(Net, lambda: "weights.pth")),
    "nothing": ("not_a_state_dict", into(Net, lambda: None)),
    "a state dict for a model": ("not_a_state_dict", use_as_model),
    "LoRA": ("adapter_weights", into(lambda: Named(original_names()), lambda: Named(lora_names()).state_dict())),
    "flattened": ("flat_parameters", into(Net, lambda: Named(["_flat_param", "blocks.0._flat_param"], (9,)).state_dict())),
    "other classes": ("head_size", into(Net, lambda: Net(classes=4).state_dict())),
    "tied": ("tied_weights", tied),
    "head of training": ("extra_head", into(Net, lambda: Net().state_dict() | {"projector.weight": torch.zeros(2)})),
    "backbone of ImageNet": ("backbone_only", into(lambda: Named(["backbone.conv1.weight", "decode_head.conv.weight"]), lambda: Named(["backbone.conv1.weight", "fc.weight"]).state_dict())),
    "quantised": ("quantized", into(Net, quantised)),
    "ZeRO-3": ("sharded_model", into(lambda: Named(original_names(), (0,)), lambda: Named(original_names()).state_dict())),
    "slices of one process": ("sharded_model", into(lambda: dav2("vits"), slices)),
    "seven characters cut": ("damaged_names", into(damageable, cut_names)),
    "two copies": ("duplicate_names", into(Net, twice)),
    "newer format": ("version_skew", read(of_the_future)),
    "newer pickle": ("version_skew", lambda _folder: pickle.loads(b"\x80\x63N.")),
    "another optimizer": ("optimizer_mismatch", optimizer),
    "names of another library besides": ("different_model", into(lambda: Named(["a.weight"]), lambda: Named(["a.weight", *(f"layer.{i}.layer_scale1.lambda1" for i in range(4))]).state_dict())),
    "an optimizer's state for a model": ("different_model", into(Net, lambda: torch.optim.AdamW(Net().parameters()).state_dict())),
    "other names under one wrapper": ("other_naming", into(lambda: nn.DataParallel(Net()), lambda: under("module.", Net(names=("a", "b")).state_dict()))),
    "another network under a wrapper": ("different_model", into(Net, lambda: under("module.", nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).state_dict()))),
}  # fmt: skip


@cache
def error_of(title: str) -> Exception:
    """The error itself, raised by the library."""
    try:
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ERRORS[title][1](Path(folder))
    except Exception as error:
        return error
    raise AssertionError(f"{title}: nothing was raised")


def text_of(title: str) -> str:
    """The last lines that a person sees: the kind of the error and its message."""
    return "".join(traceback.format_exception_only(error_of(title)))


def traceback_of(title: str) -> str:
    return "".join(traceback.format_exception(error_of(title)))
