"""Files fixed without loss, models loaded whole or not at all, and what happens when the power fails."""

from __future__ import annotations

import argparse
import copy
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import nn

from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.encoders import table_for
from dav2_utils.errors import CheckpointError, DoesNotFit, PrefixError
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.files.facts import believed
from dav2_utils.repair import by_torch, copying, fixing, reading
from dav2_utils.repair.batch import fix_many
from dav2_utils.repair.fixing import fix_file
from dav2_utils.repair.reading import read_set
from dav2_utils.repair.stripping import clean_state_dict, strip_wrappers
from dav2_utils.repair.writing import fingerprint, identical
from dav2_utils.weights.loading import check_loaded, load_into, load_model, snapshot
from dav2_utils.weights.saving import save_weights
from dav2_utils.writing import disk, replacing


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def files(beside: Path) -> list[str]:
    return [path.name for path in beside.parent.iterdir()]


def same(one: Any, other: Any) -> bool:
    return list(one) == list(other) and identical((one[name], other[name]) for name in one)


# ---- strip_wrappers


def test_strip_keeps_order_metadata_sharing_and_dtypes() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.BatchNorm1d(3)).half()
    model[1].weight = model[0].weight
    wrapped = nn.DataParallel(nn.Sequential(model, nn.ReLU()))
    state = wrapped.state_dict()
    before = copy.deepcopy(list(state))
    clean = strip_wrappers(state)
    assert list(clean) == list(wrapped.module.state_dict())
    assert clean._metadata == wrapped.module.state_dict()._metadata  # type: ignore[attr-defined]
    assert clean["0.0.weight"].data_ptr() == clean["0.1.weight"].data_ptr() == model[0].weight.data_ptr()
    assert clean["0.0.weight"].dtype == torch.float16 and list(state) == before
    assert list(strip_wrappers(clean, wrapped)) == before, "and on again, for a model that is wrapped"
    assert list(strip_wrappers({"module.a._extra_state": {"amax": 1}})) == ["a._extra_state"], "no box of weights"
    lightning = {f"net.{name}": torch.ones(1) for name in table_for("vits")}
    assert list(strip_wrappers(lightning)) == list(lightning)
    assert list(strip_wrappers(lightning, "vits")) == list(table_for("vits"))


def test_strip_refuses() -> None:
    one = torch.ones(1)
    with pytest.raises(PrefixError, match=r"'w' and 'module\.w'"):
        strip_wrappers({"w": one, "module.w": one})
    with pytest.raises(PrefixError, match="'ddp'"):
        strip_wrappers({"module.w": one}, components=["ddp"])
    with pytest.raises(PrefixError, match=r"lstm2\.module\.weight_hh_l0"):
        strip_wrappers({"lstm2.module.weight_hh_l0": one}, ["lstm2.module.weight_hh_l0"], ["module"])
    with pytest.raises(CheckpointError, match=r"checkpoint\['model'\]"):
        strip_wrappers({"model": {"module.w": one}, "epoch": 3})


WRAPS = {
    "bare": lambda model: model,
    "DataParallel": nn.DataParallel,
    "compile": torch.compile,
    "compile around DataParallel": lambda model: torch.compile(nn.DataParallel(model)),
    "DataParallel around compile": lambda model: nn.DataParallel(torch.compile(model)),
    "AveragedModel": torch.optim.swa_utils.AveragedModel,
}


@pytest.mark.parametrize("wrap", WRAPS)
def test_clean_state_dict(wrap: str) -> None:
    plain = net()
    clean = clean_state_dict(WRAPS[wrap](plain))
    assert same(clean, plain.state_dict())
    assert clean._metadata == plain.state_dict()._metadata  # type: ignore[attr-defined]


def test_a_component_of_the_models_own_stays() -> None:
    class Drop(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Linear(2, 2)

    model = nn.Sequential(Drop())
    assert list(clean_state_dict(nn.DataParallel(model))) == ["0.module.weight", "0.module.bias"]


def test_two_tensors_never_become_one() -> None:
    wrapped = nn.DataParallel(nn.Linear(2, 2))
    wrapped.weight = nn.Parameter(torch.ones(1))
    with pytest.raises(CheckpointError, match=r"one name: weight, module\.weight\. "):
        clean_state_dict(wrapped)


def test_a_tensor_spread_over_processes_is_gathered() -> None:
    import torch.distributed as dist
    from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        model = nn.Linear(2, 2)
        whole = model.weight.detach().clone()
        model.weight = nn.Parameter(distribute_tensor(whole, init_device_mesh("cpu", (1,)), [Shard(0)]))
        gathered = clean_state_dict(model)["weight"]
        assert isinstance(model.weight, DTensor) and not isinstance(gathered, DTensor) and torch.equal(gathered, whole)
    finally:
        dist.destroy_process_group()


# ---- fix_file


@pytest.fixture
def training_file(tmp_path: Path) -> Path:
    """A container, a wrapper, bytes that are easily lost (NaN, -0.0), and every kind of tensor."""
    model = nn.DataParallel(net())
    state = model.state_dict()
    state["module.0.weight"][0, :3] = torch.tensor([float("nan"), -0.0, float("inf")])
    state["module.half"] = torch.randn(5).half()
    state["module.brain"] = torch.randn(5, 2).bfloat16()
    state["module.seen"] = torch.tensor([True, False])
    state["module.turned"] = torch.randn(4, 6).t()
    state["module.empty"] = torch.empty(0, 3)
    state["module.tied"] = state["module.0.weight"]
    state["module.slice"] = torch.randn(5000)[7:10]
    path = tmp_path / "latest.pth"
    torch.save({"model": state, "optimizer": {"state": {0: torch.ones(4)}, "param_groups": []}, "epoch": 3}, path)
    return path


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_fix_writes_every_byte(training_file: Path, kind: str) -> None:
    before = training_file.read_bytes()
    done = fix_file(training_file, format=kind)
    assert done.status == "fixed" and done.identical and done.tensors == 16
    assert [step.do for step in done.steps] == ["unwrap", "strip"]
    assert training_file.read_bytes() == before
    target = training_file.with_name(f"latest.fixed.{kind}")
    assert done.target == str(target) and done.bytes == target.stat().st_size < 20_000, "the slice brings no ballast"
    source = torch.load(training_file, weights_only=True)["model"]
    if kind == "pth":
        written = torch.load(target, weights_only=True)
        assert written["tied"].data_ptr() == written["0.weight"].data_ptr()
        assert list(written._metadata) == ["", "0", "1", "2"]
    else:
        with safe_open(target, framework="pt") as file:
            written = {name: file.get_tensor(name) for name in inspect_file(target).table}
            assert "torch" not in file.metadata(), "torch had no part in it"
        written = {name.removeprefix("module."): written[name.removeprefix("module.")] for name in source}
    assert same({name.removeprefix("module."): tensor for name, tensor in source.items()}, written)
    assert done.fingerprint == fingerprint(written)
    assert diagnose(target, written).verdict == "loads"


def test_the_fingerprint_is_of_names_dtypes_shapes_and_bytes(training_file: Path) -> None:
    found = {fix_file(training_file, format=kind, force=True).fingerprint for kind in ("pth", "safetensors", "pth")}
    assert len(found) == 1
    state = {"b": torch.tensor([1.0, -0.0]), "a": torch.tensor(3, dtype=torch.int64)}
    assert fingerprint(state) == fingerprint(dict(reversed(state.items())))
    import hashlib

    expected = (
        b"a\0int64\0\0" + bytes([3, 0, 0, 0, 0, 0, 0, 0]) + b"b\0float32\x002\0" + bytes.fromhex("0000803f00000080")
    )
    assert fingerprint(state) == "sha256:" + hashlib.sha256(expected).hexdigest()
    for changed in ({"b": torch.tensor([1.0, 0.0])}, {"b": torch.tensor([[1.0, -0.0]])},
                    {"a": torch.tensor(3, dtype=torch.int32)}):  # fmt: skip
        assert fingerprint(state | changed) != fingerprint(state)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (torch.tensor([0.0]), torch.tensor([-0.0])),
        (torch.ones(2), torch.ones(2, 1)),
        (torch.ones(2), torch.ones(2).double()),
        (torch.zeros(2), torch.zeros(2, dtype=torch.int32)),
        (torch.arange(9), torch.arange(9) + torch.eye(9, dtype=torch.int64)[8]),
        (torch.zeros(3, dtype=torch.uint8), torch.tensor([0, 0, 1], dtype=torch.uint8)),
    ],
)
def test_identical_is_about_bytes(one: torch.Tensor, other: torch.Tensor) -> None:
    assert not identical([(one, other)]) and identical([(one, one.clone())])
    nan = torch.tensor([float("nan")])
    assert identical([(nan, nan.clone())]) and not torch.equal(nan, nan.clone())


@pytest.mark.parametrize("way", ["copied", "by torch"])
def test_a_write_that_differs_is_thrown_away(training_file: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    really, carry_out = by_torch.write_pth, copying.carry_out

    def wrong(content: Any, path: Path) -> None:
        really({**content, "0.bias": content["0.bias"] + 1}, path)

    def wrong_at_the_end(plan: Any, source: Any, target: Any) -> None:
        carry_out(plan, source, target)
        target.seek(-1, os.SEEK_CUR)
        target.write(b"!")

    if way == "copied":
        monkeypatch.setattr(copying, "carry_out", wrong_at_the_end)
    else:
        monkeypatch.setattr(fixing, "plan_copy", lambda *args: None)
        monkeypatch.setattr(by_torch, "write_pth", wrong)
    done = fix_file(training_file)
    assert done.status == "failed" and "not what was read" in str(done.reason) and not done.identical
    assert files(training_file) == ["latest.pth"]


def test_a_plan_that_mistakes_one_tensor_for_another_is_thrown_away(
    training_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every byte is then as planned; what our own reader finds in the new file is not."""
    really = copying.plan_torch_zip

    def mistaken(state: Any, source: Any) -> Any:
        swapped = {"2.bias": "0.bias", "0.bias": "2.bias"}
        return really({name: state[swapped.get(name, name)] for name in state}, source)

    torch.save({"model": {f"module.{name}": torch.randn(3) for name in ("0.bias", "2.bias")}}, training_file)
    monkeypatch.setattr(copying, "plan_torch_zip", mistaken)
    done = fix_file(training_file)
    assert done.status == "failed" and "not what was read" in str(done.reason)
    assert files(training_file) == ["latest.pth"]


def test_the_zip_archive_has_true_checksums(training_file: Path) -> None:
    fix_file(training_file)
    with zipfile.ZipFile(training_file.with_name("latest.fixed.pth")) as archive:
        assert archive.testzip() is None
        assert archive.namelist()[0] == "archive/data.pkl", "no temporary name inside"
        content = Path(str(archive.filename)).read_bytes()
        for entry in archive.infolist():  # also where the archive is read from the front, as a stream
            assert not entry.file_size or b"PK\x07\x08" + entry.CRC.to_bytes(4, "little") in content


def test_a_target_that_somebody_else_made_meanwhile(tmp_path: Path) -> None:
    target = tmp_path / "x.pth"
    with pytest.raises(CheckpointError, match="already exists"), replacing.replacing(target) as temporary:
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs" and files(target) == ["x.pth"]
    with replacing.replacing(target, overwrite=True) as temporary:
        temporary.write_text("ours")
    assert target.read_text() == "ours" and files(target) == ["x.pth"]


def test_a_second_time(training_file: Path) -> None:
    fixed = Path(str(fix_file(training_file).target))
    stamp = fixed.stat().st_mtime_ns
    again = fix_file(training_file)
    assert again.status == "already fixed" and fixed.stat().st_mtime_ns == stamp
    ranged = fix_file(training_file, max_depth=20)
    assert ranged.status == "refused" and "--force" in str(ranged.reason), "the range is nowhere yet"
    assert fix_file(training_file, force=True).status == "fixed"
    assert fix_file(fixed, against=fixed).status == "already clean"
    assert fix_file(training_file, output=training_file, force=True).status == "refused"


def test_in_place_keeps_what_was_there(training_file: Path) -> None:
    before = training_file.read_bytes()
    done = fix_file(training_file, in_place=True)
    assert done.status == "fixed" and Path(str(done.backup)).read_bytes() == before
    assert Path(str(done.backup)).name == "latest.pth.bak"
    assert next(iter(torch.load(training_file, weights_only=True))) == "0.weight"
    training_file.write_bytes(before)
    assert Path(str(fix_file(training_file, in_place=True).backup)).name == "latest.pth.bak1"


def test_keep_training_state(training_file: Path) -> None:
    done = fix_file(training_file, keep_training_state=True)
    assert [step.do for step in done.steps] == ["strip"]
    written = torch.load(str(done.target), weights_only=True)
    assert list(written) == ["model", "optimizer", "epoch"] and written["epoch"] == 3
    assert next(iter(written["model"])) == "0.weight" and torch.equal(written["optimizer"]["state"][0], torch.ones(4))


def test_dry_run_writes_nothing(training_file: Path) -> None:
    done = fix_file(training_file, dry_run=True, output=training_file.parent / "deep" / "x.pth")
    assert done.status == "would fix" and done.steps and files(training_file) == ["latest.pth"]


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_permissions_as_a_person_expects(training_file: Path) -> None:
    training_file.chmod(0o640)
    assert Path(str(fix_file(training_file).target)).stat().st_mode & 0o777 == 0o640
    old = os.umask(0o022)
    try:
        save_weights(net(), training_file.with_name("new.pth"))
        assert training_file.with_name("new.pth").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(old)


@pytest.mark.parametrize("name", ["model.pth.tar", "a.b.ckpt", "weights.bin"])
def test_names_of_targets(training_file: Path, name: str) -> None:
    source = training_file.rename(training_file.with_name(name))
    stem = {"model.pth.tar": "model", "a.b.ckpt": "a.b", "weights.bin": "weights"}[name]
    assert Path(str(fix_file(source).target)).name == f"{stem}.fixed.pth"


@pytest.mark.parametrize(
    "options",
    [
        {"in_place": True, "output": "x.pth"},
        {"keep_training_state": True, "format": "safetensors"},
        {"encoder": "vits", "against": "x.pth"},
        {"format": "onnx"},
        {"max_depth": -1},
        {"max_depth": float("nan")},
    ],
)
def test_usage(training_file: Path, options: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError) as error:
        fix_file(training_file, **options)
    assert error.value.kind == "usage"


def test_legacy_files_and_numpy_scores(tmp_path: Path) -> None:
    state = nn.DataParallel(net()).state_dict()
    torch.save({"model": state}, tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    torch.save({"model": state, "best": np.float64(0.5), "f": np.float32(1)}, tmp_path / "score.pth")
    for name in ("old", "score"):
        done = fix_file(tmp_path / f"{name}.pth")
        assert done.status == "fixed", done.reason
        assert same(torch.load(str(done.target), weights_only=True), net().state_dict())


class Bomb:
    """Pickles as a call of os.mkdir; running the pickle makes the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def test_weights_come_out_of_files_that_safe_loading_refuses(tmp_path: Path) -> None:
    plain = net()
    folder = tmp_path / "made"
    odd = {"args": argparse.Namespace(lr=1), "path": pathlib.PurePosixPath("/x"), "bomb": Bomb(folder)}
    torch.save({"model": nn.DataParallel(plain).state_dict(), **odd}, tmp_path / "odd.pth")
    torch.save(plain, tmp_path / "whole.pth")
    torch.save({"model": nn.DataParallel(plain)}, tmp_path / "inside.pth")
    for name in ("odd", "whole", "inside"):
        done = fix_file(tmp_path / f"{name}.pth", against=None)
        assert done.status == "fixed", done.reason
        assert same(torch.load(str(done.target), weights_only=True), plain.state_dict())
        model = net()
        nn.init.zeros_(model[0].weight)
        load_into(model, tmp_path / f"{name}.pth")
        assert same(model.state_dict(), plain.state_dict())
    assert not folder.exists(), "nothing in the file was run"
    kept = fix_file(tmp_path / "odd.pth", keep_training_state=True, force=True)
    assert kept.status == "fixed" and same(read_set(inspect_file(str(kept.target)), ("model",)), plain.state_dict())
    assert inspect_file(str(kept.target)).globals == inspect_file(tmp_path / "odd.pth").globals
    module = fix_file(tmp_path / "inside.pth", keep_training_state=True, force=True)
    assert module.status == "refused" and "torch.nn.modules" in str(module.reason) and not folder.exists()
    torch.save({"model": plain.state_dict(), **odd}, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    refused = fix_file(tmp_path / "legacy.pth")
    assert refused.status == "refused" and "Namespace" in str(refused.reason) and not folder.exists()


class DTensor(torch.Tensor):
    """What a sharded model's state dict has for tensors: the shape of the whole around one process's slice."""

    @staticmethod
    def __new__(cls, local: torch.Tensor) -> DTensor:
        made = torch.Tensor._make_wrapper_subclass(cls, (2 * len(local), *local.shape[1:]), dtype=local.dtype)  # type: ignore[attr-defined]
        made._local_tensor = local
        return made  # type: ignore[no-any-return]

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        raise NotImplementedError(func)


@pytest.mark.parametrize("whole", [False, True])
def test_slices_under_the_shape_of_the_whole_are_never_promised(tmp_path: Path, whole: bool) -> None:
    path = tmp_path / "rank0.pth"
    names = table_for("vits") if whole else {"a.weight": None}
    state = {
        name: DTensor(torch.zeros([-(-info.shape[0] // 2), *info.shape[1:]] if info else [1]))
        for name, info in names.items()
    }
    torch.save({"model": state}, path)
    found = diagnose(path)
    assert found.verdict == "not repairable" and found.causes[0].cause == "sharded_model", str(found)
    assert found.causes[0].detail == "DTensor"
    for options in ({"dry_run": True}, {}):
        done = fix_file(path, **options)
        assert done.status == "refused" and "one process's slice" in str(done.reason)
    assert files(path) == ["rank0.pth"]


@pytest.mark.parametrize("options", [{}, {"dry_run": True}, {"output": "out.pth"}])
def test_no_weights_is_no_success(tmp_path: Path, options: dict[str, Any]) -> None:
    path = tmp_path / "optimizer.bin"
    model = net()
    torch.save(torch.optim.SGD(model.parameters(), 0.1).state_dict(), path)
    options = {name: tmp_path / value if name == "output" else value for name, value in options.items()}
    done = fix_file(path, **options)
    assert done.status == "refused" and "no weights in optimizer.bin; it contains state" in str(done.reason)
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    folder = fix_many([tmp_path], tmp_path / "to")
    assert [repair.status for repair in folder] == ["refused", "fixed"], "and the rest of a folder is done"


def test_a_folder_that_is_a_checkpoint_itself_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "run" / "dcp").mkdir(parents=True)
    (tmp_path / "run" / "dcp" / ".metadata").write_bytes(b"x")
    for place in (tmp_path, tmp_path / "run" / "dcp"):
        [done] = fix_many([place])
        assert done.status == "failed" and "dcp_to_torch" in str(done.reason)


def test_without_a_model_no_more_is_claimed_than_was_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    for state, status in ((net().state_dict(), "not compared"), (nn.DataParallel(net()).state_dict(), "would fix")):
        torch.save(state, path)
        done = fix_file(path, dry_run=True)
        assert done.status == status and "not compared with a model" in str(done)
        assert fix_file(path, against=path).reason is None
    assert "net.fixed.pth" in str(done), "and the target is still said"


def test_weights_and_optimizer_in_a_tuple(tmp_path: Path) -> None:
    path, model = tmp_path / "checkpoint.pt", net()
    torch.save((nn.DataParallel(model).state_dict(), torch.optim.SGD(model.parameters(), 0.1).state_dict()), path)
    assert fix_file(path, against=None).status == "fixed"
    assert same(torch.load(tmp_path / "checkpoint.fixed.pth", weights_only=True), model.state_dict())
    kept = fix_file(path, tmp_path / "kept.pth", keep_training_state=True)
    assert kept.status == "fixed", kept.reason
    weights, optimizer = torch.load(tmp_path / "kept.pth", weights_only=True)
    assert same(weights, model.state_dict()) and "param_groups" in optimizer


def test_one_of_two_models_in_one_dictionary(tmp_path: Path, tiny_model: DepthAnythingV2) -> None:
    path = tmp_path / "mean_teacher.pth"
    teacher = tiny_model.state_dict()
    student = {name: torch.zeros_like(tensor) for name, tensor in teacher.items()}
    torch.save({f"{who}.{n}": t for who, s in (("student", student), ("teacher", teacher)) for n, t in s.items()}, path)
    assert "--select teacher" in str(fix_file(path).reason)
    assert fix_file(path, select="teacher").status == "fixed"
    assert same(torch.load(tmp_path / "mean_teacher.teacher.fixed.pth", weights_only=True), teacher)
    assert same(load_model(path, select="student").state_dict(), student)


def test_a_refusal_begins_with_the_cause(tmp_path: Path) -> None:
    path = tmp_path / "old.pth"
    torch.save({"w": torch.ones(2), "args": argparse.Namespace()}, path, _use_new_zipfile_serialization=False)
    done = fix_file(path)
    assert done.status == "refused" and str(done.reason).startswith(
        "The file contains objects that safe loading refuses ("
    )
    assert "cannot take the weights out of this one" in str(done.reason)
    assert inspect_file(path).notes == ["torch's old format, from before version 1.6"], (
        "no promise that fix would break"
    )


def test_places_and_formats(training_file: Path, tmp_path: Path) -> None:
    done = fix_file(training_file, output=tmp_path / "x.safetensors")
    assert inspect_file(str(done.target)).format == "safetensors"
    done = fix_file(tmp_path / "x.safetensors", output=tmp_path / "y.pth")
    assert inspect_file(str(done.target)).format == "torch-zip"
    assert fix_file(training_file, output=tmp_path / "new folder").target == str(
        tmp_path / "new folder" / "latest.fixed.pth"
    )
    assert fix_file(training_file, output=tmp_path / "z.pth", format="safetensors").status == "refused"
    assert fix_file(training_file, in_place=True, format="safetensors").status == "refused"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Four small files, each of another kind."""
    folder = tmp_path_factory.mktemp("sound")
    state = nn.DataParallel(net()).state_dict()
    torch.save({"model": state, "epoch": 1, "args": argparse.Namespace(x=1)}, folder / "args.pth")
    torch.save(state, folder / "flat.pth")
    torch.save(state, folder / "legacy.pth", _use_new_zipfile_serialization=False)
    fix_file(folder / "flat.pth", output=folder / "s.safetensors", max_depth=3)
    return [(folder / name).read_bytes() for name in ("args.pth", "flat.pth", "legacy.pth", "s.safetensors")]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_random_damage_gives_a_result_or_a_reason(
    sound: list[bytes], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(data.draw(st.sampled_from(sound)))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "damaged" / "x.pth"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    done = fix_file(path)
    assert (
        done.status in ("fixed", "already clean", "not compared", "refused", "failed") and path.read_bytes() == content
    )
    left = set(files(path))
    assert left <= (
        {"x.pth", "x.fixed.pth", "x.fixed.pth.json", "x.fixed.safetensors"} if done.identical else {"x.pth"}
    )
    for name in left - {"x.pth"}:
        path.with_name(name).unlink()


def test_a_file_that_changes_between_two_looks(training_file: Path) -> None:
    opened = inspect_file(training_file)
    torch.save({"model": {name: torch.ones(1) for name in opened.table}, "epoch": 3}, training_file)
    with pytest.raises(CheckpointError, match="changed while it was read"):
        reading.read_set(opened, ("model",))
    opened = inspect_file(training_file)
    with pytest.raises(CheckpointError, match="no entry 'ema' on the way to ema"):
        reading.read_set(opened, ("ema",))
    with pytest.raises(CheckpointError, match="Under epoch there are no named tensors"):
        reading.read_set(opened, ("epoch",))
    training_file.unlink()
    with pytest.raises(FileNotFoundError):
        reading.read_tensors(opened)


def test_weights_of_another_encoder_are_refused_with_the_reason(latest: Path) -> None:
    done = fix_file(latest, encoder="vits")
    assert (done.status, done.steps, done.target) == ("refused", [], None)
    assert "tiny" in str(done.reason) and "vits" in str(done.reason) and files(latest) == ["latest.pth"]
    with pytest.raises(CheckpointError, match="is not there"):
        fix_file(latest.with_name("nowhere.pth"))


@pytest.mark.parametrize("in_place", [False, True])
def test_a_disk_without_hard_links(training_file: Path, in_place: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: Any, **__: Any) -> None:
        raise PermissionError("Operation not permitted")

    before = training_file.read_bytes()
    monkeypatch.setattr(disk.os, "link", no_links)
    done = fix_file(training_file, in_place=in_place)
    assert done.identical and inspect_file(str(done.target)).container == []
    if in_place:
        assert Path(str(done.backup)).read_bytes() == before and Path(str(done.backup)).name == "latest.pth.bak"
    target = training_file.with_name("x.pth")
    with pytest.raises(CheckpointError, match="already exists"), replacing.replacing(target) as temporary:
        temporary.write_text("ours")
        target.write_text("theirs")
    assert target.read_text() == "theirs"


def test_what_safetensors_cannot_hold(tmp_path: Path) -> None:
    for name, tensor in (("__metadata__", torch.ones(1)), ("w", torch.ones(1, dtype=torch.complex128))):
        with pytest.raises(CheckpointError, match="no place in a safetensors file"):
            save_weights({name: tensor}, tmp_path / "a.safetensors")
    assert list(tmp_path.iterdir()) == []


# ---- fix_many


def test_a_folder_of_runs(training_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runs = tmp_path / "runs"
    for place in ("a/latest.pth", "b/c/latest.pth", "b/old.fixed.pth", ".hidden.pth"):
        (runs / place).parent.mkdir(parents=True, exist_ok=True)
        (runs / place).write_bytes(training_file.read_bytes())
    (runs / "b" / "broken.pth").write_bytes(training_file.read_bytes()[:2000])
    (runs / "b" / "notes.txt").write_text("no checkpoint")
    found = fix_many([runs], output=tmp_path / "out")
    assert [(Path(one.source).name, one.status) for one in found] == [
        ("latest.pth", "fixed"), ("broken.pth", "failed"), ("latest.pth", "fixed")]  # fmt: skip
    assert (tmp_path / "out" / "a" / "latest.pth").exists() and (tmp_path / "out" / "b" / "c" / "latest.pth").exists()
    assert all(one.to_dict()["reason"] or one.identical for one in found)
    captured = capsys.readouterr()
    assert captured.out == "" and "3/3" in captured.err
    beside = fix_many([runs / "a", runs / "b"])
    assert (runs / "b" / "c" / "latest.fixed.pth").exists() and len(beside) == 3
    single = fix_many([training_file, runs / "a" / "latest.pth"], output=tmp_path / "both", format="safetensors")
    assert [one.status for one in single] == ["fixed", "already fixed"], "the same weights"
    assert [path.name for path in (tmp_path / "both").iterdir()] == ["latest.safetensors"], "two of one name"
    with pytest.raises(CheckpointError) as error:
        fix_many([runs, tmp_path / "nowhere"])
    assert error.value.kind == "usage"


# ---- into models and out of them


def test_load_model_from_everything(latest: Path, tiny_model: DepthAnythingV2, tmp_path: Path) -> None:
    save_weights(nn.DataParallel(tiny_model), tmp_path / "s.safetensors")
    save_weights(tiny_model, tmp_path / "clean.pth")
    picture = torch.rand(1, 3, 56, 70)
    expected = tiny_model(picture)
    for path in (tmp_path / "s.safetensors", tmp_path / "clean.pth"):
        model = load_model(path)
        assert not model.training and model.max_depth == 80 and torch.equal(model(picture), expected)
        assert all(parameter.requires_grad and parameter.dtype == torch.float32 for parameter in model.parameters())
    trained = load_model(latest)
    assert trained.max_depth is None and trained.encoder == "tiny"
    assert load_model(str(latest), max_depth=20).max_depth == 20
    assert next(load_model(latest, dtype=torch.bfloat16).parameters()).dtype == torch.bfloat16


def test_load_model_is_whole_or_an_error(latest: Path, tmp_path: Path) -> None:
    state = torch.load(latest, weights_only=True)["model"]
    some = {name: tensor for name, tensor in state.items() if "depth_head" not in name}
    more = dict(state) | {"module.extra": torch.ones(1)}
    other = dict(state) | {"module.pretrained.pos_embed": torch.ones(1, 5, 160)}
    for name, content in (("some", some), ("more", more), ("other", other)):
        torch.save(content, tmp_path / f"{name}.pth")
        with pytest.raises(DoesNotFit) as error:
            load_model(tmp_path / f"{name}.pth")
        assert error.value.diagnosis.causes
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "foreign.pth")
    for encoder in (None, "vits"):
        with pytest.raises(CheckpointError):
            load_model(tmp_path / "foreign.pth", encoder)
    with pytest.raises(DoesNotFit, match="this is a tiny file, your model is vits"):
        load_model(latest, "vits")


def test_facts_are_read_back_and_speak_up(latest: Path, tmp_path: Path) -> None:
    for kind in ("pth", "safetensors"):
        done = fix_file(latest, max_depth=80, format=kind)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert load_model(str(done.target)).max_depth == 80
        with pytest.warns(UserWarning, match="trained as metric, max_depth 80; loading as metric, max_depth 20"):
            load_model(str(done.target), max_depth=20)
        with pytest.warns(UserWarning, match="trained as metric, max_depth 80; loading as relative"):
            load_into(DepthAnythingV2("tiny"), str(done.target))
    facts = tmp_path / "latest.fixed.pth.json"
    known = json.loads(facts.read_text(encoding="utf-8"))
    assert known["encoder"] == "tiny" and known["depth"] == "metric" and known["steps"][1]["token"] == "module"
    facts.write_text(json.dumps(known | {"torch": "99.1"}))
    with pytest.warns(UserWarning, match=r"saved with torch 99\.1"):
        load_model(tmp_path / "latest.fixed.pth")
    facts.write_text(json.dumps(known | {"encoder": "vits"}))
    with pytest.warns(UserWarning, match="saved as vits, but the shapes are those of tiny"):
        load_model(tmp_path / "latest.fixed.pth")
    for broken in ("{", "[]", "null", json.dumps(known | {"bytes": 1}), json.dumps(known | {"max_depth": "deep"})):
        facts.write_text(broken)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert load_model(tmp_path / "latest.fixed.pth").max_depth is None


def test_official_weights_bring_their_range(latest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dav2_utils.depth.hub.download", lambda name: latest)
    assert load_model("vits-metric-indoor").max_depth == 20.0 and load_model("vits").max_depth is None
    assert load_model("vits-metric-indoor", max_depth=5).max_depth == 5


def test_facts_of_a_model_that_is_not_ours(tmp_path: Path) -> None:
    save_weights(net(), tmp_path / "n.pth", max_depth=20.0, run="seven")
    facts = json.loads((tmp_path / "n.pth.json").read_text(encoding="utf-8"))
    assert (facts["depth"], facts["max_depth"], facts["run"]) == ("metric", 20.0, "seven") and "encoder" not in facts


def test_load_into_any_model_wrapped_or_not(tmp_path: Path) -> None:
    source = net()
    files = {"wrapped": nn.DataParallel(source).state_dict(), "bare": source.state_dict()}
    for name, state in files.items():
        torch.save({"epoch": 1, "net": state}, tmp_path / f"{name}.pth")
        for wrap in WRAPS.values():
            model = wrap(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)))
            if wrap is torch.optim.swa_utils.AveragedModel:
                continue  # its counter is not in a file of weights
            done = load_into(model, tmp_path / f"{name}.pth")
            assert done.status == "loaded" and done.tensors == 9
            assert same(clean_state_dict(model), source.state_dict())
    with pytest.raises(DoesNotFit):
        load_into(nn.Linear(4, 3), tmp_path / "bare.pth")


def test_never_over_a_mapped_file(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    save_weights(DepthAnythingV2("tiny"), path)
    model = load_model(path)
    with torch.no_grad():
        next(model.parameters()).add_(1)
    save_weights(model, path, note="again")
    assert same(load_model(path).state_dict(), model.state_dict())
    assert json.loads((tmp_path / "w.pth.json").read_text(encoding="utf-8"))["note"] == "again"
    done = fix_file(path, format="safetensors")
    facts = believed(inspect_file(str(done.target)).facts)
    assert facts["note"] == "again" and "fingerprint" not in facts, "what somebody wrote down goes along"


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="only Linux says what is mapped")
@pytest.mark.filterwarnings("ignore:trained as metric")
@pytest.mark.parametrize("kind", ["odd.pth", "flat.pth", "s.safetensors"])
def test_no_file_is_replaced_while_it_is_mapped(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows refuses to replace or to rename a file while anybody maps it; here a guard does."""
    really = Path.replace

    def replace(self: Path, target: Path) -> Path:
        mapped = Path("/proc/self/maps").read_text()
        assert str(target) not in mapped and str(self) not in mapped, "mapped"
        return really(self, target)

    path = tmp_path / kind
    odd = {"args": argparse.Namespace(lr=1)} if kind == "odd.pth" else {}
    torch.save({"model": nn.DataParallel(net()).state_dict(), **odd}, tmp_path / "w.pth")
    fix_file(tmp_path / "w.pth", output=path) if kind == "s.safetensors" else (tmp_path / "w.pth").rename(path)
    monkeypatch.setattr(Path, "replace", replace)
    assert fix_file(path, in_place=True, max_depth=3).identical
    model = net()
    load_into(model, path)
    save_weights(model, path)
    assert diagnose(path, model).verdict == "loads"


def test_check_loaded() -> None:
    model, wrapped = net(), nn.DataParallel(net()).state_dict()
    before = snapshot(model)
    result = model.load_state_dict(wrapped, strict=False)
    with pytest.raises(CheckpointError, match="0 changed"):
        check_loaded(model, before, result)
    other = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2)).state_dict()
    merged = model.state_dict() | {"x" + name: tensor for name, tensor in other.items()}
    with pytest.raises(CheckpointError, match="0 changed"):
        check_loaded(model, before, model.load_state_dict(merged, strict=False))
    assert check_loaded(model, before, model.load_state_dict(other)).matched == 9
    part = {name: tensor + 1 for name, tensor in model.state_dict().items() if name.startswith("0.")}
    before = snapshot(model)
    result = model.load_state_dict(part, strict=False)
    with pytest.raises(CheckpointError, match="2 changed"):
        check_loaded(model, before, result)
    assert check_loaded(model, before, result, least=0).changed == 2
    with pytest.raises(CheckpointError, match="shares its memory"):
        check_loaded(model, model.state_dict())


# ---- when the plug is pulled


@pytest.fixture(scope="module")
def hurt(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """How each case ended, and where; 4 MB in few tensors, so that sixty repairs take no longer than they must."""
    if not hasattr(os, "fork"):
        pytest.skip("needs fork")
    where = tmp_path_factory.mktemp("hurt")
    model = nn.Sequential(nn.Linear(1000, 1000), nn.Linear(1000, 2))
    torch.save({"model": nn.DataParallel(model).state_dict(), "epoch": 39}, where / "original")
    command = [sys.executable, Path(__file__).parents[1] / "hurt.py", where / "original", where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), where


def check_whole(path: Path, original: bytes, name: str) -> None:
    """`path` is the source as it was, or, whole, the clean file."""
    if path.read_bytes() != original:
        assert next(iter(torch.load(path, weights_only=True))) == "0.weight", name


def test_killed_at_each_step_of_a_write(hurt: tuple[dict[str, Any], Path]) -> None:
    found, where = hurt
    original, reached = (where / "original").read_bytes(), 0
    for name, ended in found.items():
        if not name.endswith((" True", " False")):
            continue
        folder = where / name.replace(" ", "_")
        in_place, killed = name.endswith("True"), ended["signal"] == signal.SIGKILL
        assert killed or name == "keep_backup False", name
        reached += killed
        source, target = folder / "latest.pth", folder / "latest.fixed.pth"
        if in_place:
            check_whole(source, original, name)
            backup = folder / "latest.pth.bak"
            assert source.read_bytes() == original or backup.read_bytes() == original
        else:
            assert source.read_bytes() == original, name
            assert target.exists() == (name.split(" False")[0] in ("named", "both named", "keep_backup")), name
            if target.exists():
                check_whole(target, b"", name)
        unfinished = [path.name for path in folder.glob(".*.tmp")]
        assert (len(unfinished) >= 1) == (killed and name != "both named True"), name
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            again = fix_file(source, output=folder / "again.pth")
        assert again.status in ("fixed", "already clean"), "what was left behind stops nobody"
        assert not list(folder.glob(".*.tmp")), name
        assert sorted(str(one.message).split()[1] for one in said) == sorted(unfinished), "and it is said"
    assert reached == 23


def test_a_full_disk(hurt: tuple[dict[str, Any], Path]) -> None:
    found, where = hurt
    for size in (0, 5_000, 1_000_000):
        done = found[f"full {size}"]["said"]
        assert done["status"] == "failed" and "free space" in done["reason"], done
        folder = where / f"full_{size}"
        assert [path.name for path in folder.iterdir()] == ["latest.pth"]
        assert (folder / "latest.pth").read_bytes() == (where / "original").read_bytes()


def test_a_folder_without_permission(hurt: tuple[dict[str, Any], Path]) -> None:
    locked = hurt[0]["locked"]
    assert locked["said"]["status"] == "failed" and "Permission denied" in locked["said"]["reason"]
    assert locked["files"] == ["latest.pth"]


@pytest.mark.skipif(os.name == "nt", reason="no such permissions")
def test_a_source_that_nobody_may_write_to(hurt: tuple[dict[str, Any], Path]) -> None:
    done = hurt[0]["read only"]
    assert (done["said"]["status"], done["mode"]) == ("fixed", 0o444), done["said"]["reason"]


def test_four_repairs_of_one_file_in_place(hurt: tuple[dict[str, Any], Path]) -> None:
    found, where = hurt
    folder = where / "one_target"
    states = sorted(one["status"] for one in found["one target"])
    assert set(states) <= {"fixed", "not compared", "refused"} and "fixed" in states
    kept = [path.read_bytes() for path in folder.glob("latest.pth.bak*")]
    assert kept.count((where / "original").read_bytes()) == 1 == len(kept)
    check_whole(folder / "latest.pth", b"", "in place")
    assert sorted(path.name for path in folder.iterdir()) == ["latest.pth", "latest.pth.bak", "latest.pth.json"]


def test_two_repairs_of_one_folder_at_once(hurt: tuple[dict[str, Any], Path]) -> None:
    found, where = hurt
    assert sorted(path.name for path in (where / "both").iterdir() if path.suffix == ".pth") == [
        f"run{number}{kind}.pth" for number in range(3) for kind in (".fixed", "")
    ]
    for one, other in zip(*found["both"], strict=True):
        assert "fixed" in (one["status"], other["status"]) and {one["status"], other["status"]} <= {
            "fixed",
            "refused",
            "already fixed",
        }
        check_whole(where / "both" / Path(one["source"]).name.replace(".pth", ".fixed.pth"), b"", "both")


def test_too_little_room_is_said_before_anything_is_written(
    training_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type("usage", (), {"free": 10})
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda folder: usage)
    done = fix_file(training_file)
    assert done.status == "failed" and "10 bytes left" in str(done.reason) and files(training_file) == ["latest.pth"]


def test_in_a_notebook_the_progress_is_not_painted_red(
    latest: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})()
    monkeypatch.setattr(sys, "stdout", shown)
    fix_many([latest, latest.with_name("latest.pth")], dry_run=True)
    assert "2/2" in shown.getvalue() and not capsys.readouterr().err
