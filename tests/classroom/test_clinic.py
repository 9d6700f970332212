"""Every patient is broken in the way that it says, and what can be fixed is fixed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dav2_utils import CheckpointError, DepthAnythingV2, diagnose, fix_file, load_model
from dav2_utils.classroom.clinic import PATIENTS, patient

FIXED = ("01", "02", "06", "07", "08", "10", "11")


@pytest.mark.parametrize("name", [name for name in PATIENTS if name != "13"])
def test_the_diagnosis_finds_what_is_wrong(name: str, tmp_path: Path) -> None:
    found = diagnose(patient(name, tmp_path), "tiny")
    assert tuple(cause.cause for cause in found.causes) == PATIENTS[name].causes
    assert found.repairable == (name in FIXED)


def test_two_sets_are_never_chosen_in_silence(tmp_path: Path) -> None:
    path = patient("13", tmp_path)
    with pytest.raises(CheckpointError, match="state_dict_ema"):
        diagnose(path, "tiny")
    assert diagnose(path, "tiny", select="state_dict_ema").repairable


@pytest.mark.parametrize("name", FIXED)
def test_what_can_be_fixed_gives_the_very_same_numbers(name: str, tmp_path: Path) -> None:
    repair = fix_file(patient(name, tmp_path))
    assert repair.status == "fixed" and repair.identical
    with torch.random.fork_rng():
        torch.manual_seed(0)
        truth = DepthAnythingV2("tiny").state_dict()
    fixed = load_model(tmp_path / f"patient_{name}.fixed.pth", max_depth=80).state_dict()
    assert all(torch.equal(fixed[key], truth[key]) for key in truth) and len(fixed) == len(truth)


@pytest.mark.parametrize("name", sorted(set(PATIENTS) - {*FIXED, "09", "12", "13", "14"}))
def test_what_cannot_be_fixed_is_left_alone(name: str, tmp_path: Path) -> None:
    path = patient(name, tmp_path)
    before = path.read_bytes()
    assert fix_file(path).status in ("failed", "refused")
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]


def test_the_silent_one_loads_and_nothing_in_the_file_tells(tmp_path: Path) -> None:
    found = diagnose(patient("14", tmp_path), "tiny")
    assert found.loads and "metric or relative" in found.cannot_be_known


def test_patients_are_the_same_each_time(tmp_path: Path) -> None:
    assert patient("01", tmp_path / "a").read_bytes() == patient("01", tmp_path / "b").read_bytes()


def test_an_unknown_patient_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="01, 02"):
        patient("99", tmp_path)
