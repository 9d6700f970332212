"""Nobody's path is overwritten except the one that they named, and what a report says is true."""

from __future__ import annotations

import errno
import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dav2_utils.depth.model import DepthAnythingV2
from dav2_utils.encoders import check_max_depth
from dav2_utils.errors import CheckpointError, WriteError
from dav2_utils.repair import fixing
from dav2_utils.repair.batch import fix_many
from dav2_utils.repair.fixing import fix_file
from dav2_utils.weights import saving
from dav2_utils.weights.loading import load_model
from dav2_utils.weights.saving import save_weights
from dav2_utils.writing import disk


def net() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "latest.pth"
    torch.save({"model": nn.DataParallel(net()).state_dict(), "epoch": 3}, path)
    return path


def everything(folder: Path) -> dict[str, Any]:
    """What every path below is: a folder, a link and where it leads, or a file and its bytes."""
    return {
        str(path.relative_to(folder)): str(path.readlink()) if path.is_symlink()
        else None if path.is_dir() else path.read_bytes()
        for path in folder.rglob("*")
    }  # fmt: skip


# ---- NAME.json


@pytest.mark.parametrize("options", [{}, {"output": "x.pth"}, {"dry_run": True}])
def test_a_json_of_the_users_own_is_not_overwritten(source: Path, options: dict[str, Any]) -> None:
    if "output" in options:
        options = {"output": source.with_name("x.pth")}
    notes = source.with_name("x.pth.json" if "output" in options else "latest.fixed.pth.json")
    notes.write_text('{"mine": 1}')
    before = everything(source.parent)
    done = fix_file(source, **options)
    assert (done.status, "--force" in str(done.reason), str(notes) in str(done.reason)) == ("refused", True, True)
    assert everything(source.parent) == before


def test_force_is_about_the_file_that_was_named(source: Path) -> None:
    """Nobody asks for NAME.json: what somebody else wrote there is kept, and what we wrote does not pile up."""
    notes = source.with_name("latest.fixed.pth.json")
    notes.write_text('{"mine": 1}')
    done = fix_file(source, force=True)
    kept = source.with_name("latest.fixed.pth.json.bak")
    assert (done.status, done.facts, done.facts_backup, done.backup) == ("fixed", str(notes), str(kept), None)
    assert kept.read_text() == '{"mine": 1}' and str(kept) in str(done) and json.loads(notes.read_text())["source"]
    again = fix_file(source, force=True)
    assert again.status == "fixed" and again.facts_backup is None
    assert sorted(everything(source.parent)) == ["latest.fixed.pth", notes.name, kept.name, source.name]
    plain = fix_file(source, format="safetensors")
    assert plain.status == "fixed" and plain.facts is None


def test_in_place_keeps_the_facts_too(source: Path) -> None:
    notes = source.with_name("latest.pth.json")
    notes.write_text('{"mine": 1}')
    before = source.read_bytes()
    done = fix_file(source, in_place=True)
    assert done.status == "fixed" and Path(str(done.backup)).read_bytes() == before
    assert Path(str(done.facts_backup)).name == "latest.pth.json.bak"
    assert Path(str(done.facts_backup)).read_text() == '{"mine": 1}'


@pytest.mark.parametrize("force", [True, False])
def test_a_source_that_is_called_as_the_facts_would_be(source: Path, force: bool) -> None:
    named = source.rename(source.with_name("g.pth.json"))
    before = everything(source.parent)
    done = fix_file(named, output=source.with_name("g.pth"), force=force)
    assert done.status == "refused" and "the source itself" in str(done.reason)
    assert everything(source.parent) == before


@pytest.mark.parametrize("force", [True, False])
@pytest.mark.parametrize("name", ["latest.fixed.pth", "latest.fixed.pth.json"])
def test_a_folder_in_the_way(source: Path, name: str, force: bool) -> None:
    source.with_name(name).mkdir()
    before = everything(source.parent)
    done = fix_file(source, force=force)
    assert done.status == "refused" and f"{name} already exists. It is not a file" in str(done.reason)
    assert everything(source.parent) == before


@pytest.mark.parametrize("options", [{}, {"in_place": True}, {"force": True}, {"output": "made/x.pth"}])
@pytest.mark.parametrize("when", ["facts are written", "facts are named"])
def test_a_disk_that_is_full_when_the_facts_come(
    source: Path, when: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if "force" in options:
        fix_file(source)
    if "output" in options:
        options = {"output": source.parent / options["output"]}
    really = disk.name
    if when == "facts are written":
        monkeypatch.setattr(Path, "write_text", full)
    else:
        monkeypatch.setattr(disk, "name", lambda a, b, c: full() if b.suffix == ".json" else really(a, b, c))
    before = everything(source.parent)
    done = fix_file(source, **options)
    assert (done.status, done.backup, done.facts, done.identical) == ("failed", None, None, None)
    assert "No space left" in str(done.reason) and "everything is as it was" in str(done.reason)
    assert everything(source.parent) == before


def test_save_weights_is_whole_or_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "w.pth"
    save_weights(net(), target, run="one")
    before = everything(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(saving, "write_text", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "No space left")))
        with pytest.raises(WriteError, match="everything is as it was"):
            save_weights(nn.DataParallel(net()), target, run="two")
    assert everything(tmp_path) == before
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        save_weights(net(), target, run="two")
    (tmp_path / "w.pth.json").write_text("mine")
    with pytest.warns(UserWarning, match=r"w\.pth\.json was there and is not from this package: it is now .*\.bak"):
        save_weights(net(), target)
    assert (tmp_path / "w.pth.json.bak").read_text() == "mine"


# ---- links


def test_in_place_on_a_link_is_refused(source: Path) -> None:
    link = source.with_name("link.pth")
    link.symlink_to(source)
    before = everything(source.parent)
    done = fix_file(link, in_place=True)
    assert done.status == "refused" and "symbolic link" in str(done.reason) and str(source) in str(done.reason)
    assert everything(source.parent) == before
    assert fix_file(link).target == str(source.with_name("link.fixed.pth"))


@pytest.mark.parametrize("leads_to", ["theirs", "nowhere"])
def test_a_target_that_is_a_link(source: Path, leads_to: str) -> None:
    source.with_name("theirs").write_text("theirs")
    target = source.with_name("latest.fixed.pth")
    target.symlink_to(source.with_name(leads_to))
    assert fix_file(source).status == "refused" and target.is_symlink()
    assert fix_file(source, force=True).status == "fixed"
    assert not target.is_symlink() and source.with_name("theirs").read_text() == "theirs"
    assert not source.with_name("nowhere").exists()


# ---- a source that changes


@pytest.mark.parametrize("options", [{}, {"in_place": True}, {"format": "safetensors"}])
@pytest.mark.parametrize("how", ["saved over", "replaced", "deleted"])
@pytest.mark.parametrize("way", ["copied", "by torch"])
def test_a_training_saves_while_fix_reads(
    source: Path, way: str, how: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The batch says so of this file, leaves nothing, and goes on with the next."""
    newer, second = source.with_name("newer"), source.with_name("second.pth")
    newer.write_bytes(source.read_bytes())
    second.write_bytes(source.read_bytes())
    really, by_torch = fixing.write_copy, fixing.write_by_torch
    if way == "by torch":
        monkeypatch.setattr(fixing, "plan_copy", lambda *args: None)
    calls = []

    def meanwhile(*args: Any) -> str:
        calls.append(0)
        if len(calls) == 1:
            if how == "saved over":
                with source.open("r+b") as file:
                    file.write(source.read_bytes())
                os.utime(source, ns=(1, 1))
            else:
                newer.replace(source) if how == "replaced" else source.unlink()
        return (by_torch if way == "by torch" else really)(*args)

    monkeypatch.setattr(fixing, "write_by_torch" if way == "by torch" else "write_copy", meanwhile)
    first, other = fix_many([source, second], **options)
    assert (first.status, other.status) == ("refused", "fixed"), (first.reason, other.reason)
    assert "latest.pth changed while it was read" in str(first.reason)
    assert first.target is None and not [name for name in everything(source.parent) if "latest.pth." in name]
    assert source.exists() == (how != "deleted") and not source.with_name("latest.fixed.pth").exists()


def test_a_file_that_goes_while_a_folder_is_mended(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    second = source.with_name("second.pth")
    second.write_bytes(source.read_bytes())
    really = fixing.write_copy
    monkeypatch.setattr(fixing, "write_copy", lambda *args: (second.unlink(), really(*args))[1])
    first, other = fix_many([source.parent])
    assert (first.status, other.status) == ("fixed", "failed") and "is not there" in str(other.reason)


# ---- the range of a metric model: one check


@pytest.mark.parametrize(
    "wrong", [0, -1, float("nan"), float("inf"), True, "deep", 10**400, [1]], ids=lambda one: str(one)[:9]
)
def test_a_range_that_is_none_is_refused_everywhere(source: Path, latest: Path, wrong: Any) -> None:
    for use in (
        lambda: check_max_depth(wrong),
        lambda: fix_file(source, max_depth=wrong),
        lambda: load_model(latest, max_depth=wrong),
        lambda: load_model("vitl", max_depth=wrong),  # before anything is downloaded
        lambda: DepthAnythingV2("tiny", max_depth=wrong),
        lambda: save_weights(net(), source.with_name("x.pth"), max_depth=wrong),
    ):
        with pytest.raises(CheckpointError, match=r"max_depth is .*above 0") as error:
            use()
        assert error.value.kind == "usage"
    assert not source.with_name("x.pth").exists()
    save_weights(net(), source.with_name("x.pth"), max_depth=torch.tensor(20.0).numpy()[()])


# ---- more than one write() takes


@pytest.mark.slow
@pytest.mark.long
def test_a_storage_over_two_gigabytes(tmp_path: Path) -> None:
    """Its bytes are copied, compared and hashed by the same few loops whatever the format, so in one of the two."""
    if os.name == "nt":
        pytest.skip("files have no holes there")
    size = 2**31 + 2**20
    with (tmp_path / "numbers").open("wb") as file:
        file.truncate(size)  # a hole: no bytes on the disk
    large = torch.from_file(str(tmp_path / "numbers"), size=size, dtype=torch.uint8)
    state = {"module.large": large, "module.small": torch.arange(3)}
    with torch.serialization.skip_data():
        torch.save(state, tmp_path / "latest.pth")
    done = fix_file(tmp_path / "latest.pth")
    assert done.status == "fixed" and done.identical and done.bytes > size, done.reason
    (tmp_path / "latest.fixed.pth").unlink()
