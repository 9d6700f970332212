"""The line that resumes training: real files, real refusals, and the line lets exactly these types pass."""

from __future__ import annotations

import argparse
import os
import pathlib
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


@pytest.mark.parametrize(
    "names",
    [["posix.system"], ["builtins.eval"], ["__builtin__.getattr"], ["argparse.Namespace", "os.system"], [],
     ["torch.nn.modules.linear.Linear"], ["subprocess.Popen"], ["a b.C"], ["x.C; import os"], ["C"]],
)  # fmt: skip
def test_code_is_never_recommended(names: list[str]) -> None:
    assert resume_line(names) == ""


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("true",)


def test_nor_in_a_report(tmp_path: Path) -> None:
    torch.save({"model": {"a.weight": torch.ones(2)}, "more": Evil()}, tmp_path / "a.pth")
    assert "add_safe_globals" not in str(diagnose(tmp_path / "a.pth"))


@pytest.mark.parametrize("device", ["cpu:0", "gpu", "CPU"])
def test_a_device_that_the_program_spelled_wrongly(device: str, tmp_path: Path) -> None:
    torch.save({"a.weight": torch.ones(2)}, tmp_path / "a.pth")
    with pytest.raises(RuntimeError) as error:
        torch.load(tmp_path / "a.pth", map_location=device, weights_only=True)
    [found] = explain(str(error.value)).causes
    assert found.cause == "cuda_device" and f"'{device}'" in found.remedy and "map_location='cpu'" in found.remedy
