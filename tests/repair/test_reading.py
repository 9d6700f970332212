"""What is taken from a file is what torch reads from it, in memory of its own, or it is refused."""

from __future__ import annotations

import argparse
import os
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_files
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.errors import CheckpointError, DoesNotFit, NotACheckpoint
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.repair import taking
from dav2_utils.repair.batch import fix_many
from dav2_utils.repair.fixing import fix_file
from dav2_utils.repair.reading import read_set, walk
from dav2_utils.weights.loading import load_into, load_model
from dav2_utils.weights.saving import save_weights

ODD = {"args": argparse.Namespace(lr=1)}  # what torch.load refuses beside the weights


def net() -> nn.Sequential:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))


def saved(path: Path, value: Any, **options: Any) -> Path:
    torch.save(value, path, **options)
    return path


def rezipped(path: Path, change: Callable[[str, bytes], bytes | None], method: int = zipfile.ZIP_STORED) -> Path:
    """The archive at `path` rewritten, record by record; None leaves one out."""
    with zipfile.ZipFile(path) as old:
        items = [(name, change(name.partition("/")[2], old.read(name))) for name in old.namelist()]
    with zipfile.ZipFile(path, "w", method) as new:
        for name, content in items:
            if content is not None:
                new.writestr(name, content)
    return path


def as_it_is(name: str, content: bytes) -> bytes:
    return content


def same(one: Any, other: Any) -> bool:
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("odd", [{}, ODD], ids=["plain", "beside an object"])
def test_packed_records_are_unpacked(odd: dict[str, Any], tmp_path: Path) -> None:
    """As they are after somebody zipped an unpacked checkpoint again."""
    path = rezipped(saved(tmp_path / "a.pth", {"model": net().state_dict(), **odd}), as_it_is, zipfile.ZIP_DEFLATED)
    done = fix_file(path)
    assert done.status == "fixed" and same(torch.load(str(done.target), weights_only=True), net().state_dict())
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    load_into(model, path)
    assert same(model.state_dict(), net().state_dict())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_loaded_model_outlives_its_file(suffix: str, tmp_path: Path) -> None:
    """Load, train on, save under the same name: the most natural loop there is."""
    path = tmp_path / f"w{suffix}"
    save_weights(DepthAnythingV2("tiny"), path)
    model = load_model(path)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    if Path("/proc/self/maps").exists():
        assert str(path) not in Path("/proc/self/maps").read_text()
        mapped = load_model(path, mmap=True)
        assert str(path) in Path("/proc/self/maps").read_text() and same(mapped.state_dict(), before)
        del mapped
    (save_file if suffix == ".safetensors" else torch.save)(model.state_dict(), path)
    assert same(load_model(path).state_dict(), before)
    os.truncate(path, 10)
    assert same(model.state_dict(), before)


@pytest.mark.parametrize("bit", ["conj", "neg"])
def test_signs_that_are_still_to_be_turned(bit: str, tmp_path: Path) -> None:
    tensor = torch.tensor([1 + 2j, 3 - 4j]).conj()
    state = {"w": tensor if bit == "conj" else tensor.imag}
    path = saved(tmp_path / "a.pth", {"model": state})
    done = fix_file(path, against=None)
    back = torch.load(str(done.target), weights_only=True)
    assert done.identical and torch.equal(back["w"].resolve_conj(), state["w"])
    done = fix_file(saved(path, {"model": state, **ODD}), force=True)
    assert done.status == "refused" and "argparse.Namespace" in str(done.reason)


@pytest.mark.parametrize(
    ("order", "words"),
    [(b"LITTLE", "byte order"), (b"little\n", "byte order"), (b"", "byte order"), (b"big", "argparse.Namespace")],
)
def test_byte_orders(order: bytes, words: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": {"w": torch.arange(4.0)}, **ODD})
    done = fix_file(rezipped(path, lambda name, content: order if name == "byteorder" else content))
    assert done.status in ("refused", "failed") and words in str(done.reason) and not done.target
    path = rezipped(
        saved(path, {"model": {"w": torch.arange(4.0)}}),
        lambda name, content: b"big" if name == "byteorder" else content,
    )
    theirs = torch.load(path, weights_only=True)["model"]
    assert same(read_set(inspect_file(path), ("model",)), theirs) and theirs["w"][1] != 1


@pytest.mark.parametrize("turned", [False, True])
def test_two_entries_that_look_alike(turned: bool, tmp_path: Path) -> None:
    a, b = {"module.w": torch.zeros(2)}, {"module.w": torch.ones(2)}
    path = saved(tmp_path / "a.pth", {"1": b, 1: a} if turned else {1: a, "1": b})
    done = fix_file(path)
    assert torch.load(str(done.target), weights_only=True)["w"].tolist() == [1, 1]
    kept = fix_file(path, tmp_path / "kept.pth", keep_training_state=True)
    back = torch.load(str(kept.target), weights_only=True)
    assert back[1]["module.w"].tolist() == [0, 0] and back["1"]["w"].tolist() == [1, 1]
    with pytest.raises(CheckpointError, match="no entry '1' on the way"):
        walk({1: a}, ("1",))


def test_rotten_bytes_are_found_and_never_sealed(tmp_path: Path) -> None:
    for odd in ({}, ODD):
        path = saved(tmp_path / "a.pth", {"model": nn.DataParallel(net()).state_dict(), **odd})
        content = bytearray(path.read_bytes())
        content[content.index(net()[0].weight.detach().numpy().tobytes()) + 5] ^= 4
        path.write_bytes(content)
        for options in ({}, {"keep_training_state": True}):
            done = fix_file(path, **options)
            assert done.status == "refused" and not Path(f"{path}.fixed.pth").exists()
            assert "checksum" in str(done.reason) or "Namespace" in str(done.reason)
        with pytest.raises(CheckpointError, match=r"checksum is [0-9a-f]{8}, and should be"):
            load_into(net(), path)


def test_a_torch_that_writes_no_checksums_is_known_and_said(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        path = saved(tmp_path / "a.pth", {"model": net().state_dict()})
    finally:
        torch.serialization.set_crc32_options(True)
    assert "without checksums" in str(inspect_file(path))
    assert fix_file(path).status == "fixed"
    assert "without checksums" not in str(inspect_file(tmp_path / "a.fixed.pth"))


def test_a_file_of_two_formats_is_refused(tmp_path: Path) -> None:
    """Its first bytes are a zip archive's, and the length of a safetensors header."""
    length = int.from_bytes(b"PK\3\4", "little")
    header = b'{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}'
    path = tmp_path / "a.pth"
    with path.open("wb") as file:
        file.write(b"PK\3\4" + bytes(4) + header.ljust(length) + struct.pack("<f", 1))
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr("a/data.pkl", b"\x80\2}.")
            archive.writestr("a/version", b"3")
    with pytest.raises(NotACheckpoint, match="a zip archive and a safetensors file in one"):
        inspect_file(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("what", ["cut", "saved over", "replaced"])
def test_a_file_that_changes_while_it_is_read(
    what: str, suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / f"a{suffix}"
    save = save_file if suffix == ".safetensors" else torch.save
    save({"a.weight": torch.zeros(1 << 20), "b.weight": torch.zeros(1 << 20)}, path)
    os.utime(path, (1, 1))
    other = tmp_path / f"b{suffix}"
    save({"a.weight": torch.ones(1 << 20), "b.weight": torch.ones(1 << 20)}, other)
    really = taking._filled

    def filled(size: int, fill: Any) -> Any:
        found = really(size, fill)
        if what == "cut":
            os.truncate(path, 6 << 20)
        elif what == "saved over":
            path.write_bytes(other.read_bytes())
        else:
            path.unlink()
            save({"a.weight": torch.ones(1 << 20)}, path)
        return found

    opened = inspect_file(path)
    monkeypatch.setattr(taking, "_filled", filled)
    if what == "replaced":  # what was opened is still there, whole
        assert float(sum(tensor.sum() for tensor in read_set(opened, ()).values())) == 0
    else:
        with pytest.raises(CheckpointError, match="changed while it was read"):
            read_set(opened, ())
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_set(opened, ())


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_a_file_with_other_names_is_another_one_even_if_it_is_as_large(suffix: str, tmp_path: Path) -> None:
    path, save = tmp_path / f"a{suffix}", save_file if suffix == ".safetensors" else torch.save
    save({"a.weight": torch.zeros(2), "b.weight": torch.ones(2)}, path)
    opened = inspect_file(path)
    save({"a.weight": torch.zeros(2), "c.weight": torch.ones(2)}, path)
    assert path.stat().st_size == opened.bytes
    with pytest.raises(CheckpointError, match="changed while it was read"):
        read_set(opened, ())


def test_a_sparse_tensor_is_refused_and_the_folder_goes_on(tmp_path: Path) -> None:
    sparse = torch.eye(3).to_sparse()
    saved(tmp_path / "a.pth", {"model": {"module.a": torch.ones(2), "module.b": sparse}})
    saved(tmp_path / "b.pth", {"model": {"module.a": torch.ones(2)}})
    saved(tmp_path / "c.pth", {"model": {"module.a": torch.ones(2)}, "optimizer": {"state": {0: sparse}}})
    repairs = fix_many([tmp_path], keep_training_state=True)
    assert [done.status for done in repairs] == ["refused", "fixed", "fixed"]
    assert "is a sparse_coo tensor" in str(repairs[0].reason)
    kept = torch.load(str(repairs[2].target), weights_only=True)
    assert list(kept["model"]) == ["a"] and torch.equal(kept["optimizer"]["state"][0].to_dense(), torch.eye(3))
    assert fix_file(tmp_path / "c.pth", force=True).status == "fixed", "without the optimizer"


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
@pytest.mark.filterwarnings("ignore:TypedStorage is deprecated:UserWarning")
def test_a_quantised_tensor_is_refused(tmp_path: Path) -> None:
    tensor = torch.quantize_per_tensor(torch.ones(4), 0.5, 1, torch.quint8)
    done = fix_file(saved(tmp_path / "a.pth", {"model": {"module.a": tensor}}))
    assert done.status == "refused" and "1 quantised tensors (quint8) like module.a" in str(done.reason)


def pickled(path: Path, tensor: bytes, maker: made_files.Maker) -> Path:
    """A training file around one tensor, beside an object that torch.load refuses."""
    model = made_files.entries((made_files.text("module.w"), tensor))
    whole = made_files.entries((made_files.text("model"), model), (made_files.text("args"), made_files.FOREIGN))
    items = made_files.records(maker, b"\x80\2" + whole + b".", b"little", ("version", b"3\n"))
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in items:
            archive.writestr(f"a/{name}", content)
    return path


def usual(maker: made_files.Maker, value: float, key: bytes | None = None) -> bytes:
    name = str(len(maker.storages))
    maker.storages[name] = ("FloatStorage", struct.pack("<2f", value, value))
    pid = b"(" + made_files.text("storage") + b"ctorch\nFloatStorage\n" + (key or made_files.text(name))
    where = pid + made_files.text("cpu") + b"K\2tQK\0" + made_files.numbers((2,)) + made_files.numbers((1,))
    return made_files.called("torch._utils\n_rebuild_tensor_v2", where, b"\x89", made_files.HOOKS)


HIDDEN: dict[str, Callable[[made_files.Maker], bytes]] = {
    "with attributes": lambda maker: made_files.called(
        "torch._utils\n_rebuild_parameter_with_state", usual(maker, 1), b"\x89", made_files.HOOKS,
        made_files.entries((made_files.text("data"), usual(maker, 2)))),
    "of a class": lambda maker: made_files.called(
        "torch._tensor\n_rebuild_from_type_v2", b"ctorch._utils\n_rebuild_parameter\n", b"ctorch\nTensor\n",
        b"(" + usual(maker, 1) + b"\x89" + made_files.HOOKS + b"t",
        made_files.entries((made_files.text("data"), usual(maker, 2)))),
    "a key that is a number": lambda maker: usual(maker, 1, b"K\0"),
    "of a device": lambda maker: made_files.called(
        "torch._utils\n_rebuild_device_tensor_from_cpu_tensor", usual(maker, 1), b"ctorch\nfloat16\n",
        made_files.text("cpu"), b"\x89"),
}  # fmt: skip


@pytest.mark.parametrize("name", HIDDEN)
def test_a_tensor_that_is_more_than_its_bytes_is_refused_beside_an_object(name: str, tmp_path: Path) -> None:
    maker = made_files.Maker(0)
    path = pickled(tmp_path / "a.pth", HIDDEN[name](maker), maker)
    done = fix_file(path)
    assert done.status == "refused" and "argparse.Namespace" in str(done.reason)
    maker = made_files.Maker(0)
    assert fix_file(pickled(path, usual(maker, 1), maker)).status == "fixed", "the same with a usual one"


def test_a_tensor_that_is_given_other_numbers_is_none(tmp_path: Path) -> None:
    maker = made_files.Maker(0)
    path = pickled(tmp_path / "a.pth", usual(maker, 1) + b"(" + usual(maker, 2) + b"tb", maker)
    with pytest.raises(NotACheckpoint, match="given other numbers after it was made"):
        inspect_file(path)


def test_the_dtype_of_a_device_tensor_is_the_one_that_it_gets(tmp_path: Path) -> None:
    maker = made_files.Maker(0)
    path = pickled(tmp_path / "a.pth", HIDDEN["of a device"](maker), maker)
    assert inspect_file(path).table["module.w"].dtype == "float16"


class Counting(nn.Module):
    """A module with state that is not a tensor, as torch allows."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.seen = nn.Parameter(torch.zeros(2)), 0

    def get_extra_state(self) -> Any:
        return {"seen": self.seen}

    def set_extra_state(self, state: Any) -> None:
        self.seen = state["seen"]


def test_extra_state_goes_where_the_state_dict_goes(tmp_path: Path) -> None:
    model = nn.Sequential(Counting())
    model[0].seen = 7
    path = saved(tmp_path / "a.pth", {"model": nn.DataParallel(model).state_dict(), "epoch": 1})
    assert diagnose(path, model).verdict == "repairable"
    assert diagnose(path, nn.Sequential(nn.Linear(1, 1))).verdict == "not repairable"
    assert diagnose(model.state_dict(), model).verdict == "loads"
    for keep in (False, True):
        done = fix_file(path, tmp_path / f"{keep}.pth", keep_training_state=keep)
        back = torch.load(str(done.target), weights_only=True)
        assert done.identical and (back["model"] if keep else back)["0._extra_state"] == {"seen": 7}
        fresh = nn.Sequential(Counting())
        load_into(fresh, str(done.target))
        assert fresh[0].seen == 7
    save_weights(nn.DataParallel(model), tmp_path / "s.pth")
    assert torch.load(tmp_path / "s.pth", weights_only=True)["0._extra_state"] == {"seen": 7}
    refused = fix_file(path, format="safetensors")
    assert refused.status == "failed" and "0._extra_state" in str(refused.reason) and "pth" in str(refused.reason)
    with pytest.raises(CheckpointError, match="_extra_state"):
        save_weights(model, tmp_path / "s.safetensors")
    without = saved(tmp_path / "w.pth", {"module.0.weight": torch.ones(2)})
    with pytest.raises(DoesNotFit, match="_extra_state"):
        load_into(nn.Sequential(Counting()), without)
    odd = fix_file(saved(tmp_path / "o.pth", {"model": model.state_dict(), **ODD}))
    assert odd.status == "refused" and "argparse.Namespace" in str(odd.reason)


def test_entries_that_belong_to_no_state_dict_do_not_load(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {**net().state_dict(), "epoch": 3})
    with pytest.raises(RuntimeError, match="epoch"):
        net().load_state_dict(torch.load(path, weights_only=True))
    assert diagnose(path, net()).verdict == "repairable"
    done = fix_file(path)
    assert done.status == "fixed" and net().load_state_dict(torch.load(str(done.target), weights_only=True))


def set_flags(flags: int) -> Callable[[Path], None]:
    def change(path: Path) -> None:
        content = bytearray(path.read_bytes())
        at = content.index(b"PK\1\2")
        while at >= 0:
            content[at + 8] |= flags
            at = content.find(b"PK\1\2", at + 4)
        path.write_bytes(content)

    return change


def records(change: Callable[[str, bytes], bytes | None]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        rezipped(path, change)

    return rewrite


def mac(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("__MACOSX/._data.pkl", b"x")


REFUSED: dict[str, tuple[Callable[[Path], None], str]] = {
    "a Mac's zip": (mac, "__MACOSX"),
    "no version": (records(lambda name, content: None if name == "version" else content), "'version'"),
    "a newer version": (records(lambda name, content: b"11" if name == "version" else content), "its version is b'11'"),
    "a version of the past": (records(lambda name, content: b"0" if name == "version" else content), "its version"),
    "no version in it": (records(lambda name, content: b"x" if name == "version" else content), "its version"),
    "encrypted": (set_flags(1), "encrypted"),
    "no byte order": (records(lambda name, content: b"x" if name == "byteorder" else content), "its byte order"),
    "no alignment": (records(lambda name, content: b"x" if name == ".storage_alignment" else content), "alignment"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_nothing_loads_that_torch_refuses(name: str, tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", net().state_dict())
    assert diagnose(path, net()).verdict == "loads"
    change, words = REFUSED[name]
    change(path)
    with pytest.raises((RuntimeError, ValueError)):
        torch.load(path, weights_only=True)
    found = diagnose(path, net())
    assert found.verdict == "unreadable" and words in str(found)
    assert fix_file(path).status == "failed"


def test_a_newer_pickle_protocol_does_not_load_but_is_repaired(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", net().state_dict(), pickle_protocol=4)
    with pytest.raises(Exception, match="Unsupported operand"):
        torch.load(path, weights_only=True)
    assert diagnose(path, net()).verdict == "repairable"
    done = fix_file(path)
    assert done.identical and same(torch.load(str(done.target), weights_only=True), net().state_dict())


def test_the_versions_of_modules_come_along_beside_an_object(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.pth", {"model": nn.DataParallel(net()).state_dict(), **ODD})
    back = torch.load(str(fix_file(path).target), weights_only=True)
    assert back._metadata["1"] == {"version": 2}


def test_an_object_among_the_versions_of_modules_is_left_out(tmp_path: Path) -> None:
    state = nn.DataParallel(net()).state_dict()
    state._metadata["module.1"] |= {"size": (1, 2), "args": argparse.Namespace(), "dtype": torch.half}  # type: ignore[attr-defined]
    done = fix_file(saved(tmp_path / "a.pth", {"model": state}))
    back = torch.load(str(done.target), weights_only=True)
    assert back._metadata["1"] == {"version": 2, "size": (1, 2)}


@pytest.mark.skipif(sys.platform == "win32", reason="Windows counts memory in another way")
def test_reading_one_set_of_many_costs_that_set_alone(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    size = 16 << 20
    state = {"optimizer": {"state": {n: {"exp_avg": torch.ones(size)} for n in range(4)}, "param_groups": []}}
    path = saved(tmp_path / "a.pth", {"model": {"w": torch.ones(size)}, **state})
    del state
    opened = inspect_file(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = read_set(opened, ("model",))
    assert float(found["w"].sum()) == size
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < 1.4 * 4 * size
