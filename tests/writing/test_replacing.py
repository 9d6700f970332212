"""Files that get their names together or not at all, and what is done about those of killed runs."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from dav2_utils.errors import AlreadyThere, SourceChanged, WriteError
from dav2_utils.writing import disk, leftovers
from dav2_utils.writing.replacing import Place, Seen, replacing, replacing_all


def listing(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


def fill(folder: Path, **options: Any) -> list[Path | None]:
    """Two files, `a` and `b`, written together; where what was there before is now."""
    places = [Place(folder / "a", **options), Place(folder / "b", **options)]
    with replacing_all(places) as temporaries:
        for temporary in temporaries:
            temporary.write_text("new")
    return [place.kept for place in places]


def test_two_files_get_their_names_together(tmp_path: Path) -> None:
    assert fill(tmp_path / "deep" / "er") == [None, None]
    assert listing(tmp_path / "deep" / "er") == {"a": "new", "b": "new"}


@pytest.mark.parametrize("links", [True, False])
def test_what_is_there_stays_is_kept_or_goes(tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not links:
        monkeypatch.setattr(disk.os, "link", _refuses)
    (tmp_path / "b").write_text("old")
    with pytest.raises(AlreadyThere, match="b already exists"):
        fill(tmp_path)
    assert listing(tmp_path) == {"b": "old"}, "and `a`, which had its name for a moment, is gone"
    assert fill(tmp_path, backup=True) == [None, tmp_path / "b.bak"]
    assert listing(tmp_path) == {"a": "new", "b": "new", "b.bak": "old"}
    (tmp_path / "b").write_text("newer")
    assert fill(tmp_path, backup=True) == [tmp_path / "a.bak", tmp_path / "b.bak1"]
    fill(tmp_path, overwrite=True)
    assert listing(tmp_path) == {"a": "new", "b": "new", "a.bak": "new", "b.bak": "old", "b.bak1": "newer"}


def _refuses(*_: Any, **__: Any) -> None:
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("options", [{"overwrite": True}, {"backup": True}])
@pytest.mark.parametrize("fails", ["name", "flush"])
def test_a_second_name_that_cannot_be_given_takes_the_first_back(
    tmp_path: Path, fails: str, options: dict[str, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    really = getattr(disk, fails)

    def failing(path: Path, *others: Any) -> None:
        if (others and others[0].name == "b") or path == tmp_path:
            raise OSError(errno.EIO, "Input/output error")
        really(path, *others)

    monkeypatch.setattr(disk, fails, failing)
    (tmp_path / "a").write_text("old")
    with pytest.raises(WriteError, match=r"Input/output error.*everything is as it was"):
        fill(tmp_path, **options)
    assert listing(tmp_path) == {"a": "old"}


def test_what_cannot_be_taken_back_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")
    (tmp_path / "b").mkdir()
    monkeypatch.setattr(disk.os, "link", _refuses)
    with pytest.raises(WriteError, match="a was replaced, and what belongs beside it could not be written"):
        fill(tmp_path, overwrite=True)


def test_folders_made_for_nothing_are_taken_away(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), replacing(tmp_path / "x" / "y" / "a"):
        _ = 1 / 0
    with pytest.raises(WriteError, match="No space left"), replacing(tmp_path / "x" / "y" / "a"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_symbolic_link_is_replaced_and_not_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    for name, leads_to in (("a", "theirs"), ("b", "nowhere")):
        (tmp_path / name).symlink_to(tmp_path / leads_to)
    with pytest.raises(AlreadyThere):
        fill(tmp_path)
    kept = fill(tmp_path, backup=True)
    assert listing(tmp_path) == {"theirs": "theirs", "a": "new", "b": "new", "a.bak": "theirs"}
    assert all(path and path.is_symlink() for path in kept) and not (tmp_path / "nowhere").exists()


def test_a_source_that_changes(tmp_path: Path) -> None:
    source, other = tmp_path / "source", tmp_path / "other"
    for change in (lambda: source.write_text("longer"), lambda: other.replace(source), source.unlink,
                   lambda: os.utime(source, ns=(1, 1))):  # fmt: skip
        source.write_text("old")
        other.write_text("old")
        seen = Seen(source)
        seen.check()
        with (
            pytest.raises(SourceChanged, match="changed while it was read"),
            replacing_all([Place(tmp_path / "target")], source=seen),
        ):
            change()
        assert not (tmp_path / "target").exists() and not list(tmp_path.glob(".*"))


# ---- what killed runs leave


def left(folder: Path, process: int, age: float = 0, where: str | None = None) -> Path:
    path = folder / f".latest.pth.dav2-{where or leftovers._here()}-{process}-0123abcd.tmp"
    path.write_text("half")
    os.utime(path, (time.time() - age, time.time() - age))
    return path


@pytest.fixture(scope="module")
def gone() -> int:
    """The number of a process that no longer exists."""
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    return child.pid


DAY = 24 * 3600 + 60


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the age alone counts")
def test_only_what_is_ours_and_abandoned_is_removed(tmp_path: Path, gone: int) -> None:
    abandoned = [left(tmp_path, gone), left(tmp_path, 7, DAY, "0" * 8), left(tmp_path, 10**9, 0)]
    alive = [left(tmp_path, os.getpid(), DAY), left(tmp_path, 1), left(tmp_path, gone, 3600, "f" * 8)]
    for name in (".latest.pth.123-0123abcd.tmp", f"latest.pth.dav2-{leftovers._here()}-{gone}-0123abcd.tmp",
                 f".a.dav2-{leftovers._here()}-{gone}-0123abcd.tmp.pth", f".a.dav2-{gone}-0123abcd.tmp"):  # fmt: skip
        alive.append(tmp_path / name)
        alive[-1].write_text("theirs")
        os.utime(alive[-1], (1, 1))
    link = tmp_path / f".b.dav2-{leftovers._here()}-{gone}-0123abcd.tmp"
    link.symlink_to(alive[0])
    with (
        pytest.warns(
            UserWarning, match=r"Removed \.latest\.pth\.dav2-.* \(4 bytes\), left behind in .* killed"
        ) as said,
        replacing(tmp_path / "x") as temporary,
    ):
        temporary.write_text("x")
    assert len(said) == len(abandoned) and not any(path.exists() for path in abandoned)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in [*alive, link, tmp_path / "x"]}


def test_room_is_made_before_it_is_counted(tmp_path: Path) -> None:
    path = left(tmp_path, 7, DAY, "0" * 8)
    with pytest.warns(UserWarning, match="left behind"):
        disk.require_space(tmp_path, 1)
    assert not path.exists()
    disk.require_space(tmp_path / "not" / "there", 1)
    with pytest.raises(WriteError, match="this needs"):
        disk.require_space(tmp_path / "not" / "there", 10**18)


@pytest.mark.parametrize("system", ["darwin", "win32"])
def test_where_processes_cannot_be_asked_for_the_age_counts(
    tmp_path: Path, gone: int, system: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Windows, asking a process whether it lives would end it."""
    monkeypatch.setattr(leftovers.sys, "platform", system)
    monkeypatch.setattr(leftovers.os, "kill", _refuses)
    young, old = left(tmp_path, gone), left(tmp_path, gone + 1, DAY)
    with pytest.warns(UserWarning, match="left behind"):
        leftovers.clear_leftovers(tmp_path)
    assert young.exists() and not old.exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        leftovers.clear_leftovers(tmp_path / "nowhere")


def test_the_name_fits_every_file_system(tmp_path: Path) -> None:
    for name in ("x" * 255, "ä" * 127, "\U0001f600" * 63, "a\nb"):
        with replacing(tmp_path / name) as temporary:
            assert leftovers._UNFINISHED.fullmatch(temporary.name) and temporary.parent == tmp_path
