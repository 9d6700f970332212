"""Looking into files that torch, safetensors and people's training programs really wrote, and into what is not one."""

from __future__ import annotations

import argparse
import gzip
import io
import json
import math
import os
import pickle
import struct
import sys
import tarfile
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dav2_utils.errors import AmbiguousSets, ArchiveError, NotACheckpoint, NoWeights, PathError
from dav2_utils.files.archives import read_directory, read_record
from dav2_utils.files.checkpoint import Checkpoint, inspect_file, select
from dav2_utils.keys import TensorInfo


def weights(prefix: str = "", **more: torch.Tensor) -> dict[str, torch.Tensor]:
    return {f"{prefix}a.weight": torch.ones(3, 4), f"{prefix}a.bias": torch.zeros(3), **more}


def saved(path: Path, value: Any, **options: Any) -> Checkpoint:
    torch.save(value, path, **options)
    return inspect_file(path)


def table_by_torch(state: dict[str, torch.Tensor]) -> dict[str, TensorInfo]:
    return {name: TensorInfo(tuple(t.shape), str(t.dtype).removeprefix("torch.")) for name, t in state.items()}


DTYPES = [
    "float64", "float32", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64",
    "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
]  # fmt: skip


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_every_dtype_and_shape_as_torch_says(tmp_path: Path, protocol: int, legacy: bool) -> None:
    state = {name: torch.zeros(2, 3).to(getattr(torch, name)) for name in DTYPES}
    state |= {"scalar": torch.tensor(1.0), "none": torch.zeros(0, 5), "turned": torch.zeros(4, 6).t()[1:, ::2]}
    if legacy:
        state = {name: t for name, t in state.items() if "float8" not in name and name not in DTYPES[12:15]}
    found = saved(tmp_path / "a.pth", state, pickle_protocol=protocol, _use_new_zipfile_serialization=not legacy)
    assert found.format == ("torch-legacy" if legacy else "torch-zip")
    assert found.table == table_by_torch(state) and list(found.table) == list(state)
    assert found.weight_bytes == sum(t.nbytes for t in state.values())
    assert found.container == [] and found.globals == []


def test_safetensors(tmp_path: Path) -> None:
    kinds = [name for name in DTYPES if "fnuz" not in name and "complex128" not in name]
    state = {name: torch.zeros(2, 3).to(getattr(torch, name)) for name in kinds} | {"scalar": torch.tensor(2.0)}
    save_file(state, tmp_path / "no_extension", metadata={"encoder": "vitl", "max_depth": "80"})
    found = inspect_file(tmp_path / "no_extension")
    assert found.format == "safetensors" and found.table == table_by_torch(state)
    assert found.to_dict()["facts"] == {
        "encoder": {"value": "vitl", "from": "header"}, "max_depth": {"value": 80, "from": "header"}
    }  # fmt: skip
    save_file({}, tmp_path / "empty.safetensors")
    assert inspect_file(tmp_path / "empty.safetensors").sets == []


def test_the_official_layout(latest: Path) -> None:
    loaded = torch.load(latest, weights_only=True)
    found = inspect_file(latest)
    assert found.table == table_by_torch(loaded["model"]) and list(found.table) == list(loaded["model"])
    assert found.other_entries == {"optimizer": "dict", "epoch": 39, "previous_best": "dict"}
    assert (found.container, found.wrappers, found.encoder) == (["model"], ["module"], "tiny")
    assert found.parameters == sum(t.numel() for t in loaded["model"].values())
    assert found.bytes == latest.stat().st_size and select(found).path == ("model",)


def test_objects_of_other_packages_are_shown_for_what_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    omegaconf = types.ModuleType("omegaconf.dictconfig")
    omegaconf.DictConfig = type("DictConfig", (dict,), {"__module__": "omegaconf.dictconfig"})
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))
    monkeypatch.setitem(sys.modules, "omegaconf.dictconfig", omegaconf)
    value = {
        "state_dict": weights(), "args": argparse.Namespace(lr=1e-3, path=Path("x")), "path": Path("/data"),
        "best": np.float64(0.91), "step": np.int64(7), "when": np.float32(0.5), "array": np.arange(3),
        "cfg": omegaconf.DictConfig(a=1), "device": torch.device("cpu"), "dtype": torch.float16,
        "mean": torch.ones(3), "tags": {"a", "b"}, "nothing": None, "flag": True, "text": "x" * 500,
        "big": 2**100, "not": math.nan, "raw": b"\0", "pair": (1, 2), "list": [1],
    }  # fmt: skip
    found = saved(tmp_path / "a.pth", value)
    assert found.container == ["state_dict"] and len(found.table) == 2
    others = found.other_entries
    assert (others["best"], others["step"], others["when"]) == (0.91, 7, 0.5)
    assert others["args"] == "argparse.Namespace" and others["path"].endswith("Path")
    assert others["array"] == "numpy.ndarray" and others["cfg"] == "omegaconf.dictconfig.DictConfig"
    assert (others["device"], others["dtype"], others["mean"]) == ("torch.device", "torch.float16", "Tensor")
    assert (others["nothing"], others["flag"], others["big"]) == (None, True, "int")
    assert (others["raw"], others["pair"], others["list"], others["tags"]) == ("bytes", "tuple", "list", "set")
    assert math.isnan(others["not"]) and len(others["text"]) < 250
    strange = ("argparse.Namespace", "omegaconf.dictconfig.DictConfig")
    assert set(strange) < set(found.globals) and not any(name.startswith("torch") for name in found.globals)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["other_entries"]["not"] == "nan"
    assert "argparse.Namespace" in str(found)


def test_globals_are_those_that_torch_refuses(tmp_path: Path) -> None:
    """`weights_only=True` is asked, one file for each kind of content."""
    kinds = [torch.device("cpu"), torch.float16, torch.Size([1]), OrderedDict(a=1), {1}, b"raw", 1j, bytearray(b"a"),
             Path("x"), np.float64(1), np.zeros(2), argparse.Namespace(), nn.Linear(1, 1), nn.Parameter(torch.ones(1)),
             torch.ones(2).to_sparse(), torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.qint8), int]  # fmt: skip
    for value in kinds:
        found = saved(tmp_path / "a.pth", {"w.weight": torch.ones(1), "value": value})
        try:
            torch.load(tmp_path / "a.pth", weights_only=True)
        except pickle.UnpicklingError:
            assert found.globals, value
        else:
            assert not found.globals, value


def test_tensors_of_other_kinds(tmp_path: Path) -> None:
    class Own(torch.Tensor):
        pass

    tagged = nn.Parameter(torch.ones(2, 2))
    tagged.origin = "here"
    state = {
        "parameter": nn.Parameter(torch.ones(3)), "tagged": tagged, "sparse": torch.eye(4).to_sparse(),
        "rows": torch.eye(5).to_sparse_csr(), "meta": torch.ones(7, 8, device="meta"),
        "quantized": torch.quantize_per_tensor(torch.ones(2, 6), 0.1, 0, torch.qint8),
    }  # fmt: skip
    found = saved(tmp_path / "a.pth", state)
    assert {name: info.shape for name, info in found.table.items()} == {n: tuple(t.shape) for n, t in state.items()}
    assert found.table["quantized"].dtype == "qint8" and found.table["sparse"].dtype == "float32"


def test_metadata_of_a_state_dict_is_no_entry(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    found = saved(tmp_path / "a.pth", model.state_dict())
    assert found.table == table_by_torch(model.state_dict()) and found.other_entries == {}


ADAM_STATE = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.ones(2)}}, "param_groups": [{"params": [0]}]}
LAYOUTS: dict[str, tuple[Any, list[str]]] = {
    "flat": (weights(), [""]),
    "a layer": ({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, [""]),
    "norms alone": ({"norm.weight": torch.ones(2), "norm.bias": torch.ones(2)}, [""]),
    "timm": ({"epoch": 1, "arch": "vit", "state_dict": weights(), "state_dict_ema": weights(), "optimizer": ADAM_STATE,
              "amp_scaler": {"scale": 1.0}}, ["state_dict", "state_dict_ema"]),
    "lightning": ({"epoch": 1, "state_dict": weights("model."), "optimizer_states": [ADAM_STATE], "lr_schedulers": [],
                   "callbacks": {"ModelCheckpoint": {"best_model_score": torch.tensor(1.0)}}}, ["state_dict"]),
    "mmengine": ({"meta": {"epoch": 1}, "state_dict": weights(), "message_hub": {}, "optimizer": ADAM_STATE,
                  "ema_state_dict": weights("module.", steps=torch.tensor(3))}, ["state_dict", "ema_state_dict"]),
    "dino": ({"student": weights("module."), "teacher": weights(), "optimizer": ADAM_STATE, "epoch": 1,
              "dino_loss": {"center": torch.zeros(1, 8)}}, ["student", "teacher"]),
    "deepspeed": ({"module": weights(), "optimizer": None, "param_shapes": [OrderedDict(a=torch.Size([3, 4]))],
                   "ds_version": "0.1"}, ["module"]),
    "basicsr": ({"params": weights(), "params_ema": weights()}, ["params", "params_ema"]),
    "nested": ({"state": {"model": weights(), "optim": ADAM_STATE, "step": 4}}, ["state.model"]),
    "optimizer by another name": ({"net": weights(), "adam_g": ADAM_STATE}, ["net"]),
    "scalars beside": ({"model": weights(), "epoch": torch.tensor(3), "loss": torch.tensor(0.1)}, ["model"]),
    "scores beside": ({"model": weights(), "previous_best": {"d1": torch.tensor(0.9)}}, ["model"]),
    "statistics beside": ({"model": weights(), "norm": {"mean": torch.ones(3), "std": torch.ones(3)}}, ["model"]),
    "random state": ({"model": weights(), "rng": {"cpu": torch.zeros(9, dtype=torch.uint8)}}, ["model"]),
    "mixed": (weights() | {"optimizer": ADAM_STATE, "epoch": 3}, [""]),
    "extra state": (weights() | {"b.weight": torch.ones(2), "b._extra_state": {"amax.x": torch.ones(2)}}, [""]),
    "averaged": (weights("module.", n_averaged=torch.tensor(5)), [""]),
    "optimizer alone": (ADAM_STATE, []),
    "optimizer by names": ({"state": {"a.weight": {"exp_avg.x": torch.ones(2)}}, "param_groups": []}, []),
    "scores alone": ({"previous_best": {"d1": torch.tensor(0.9)}}, []),
    "numbers": ({"epoch": 3, "scores": [1, 2]}, []),
    "a tensor": (torch.ones(3), []),
    "a list": ([weights()], ["0"]),
    "a tuple, weights and optimizer": ((weights(), ADAM_STATE), ["0"]),
    "a list of tensors": ([torch.ones(3), torch.ones(2, 2)], []),
    "random states alone": ({"step": 3, "torch_manual_seed": torch.zeros(5056, dtype=torch.uint8)}, []),
    "a random state beside": ({"model": weights(), "cuda_state": torch.zeros(16, dtype=torch.uint8)}, ["model"]),
}  # fmt: skip


@pytest.mark.parametrize("name", LAYOUTS)
def test_finds_the_weights_of_every_layout(name: str, tmp_path: Path) -> None:
    value, expected = LAYOUTS[name]
    for legacy in (False, True):
        found = saved(tmp_path / "a.pth", value, _use_new_zipfile_serialization=not legacy)
        assert [weights.name for weights in found.sets] == expected
        for weights_set in found.sets:
            entry = value
            for part in weights_set.path:
                entry = entry[int(part) if isinstance(entry, (list, tuple)) else part]
            expected_table = table_by_torch({n: t for n, t in entry.items() if isinstance(t, torch.Tensor)})
            assert {n: info for n, info in weights_set.table.items() if "_extra" not in n} == expected_table
            assert set(weights_set.table) - set(expected_table) == {n for n in entry if n == "b._extra_state"}
        for weights_set in found.sets:
            assert weights_set.name not in found.other_entries
        json.dumps(found.to_dict(keys=True), allow_nan=False)
        assert str(found) and found._repr_html_()


def test_what_stands_beside(tmp_path: Path) -> None:
    found = saved(tmp_path / "a.pth", LAYOUTS["nested"][0])
    assert found.other_entries == {"state.optim": "dict", "state.step": 4}
    assert saved(tmp_path / "a.pth", LAYOUTS["mixed"][0]).other_entries == {"optimizer": "dict", "epoch": 3}
    assert saved(tmp_path / "a.pth", LAYOUTS["numbers"][0]).other_entries == {"epoch": 3, "scores": "list"}


def test_layouts_that_say_the_opposite_of_their_names(tmp_path: Path) -> None:
    found = {weights.name: weights for weights in saved(tmp_path / "a.pth", LAYOUTS["mmengine"][0]).sets}
    assert "raw" in found["ema_state_dict"].note and "averaged" in found["state_dict"].note
    averaging = {"state_dict": weights(), "current_model_state": weights(), "averaging_state": {"n": torch.tensor(3)}}
    opened = saved(tmp_path / "a.pth", averaging)
    found = {weights.name: weights for weights in opened.sets}
    assert "averaged" in found["state_dict"].note and "raw" in found["current_model_state"].note
    assert found["state_dict"].note in str(opened)
    plain = saved(tmp_path / "a.pth", {"state_dict": weights(), "ema_state_dict": weights()})
    assert [weights.note for weights in plain.sets] == ["", ""]


def test_select(tmp_path: Path) -> None:
    found = saved(tmp_path / "a.pth", {"run": {"model": weights(), "ema": weights("module.")}, "ema": weights()})
    assert select(found, "run.ema").path == ("run", "ema") and select(found, "ema").path == ("ema",)
    assert select(found, "model").path == ("run", "model")
    for name in (None, "nothing"):
        with pytest.raises(AmbiguousSets, match=r"run\.model.*run\.ema.*--select"):
            select(found, name)
    with pytest.raises(AmbiguousSets):
        _ = found.table
    assert found.container == [] and found.to_dict()["sets"][0]["path"] == ["run", "model"]
    assert found.to_dict(keys=True)["keys"][0]["set"] == ["run", "model"] and found.tensors == 6
    empty = saved(tmp_path / "a.pth", ADAM_STATE)
    with pytest.raises(NoWeights, match="param_groups") as error:
        select(empty)
    assert error.value.kind == "no checkpoint" and error.value.format == "torch-zip"


def test_a_whole_pickled_model(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(2, 2)))
    model.register_buffer("passing", torch.ones(2), persistent=False)
    for value, path in ((model, ()), (nn.DataParallel(model), ()), ({"model": model, "epoch": 3}, ("model",))):
        found = saved(tmp_path / "a.pth", value)
        wanted = (value["model"] if isinstance(value, dict) else value).state_dict()
        assert found.table == table_by_torch(wanted) and list(found.table) == list(wanted)
        assert found.sets[0].path == path and "Sequential" in str(found.globals)
        assert "pickled" in found.sets[0].note and found.sets[0].module.startswith("torch.nn.")
    assert found.other_entries == {"epoch": 3}


def test_prints_a_screenful_and_escapes_what_stands_in_the_file(latest: Path, tmp_path: Path) -> None:
    text = str(inspect_file(latest))
    assert text.count("\n") < 45 and max(map(len, text.splitlines())) < 320
    assert "module." in text and "tiny" in text and "blocks.{0..7}" in text and "epoch: 39" in text
    evil = "<script>alert(1)</script>\x1b[31m\n"
    found = saved(tmp_path / "a.pth", {evil: {f"{evil}.weight": torch.ones(1)}, f"x{evil}": evil, "y": Path(evil)})
    page = found._repr_html_()
    assert "<script" not in page and "\x1b" not in page and "<details>" in page
    assert "\x1b" not in str(found) and evil not in str(found)
    found.to_dict(keys=True)


# What only pretends to be a checkpoint


def refused(path: Path) -> NotACheckpoint:
    with pytest.raises(NotACheckpoint) as error:
        inspect_file(path)
    assert error.value.kind == "no checkpoint" and error.value.path == path
    assert error.value.do and len(str(error.value)) < 1500 and path.name in str(error.value)
    return error.value


def small_zip(*names: str) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, b"\x80\x02N.")
    return made.getvalue()


OTHERS: dict[str, tuple[bytes, str, str]] = {
    "lfs": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "git-lfs-pointer", "git lfs pull"),
    "html": (b"\n <!DOCTYPE html><html>", "html", "resolve"),
    "html without doctype": (b"\xef\xbb\xbf<HTML><body>", "html", "web page"),
    "empty": (b"", "empty", "again"),
    "zeros": (bytes(5000), "truncated", "zero bytes"),
    "zeros first": (bytes(600) + b"PK\3\4" + bytes(99), "truncated", "zero bytes"),
    "jpeg": (b"\xff\xd8\xff\xe0" + bytes(99), "unknown", "JPEG"),
    "png": (b"\x89PNG\r\n\x1a\n" + bytes(99), "unknown", "PNG"),
    "gzip": (gzip.compress(b"x"), "unknown", "safetensors. Unpack it first (gunzip FILE.gz, or tar -xzf)."),
    "hdf5": (b"\x89HDF\r\n\x1a\n" + bytes(99), "unknown", "HDF5"),
    "lua": (struct.pack("<3i3s", 4, 1, 3, b"V 1") + bytes(99), "unknown", "Lua"),
    "resource": (b"\0\5\x16\7\0\2\0\0" + bytes(99), "unknown", "macOS"),
    "json": (b'{"weight_map": {}}' * 9, "unknown", "JSON"),
    "text": ("Gewichte für später\n".encode() * 9, "unknown", "text"),
    "noise": (bytes(range(200, 100, -1)), "unknown", "c8 c7"),
    "one byte": (b"\x80", "unknown", ""),
    "pickle": (pickle.dumps({"w": [1.0]}), "pickle", "dict"),
    "pickle as text": (pickle.dumps({"w": [1.0]}, 0), "pickle", "dict"),
    "pickled tensors": (pickle.dumps({"w": torch.ones(3)}), "pickle", "plain pickle"),
    "pickled arrays": (pickle.dumps({"w": np.ones(3)}), "pickle", "numpy"),
    "docx": (small_zip("word/document.xml"), "unknown", "Word"),
    "other zip": (small_zip("a.txt", "weights/b.txt"), "unknown", "a.txt"),
    "empty zip": (small_zip(), "unknown", "empty zip"),
    "checkpoint in a zip": (small_zip("run/latest.pth"), "unknown", "unpack"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_recognised_by_content_with_what_to_do(name: str, tmp_path: Path) -> None:
    content, format, word = OTHERS[name]
    path = tmp_path / "weights.safetensors"
    path.write_bytes(content)
    error = refused(path)
    assert error.format == format and word in str(error)


def test_npz_keras_and_other_programs_in_a_zip(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", w=np.ones(3))
    assert "w.npy" in str(refused(tmp_path / "a.npz"))


def test_a_tar_archive_of_something_else(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "weights.pth", "w") as archive:
        archive.add(__file__, "model.py")
    assert "Unpack it first (tar -xf)" in str(refused(tmp_path / "weights.pth"))


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    torch.save(weights(), tmp_path / "a.pth")
    monkeypatch.setattr(Path, "open", forbidden)
    with pytest.raises(PathError, match=r"cannot be read \(Permission denied\)"):
        inspect_file(tmp_path / "a.pth")


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(2, 3)


def test_a_whole_model_in_the_oldest_format_brings_its_source_along(tmp_path: Path) -> None:
    """Its class is no global there but a reference from outside the pickle, with the source beside it."""
    model = Small()
    found = saved(tmp_path / "a.pth", {"net": model}, _use_new_zipfile_serialization=False)
    assert found.format == "torch-legacy" and found.table == table_by_torch(model.state_dict())


@pytest.mark.parametrize("size", [b"J\xff\xff\xff\xff", b"\x88", b"\x8a\x08" + b"\xff" * 7 + b"\x7f"])
def test_a_storage_of_impossible_size(size: bytes, tmp_path: Path) -> None:
    storage = b"(U\7storagectorch\nFloatStorage\nU\x010U\3cpu" + size + b"tQ"
    with zipfile.ZipFile(tmp_path / "a.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}U\x08a.weight" + storage + b"s.")
        archive.writestr("a/version", b"3\n")
    assert "an impossible size" in str(refused(tmp_path / "a.pth"))


def test_torchscript(tmp_path: Path) -> None:
    torch.jit.trace(nn.Linear(2, 2), torch.ones(1, 2)).save(str(tmp_path / "model.pth"))
    assert refused(tmp_path / "model.pth").format == "torchscript"


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # one process, as in a notebook
def test_a_folder_of_distributed_checkpoint(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    dcp.save({"model": weights()}, checkpoint_id=tmp_path / "step_10")
    error = refused(tmp_path / "step_10")
    assert error.format == "dcp" and "dcp_to_torch" in str(error)
    [shard] = (tmp_path / "step_10").glob("*.distcp")
    assert refused(shard).format in ("unknown", "truncated")


def test_legacy_tar(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "old.pth", "w") as archive:
        for name in ("sys_info", "pickle", "tensors", "storages"):
            entry = tarfile.TarInfo(name)
            entry.size = 4
            archive.addfile(entry, io.BytesIO(b"\x80\x02N."))
    assert refused(tmp_path / "old.pth").format == "torch-tar"


def test_a_path_without_a_file(tmp_path: Path) -> None:
    import os

    if hasattr(os, "mkfifo"):  # Windows has none; there the third is a path without anything
        os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "nowhere", tmp_path, tmp_path / "pipe", tmp_path / "nowhere" / "x"):
        with pytest.raises(PathError) as error:
            inspect_file(path)
        assert error.value.kind == "usage" and error.value.path == path
    torch.save(weights(), tmp_path / "there.pth")
    assert inspect_file(str(tmp_path / "there.pth")).file == tmp_path / "there.pth"


# Files that broke off, or whose parts contradict each other


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_broken_off_anywhere(latest: Path, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    if kind == "safetensors":
        save_file(torch.load(latest, weights_only=True)["model"], path)
    else:
        torch.save(torch.load(latest, weights_only=True), path, _use_new_zipfile_serialization=kind == "zip")
    whole = path.stat().st_size
    for left in (whole - 1, whole - 100, whole - 3000, 1000, 100, 5):
        os.truncate(path, left)
        assert refused(path).format == "truncated" or left == 5


def test_bytes_missing_or_added_inside(latest: Path, tmp_path: Path) -> None:
    whole = latest.read_bytes()
    path = tmp_path / "a.pth"
    for content, format in (
        (whole[:200_000] + whole[264_000:], "truncated"),
        (b"x" * 64 + whole, "unknown"),
        (whole + whole, "unknown"),  # torch would read the first of the two
    ):
        path.write_bytes(content)
        assert refused(path).format == format
    path.write_bytes(whole + b"\r\n")  # torch reads that too
    assert inspect_file(path).table == inspect_file(latest).table
    assert torch.load(path, weights_only=True)["epoch"] == 39


def rewritten(source: Path, target: Path, change: Any, **options: Any) -> Path:
    """The zip archive `source` rewritten, each record as `change(name, content)` gives it (None leaves it out)."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", **options) as new:
        for name in old.namelist():
            content = change(name, old.read(name))
            if content is not None:
                new.writestr(name, content)
    return target


def test_a_storage_that_is_missing_or_of_another_size(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    path = tmp_path / "b.pth"
    rewritten(tmp_path / "a.pth", path, lambda name, content: None if name.endswith("/data/1") else content)
    assert refused(path).format == "truncated"
    rewritten(tmp_path / "a.pth", path, lambda name, content: content[:-4] if "/data/0" in name else content)
    error = refused(path)
    assert error.format == "truncated" and "48" in str(error) and "44" in str(error)
    rewritten(tmp_path / "a.pth", path, lambda name, content: content + b"1234" if "/data/0" in name else content)
    assert refused(path).format == "unknown"


def test_a_tensor_larger_than_its_storage(tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(3, 4)}, tmp_path / "a.pth")
    path = tmp_path / "b.pth"
    rewritten(tmp_path / "a.pth", path, lambda name, content: content.replace(b"K\3K\4\x86", b"K\5K\4\x86"))
    assert "(5, 4)" in str(refused(path)) and "48 bytes" in str(refused(path))


def test_a_directory_that_contradicts_the_archive(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    path = rewritten(tmp_path / "a.pth", tmp_path / "b.pth", lambda name, content: content)
    whole = path.read_bytes()
    path.write_bytes(whole + whole)  # without the large form of the directory, which torch always writes
    assert "several archives" in str(refused(path))
    last = whole.rindex(b"PK\1\2")
    longer = bytearray(whole)
    longer[last + 20 : last + 28] = struct.pack("<2L", 10_000, 10_000)
    path.write_bytes(longer)
    assert "past the end" in str(refused(path))
    with zipfile.ZipFile(path, "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a/data.pkl", pickle.dumps({}))
        archive.writestr("a/data.pkl", pickle.dumps({"other": 1}))
    assert "two records" in str(refused(path))


@pytest.mark.parametrize(
    ("mark", "offset", "change", "words"),
    [
        (b"PK\1\2", 0, b"PK\7\7", "its directory is damaged"),
        (b"PK\1\2", 10, b"\x0e\0", "packed in a way that torch does not read"),
        (b"PK\3\4", 0, b"PK\7\7", "is not where the directory says"),
        (b"PK\1\2", 28, b"\xff\xff", "its directory is damaged"),
    ],
)
def test_an_archive_whose_headers_are_damaged(
    mark: bytes, offset: int, change: bytes, words: str, tmp_path: Path
) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive, zipfile.ZipFile(tmp_path / "b.pth", "w") as small:
        small.writestr("a/data.pkl", archive.read("a/data.pkl"))
    content = bytearray((tmp_path / "b.pth").read_bytes())
    at = content.index(mark) + offset
    content[at : at + len(change)] = change
    with pytest.raises(ArchiveError, match=words):
        [record] = read_directory(io.BytesIO(content), len(content)).values()
        read_record(io.BytesIO(content), record, 10_000)


def test_an_archive_whose_large_directory_is_damaged(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    content = (tmp_path / "a.pth").read_bytes().replace(b"PK\6\6", b"PK\6\5")
    with pytest.raises(ArchiveError, match="not where it says"):
        read_directory(io.BytesIO(content), len(content))


def test_an_archive_of_nothing() -> None:
    assert read_directory(io.BytesIO(small_zip()), len(small_zip())) == {}


def test_a_repacked_archive_is_still_one(tmp_path: Path) -> None:
    torch.save(weights(), tmp_path / "a.pth")
    path = rewritten(
        tmp_path / "a.pth", tmp_path / "b.pth", lambda name, content: content, compression=zipfile.ZIP_DEFLATED
    )
    assert inspect_file(path).table == table_by_torch(weights())
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        records = read_directory(file, path.stat().st_size)
        assert list(records) == archive.namelist()
        for name, record in records.items():
            most = max(record.size, record.packed)
            assert read_record(file, record, most) == archive.read(name)
            with pytest.raises(ArchiveError, match="at most"):
                read_record(file, record, most - 1)


def test_without_checksums(tmp_path: Path) -> None:
    before = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        assert saved(tmp_path / "a.pth", weights()).table == table_by_torch(weights())
    finally:
        torch.serialization.set_crc32_options(before)


def test_more_than_4_gigabytes(tmp_path: Path) -> None:
    """A file with holes: 5 GB long, a few blocks on the disk."""
    path = tmp_path / "big.pth"
    with torch.serialization.skip_data():
        torch.save({"model": {"big": torch.empty(1280, 2**20), "small": torch.empty(3)}}, path)
    assert path.stat().st_size > 5 * 2**30
    found = inspect_file(path)
    assert found.table["big"].shape == (1280, 2**20) and found.weight_bytes == 5 * 2**30 + 12


def safetensors(header: Any, data: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}
BAD_HEADERS: dict[str, tuple[bytes, str]] = {
    "cut header": (safetensors({"a": F32}, b"")[:30], "truncated"),
    "cut data": (safetensors({"a": F32}, bytes(7)), "truncated"),
    "data past the end": (safetensors({"a": F32}, bytes(9)), "unknown"),
    "a hole": (safetensors({"a": F32, "b": F32 | {"data_offsets": [9, 17]}}, bytes(17)), "unknown"),
    "overlap": (safetensors({"a": F32, "b": F32 | {"data_offsets": [4, 12]}}, bytes(12)), "unknown"),
    "backwards": (safetensors({"a": F32 | {"data_offsets": [8, 0]}}, bytes(8)), "unknown"),
    "other shape": (safetensors({"a": F32 | {"shape": [3]}}, bytes(8)), "unknown"),
    "negative": (safetensors({"a": F32 | {"shape": [-1, -2]}}, bytes(8)), "unknown"),
    "huge": (safetensors({"a": F32 | {"shape": [2**62, 2**62]}}, bytes(8)), "unknown"),
    "no number": (safetensors({"a": F32 | {"shape": [2.0]}}, bytes(8)), "unknown"),
    "truth value": (safetensors({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}, bytes(4)), "unknown"),
    "unknown dtype": (safetensors({"a": F32 | {"dtype": "Q9"}}, bytes(8)), "unknown"),
    "no dtype": (safetensors({"a": {"shape": [2], "data_offsets": [0, 8]}}, bytes(8)), "unknown"),
    "dtype is a list": (safetensors({"a": F32 | {"dtype": ["F32"]}}, bytes(8)), "unknown"),
    "no object": (safetensors({"a": 3}, b""), "unknown"),
    "nested": (safetensors(b'{"a":' + b"[" * 200_000, b""), "unknown"),
    "no json": (safetensors(b"{hello}", b""), "unknown"),
    "not utf-8": (safetensors(b'{"\xff\xfe":1}', b""), "unknown"),
    "metadata": (safetensors({"__metadata__": [1]}, b""), "unknown"),
    "longest number": (safetensors(b'{"a":' + b"9" * 100_000 + b"}", b""), "unknown"),
}  # fmt: skip


def test_a_name_twice_in_a_safetensors_header(tmp_path: Path) -> None:
    entry = json.dumps(F32)
    (tmp_path / "a").write_bytes(safetensors(f'{{"a":{entry},"a":{entry}}}'.encode(), bytes(8)))
    assert refused(tmp_path / "a").format == "unknown"


@pytest.mark.parametrize("name", BAD_HEADERS)
def test_a_safetensors_header_that_is_not_sound(name: str, tmp_path: Path) -> None:
    from safetensors import SafetensorError, safe_open

    content, format = BAD_HEADERS[name]
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    assert refused(path).format == format
    with pytest.raises(SafetensorError), safe_open(path, "pt"):
        pass
