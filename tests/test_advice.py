"""The line that resumes training: real files, real refusals, and the line lets exactly these types pass."""

from __future__ import annotations

import argparse
import datetime
import logging
import os
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dav2_utils import diagnose, explain, inspect_file
from dav2_utils.advice import resume_line

KINDS: dict[str, Any] = {
    "arguments": argparse.Namespace(lr=1),
    "a score": np.float64(0.9),
    "a count": np.int64(3),
    "a path": pathlib.Path("data"),
    "days": [datetime.datetime(2024, 5, 6, 7, 8, 9), datetime.date(2024, 5, 6), datetime.timedelta(3)],
    "bare paths": [pathlib.PurePosixPath("a"), pathlib.PureWindowsPath("a")],
    "a simple namespace": types.SimpleNamespace(lr=1),
    "several": [argparse.Namespace(), np.float32(1), pathlib.Path("data")],
}


@pytest.mark.parametrize("kind", KINDS)
def test_the_line_to_resume_with(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "latest.pth"
    torch.save({"model": {"a.weight": torch.ones(2)}, "optimizer": {"lr": 1}, "more": KINDS[kind]}, path)
    with pytest.raises(Exception, match="Weights only load failed") as refused:
        torch.load(path, weights_only=True)
    line = resume_line(inspect_file(path).globals)
    assert line and line in str(diagnose(path)) and "--keep-training-state" in str(diagnose(path))
    first = " ".join(str(explain(str(refused.value))).split())
    assert "add_safe_globals([" in first and "--keep-training-state" in first
    before = torch.serialization.get_safe_globals()
    try:
        exec(line, {})
        assert torch.load(path, weights_only=True)["optimizer"] == {"lr": 1}
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


def test_a_path_of_python_3_13(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = types.ModuleType("pathlib._local")
    there.PosixPath = type("PosixPath", (pathlib.PurePosixPath,), {"__module__": there.__name__})  # type: ignore[attr-defined]
    with monkeypatch.context() as as_there:
        as_there.setitem(sys.modules, there.__name__, there)
        torch.save({"a.weight": torch.ones(2), "from": there.PosixPath("data")}, tmp_path / "a.pth")
    line = resume_line(inspect_file(tmp_path / "a.pth").globals)
    before = torch.serialization.get_safe_globals()
    try:
        exec(line.replace("PosixPath,", "PurePosixPath,"), {})  # which exists on Windows too
        assert torch.load(tmp_path / "a.pth", weights_only=True)["from"] == pathlib.PurePosixPath("data")
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(before)


@pytest.mark.parametrize(
    "names",
    [["posix.system"], ["builtins.eval"], ["__builtin__.getattr"], ["argparse.Namespace", "os.system"], [],
     ["torch.nn.modules.linear.Linear"], ["subprocess.Popen"], ["a b.C"], ["x.C; import os"], ["C"],
     ["logging.FileHandler"], ["torch._C.PyTorchFileWriter"], ["h5py.File"], ["argparse.Namespace", "train.Config"],
     ["easydict.EasyDict"]],
)  # fmt: skip
def test_code_is_never_recommended(names: list[str]) -> None:
    assert resume_line(names) == ""


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


class Emptying:
    """A class of the standard library, and nothing but data by its name."""

    def __reduce__(self) -> Any:
        return logging.FileHandler, ("precious.txt", "w")


@pytest.mark.parametrize("bad", [Evil, Emptying])
def test_nor_in_a_report(bad: type, tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save({"model": {"a.weight": torch.ones(2)}, "more": bad()}, path)
    assert "add_safe_globals" not in str(diagnose(path))
    with pytest.raises(Exception, match="Weights only load failed") as refused:
        torch.load(path, weights_only=True)
    assert "add_safe_globals" not in str(explain(str(refused.value)))


@pytest.mark.parametrize("device", ["cpu:0", "gpu", "CPU"])
def test_a_device_that_the_program_spelled_wrongly(device: str, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(RuntimeError) as error:
        torch.load(tmp_path / "a.pth", map_location=device, weights_only=True)
    [found] = explain(str(error.value)).causes
    assert found.cause == "cuda_device" and f"'{device}'" in found.remedy and "map_location='cpu'" in found.remedy
