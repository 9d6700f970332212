"""What lies beside a file is known, with where it comes from; and nobody is led astray by what lies there."""

from __future__ import annotations

import json
import logging
import os
import pprint
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from family_tables import table, tensors
from safetensors.torch import save_file

from dav2_utils import DepthAnythingV2, diagnose, fix_file, load_model, save_weights
from dav2_utils.encoders import table_for
from dav2_utils.files import facts as room
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.files.facts import believed, read_arguments

ARGUMENTS = {
    "bs": 4, "dataset": "hypersim", "encoder": "vits", "epochs": 120, "img_size": 518, "local_rank": 0, "lr": 5e-06,
    "max_depth": 20.0, "min_depth": 0.001, "ngpus": 8, "port": 20596, "save_path": "exp/hypersim",
    "pretrained_from": "../checkpoints/depth_anything_v2_vits.pth",
}  # fmt: skip
BEFORE = (  # what the launcher says into the same file before the script has begun
    "/env/torch/distributed/launch.py:207: FutureWarning: The module torch.distributed.launch is deprecated\n"
    "[2025-11-03 10:14:58,112] torch.distributed.run: [WARNING] {'not': 'a record'} of the script\n"
    "*****************************************\n"
)
SCORES = dict.fromkeys(("d1", "d2", "d3"), 0.9)
SCORES |= dict.fromkeys(("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"), 0.1)
LOG = "20251103_101500.log"


def write_log(path: Path, **changes: Any) -> Path:
    """A log with the calls of the official script: the arguments first, then what happens."""
    path.write_text(BEFORE, encoding="utf-8")
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("[%(asctime)s][%(levelname)8s] %(message)s"))
    logger = logging.Logger("global", logging.INFO)
    logger.addHandler(handler)
    logger.info("{}\n".format(pprint.pformat(ARGUMENTS | changes)))  # noqa: UP032 - as it is there
    logger.info("===========> Epoch: %s/%s, d1: %.3f", 0, 120, 0)
    handler.close()
    return path


def vits(path: Path, encoder: str = "vits", **entries: Any) -> Path:
    torch.save({"model": tensors(table_for(encoder), "module."), "epoch": 3} | entries, path)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return vits(tmp_path / "latest.pth")


def known(path: Path) -> dict[str, Any]:
    return believed(inspect_file(path).facts)


def test_nothing_beside_it_nothing_known(file: Path) -> None:
    assert inspect_file(file).to_dict()["facts"] == {}


# The log of the official recipe


def test_a_log_of_the_official_script(file: Path) -> None:
    write_log(file.parent / LOG)
    found = inspect_file(file)
    assert found.to_dict()["facts"] == {
        "encoder": {"value": "vits", "from": LOG}, "depth": {"value": "metric", "from": LOG},
        "max_depth": {"value": 20.0, "from": LOG}, "min_depth": {"value": 0.001, "from": LOG},
        "dataset": {"value": "hypersim", "from": LOG}, "img_size": {"value": 518, "from": LOG},
        "pretrained_from": {"value": "../checkpoints/depth_anything_v2_vits.pth", "from": LOG},
    }  # fmt: skip
    assert f"max_depth: 20.0 ({LOG})" in str(found) and LOG in found._repr_html_()
    assert {"metric or relative", "max_depth"}.isdisjoint(diagnose(file).cannot_be_known)


@pytest.mark.parametrize("encoding", ["utf-8", "windows"])
def test_logs_as_other_machines_write_them(encoding: str, file: Path) -> None:
    log = write_log(file.parent / LOG, pretrained_from=None, save_path="/daten/Übung's")
    if encoding == "windows":
        log.write_bytes(log.read_text(encoding="utf-8").replace("\n", "\r\n").encode("latin-1"))
    assert known(file) == {"encoder": "vits", "depth": "metric", "max_depth": 20.0, "min_depth": 0.001,
                           "dataset": "hypersim", "img_size": 518}  # fmt: skip


def test_a_log_of_another_encoder_is_not_believed(file: Path) -> None:
    write_log(file.parent / LOG, encoder="vitl")
    assert inspect_file(file).facts == {}
    write_log(file.parent / LOG, encoder=None)
    assert inspect_file(file).facts == {}


def test_a_log_says_nothing_of_a_model_that_is_none_of_ours(tmp_path: Path) -> None:
    write_log(tmp_path / LOG)
    torch.save({"a.weight": torch.ones(2, 2)}, tmp_path / "other.pth")
    assert inspect_file(tmp_path / "other.pth").facts == {}


def test_several_logs_that_agree_are_one(file: Path) -> None:
    for name in ("20251103_101500.log", "20251104_090000.log"):
        write_log(file.parent / name)
    fact = inspect_file(file).facts["max_depth"]
    assert (fact.value, fact.source, fact.disagree) == (20.0, "20251104_090000.log, 20251103_101500.log", ())


def test_several_logs_that_disagree_are_shown_and_none_is_assumed(file: Path) -> None:
    write_log(file.parent / LOG)
    write_log(file.parent / "20251104_090000.log", max_depth=80.0)
    found = inspect_file(file)
    said = found.to_dict()["facts"]["max_depth"]
    assert said["value"] is None and LOG in said["from"]
    assert [(one["value"], one["from"]) for one in said["disagree"]] == [(80.0, "20251104_090000.log"), (20.0, LOG)]
    assert "80.0 (20251104_090000.log), 20.0 (20251103_101500.log)" in str(found) and "disagree" in str(found)
    assert known(file)["depth"] == "metric" and "max_depth" not in known(file)


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), True, "20", None, 10**400, [20.0]])
def test_a_range_that_is_none_is_left_out(value: Any, file: Path) -> None:
    write_log(file.parent / LOG, max_depth=value)
    assert {"max_depth", "depth"}.isdisjoint(known(file))


@pytest.mark.parametrize("name", ["train.log", "20251103_101500.log.gz", "20251103.log", "x20251103_101500.log"])
def test_other_names_are_not_opened(name: str, file: Path) -> None:
    write_log(file.parent / name)
    assert inspect_file(file).facts == {}


HOSTILE = {
    "code": "{'encoder': 'vits', 'max_depth': __import__('pathlib').Path('ran').write_text('') or 20.0}",
    "a call": "{'encoder': 'vits', 'max_depth': float('20')}",
    "no dictionary": "{'vits', 20.0}",
    "brackets": "{'encoder': 'vits', 'max_depth': " + "[" * 9_000 + "]" * 900 + "}",
    "signs": "{'encoder': 'vits', 'max_depth': " + "-" * 9_000 + "20.0}",
    "sums": "{'encoder': 'vits', 'max_depth': " + "1+" * 4_000 + "20.0}",
    "a long number": "{'encoder': 'vits', 'max_depth': " + "9" * 9_000 + "}",
    "a long record": "{'encoder': 'vits', 'max_depth': 20.0, 'note': '" + "x" * 20_000 + "'}",
    "cut": "{'encoder': 'vits', 'max_depth': 20.0,",
    "empty": "",
    "null": "{'encoder': 'vits\0', 'max_depth': 20.0}",
    "an unhashable key": "{[]: 1, 'encoder': 'vits', 'max_depth': 20.0}",
    "an encoder that is not text": "{'encoder': ['vits'], 'max_depth': 20.0}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_logs_say_nothing(name: str, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    record = f"[2025-11-03 10:15:00,001][    INFO] {HOSTILE[name]}\n\n"
    (file.parent / LOG).write_text(record, encoding="utf-8")
    start = time.perf_counter()
    assert "max_depth" not in known(file) and time.perf_counter() - start < 2
    assert not Path("ran").exists()


def test_a_log_of_which_only_the_beginning_is_read(file: Path) -> None:
    log = write_log(file.parent / LOG)
    os.truncate(log, 2**28)  # of nothing, which takes no room on the disk
    assert known(file)["max_depth"] == 20.0
    tracemalloc.start()
    read_arguments(log)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * room.MOST_OF_A_LOG
    log.write_text("x" * room.MOST_OF_A_LOG + "\n" + write_log(log).read_text(encoding="utf-8"), encoding="utf-8")
    assert known(file) == {}, "so late it is not the first record"


def test_a_log_of_nothing_but_beginnings_takes_no_time(file: Path) -> None:
    for line in ("[a][b] {\n", "[a][b] {'\n", "[" * 50 + "\n", "[a][b]\n", "{}\n"):
        (file.parent / LOG).write_text(line * (room.MOST_OF_A_LOG // len(line)), encoding="utf-8")
        start = time.perf_counter()
        assert read_arguments(file.parent / LOG) == {} and time.perf_counter() - start < 1


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a pipe has a name on POSIX alone")
def test_pipes_devices_and_folders_are_not_waited_for(file: Path) -> None:
    for number, name in enumerate(("latest.pth.json", "config.json", LOG)):
        os.mkfifo(file.parent / name)
        (file.parent / f"2025110{number}_000000.log").symlink_to("/dev/zero")
    (file.parent / "20251105_101500.log").mkdir()
    assert inspect_file(file).facts == {}


def test_more_logs_than_anybody_has(file: Path) -> None:
    for number in range(200):
        write_log(file.parent / f"20251103_{number:06}.log", max_depth=80.0 if number < 100 else 20.0)
    assert known(file)["max_depth"] == 20.0, "the newest count"


# What is in the file


def test_scores_of_the_metric_script(tmp_path: Path) -> None:
    file = vits(tmp_path / "latest.pth", previous_best=SCORES)
    assert inspect_file(file).to_dict()["facts"] == {"depth": {"value": "metric", "from": "previous_best"}}
    vits(file, previous_best={name: SCORES[name] for name in ("d1", "abs_rel", "rmse")})
    assert inspect_file(file).facts == {}


RATES = [([1e-6, 1e-5], True), ([1e-6], False), ([1e-6] * 2, False), ([0.0] * 2, False), ([1e-6, 1e-5, 1e-5], False)]


@pytest.mark.parametrize(("rates", "told"), RATES)
def test_two_groups_of_one_to_ten(rates: list[float], told: bool, tmp_path: Path) -> None:
    """As the script sets them, with the schedule that it has in its loop."""
    groups = [{"params": [torch.nn.Parameter(torch.ones(1))], "lr": rate} for rate in rates]
    optimizer = torch.optim.AdamW(groups, lr=5e-6)
    if told:
        lr = 5e-6 * (1 - 1234 / 9999) ** 0.9
        optimizer.param_groups[0]["lr"], optimizer.param_groups[1]["lr"] = lr, lr * 10.0
    file = vits(tmp_path / "latest.pth", optimizer=optimizer.state_dict())
    expected = {"depth": {"value": "metric", "from": "optimizer"}} if told else {}
    assert inspect_file(file).to_dict()["facts"] == expected


@pytest.mark.parametrize("strange", [[], {}, 3, None, "text", {"param_groups": 3}, {"param_groups": [1, 2]},
                                     {"param_groups": [{"lr": "1"}, {"lr": None}]}])  # fmt: skip
def test_entries_of_another_kind_say_nothing(strange: Any, tmp_path: Path) -> None:
    assert inspect_file(vits(tmp_path / "latest.pth", optimizer=strange, previous_best=strange)).facts == {}


# config.json and names


def hugging_face(**changes: Any) -> dict[str, Any]:
    """As transformers 5.24 writes it for DepthAnythingConfig, without what does not matter here."""
    inner = {"hidden_size": 384, "model_type": "dinov2", "num_hidden_layers": 12}
    written = {"backbone_config": inner, "max_depth": 20, "depth_estimation_type": "metric"}
    return written | {"model_type": "depth_anything", "reassemble_hidden_size": 384} | changes


def depth_estimation(**changes: Any) -> dict[str, Any]:
    """As depth-estimation 0.1.3 writes it."""
    return {"backbone": "vits", "input_size": 518, "embed_dim": 384, "num_layers": 12, "is_metric": True,
            "max_depth": 80.0, "min_depth": None, "model_type": "depth-anything-v2"} | changes  # fmt: skip


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (hugging_face(), {"depth": "metric", "max_depth": 20.0}),
        (hugging_face(depth_estimation_type="relative", max_depth=1), {"depth": "relative"}),
        (
            {name: value for name, value in hugging_face().items() if name != "depth_estimation_type"},
            {"depth": "relative"},
        ),
        (hugging_face(backbone_config={"hidden_size": 1024}), {}),
        (hugging_face(reassemble_hidden_size=768), {}),
        (hugging_face(model_type="zoedepth"), {}),
        (hugging_face(depth_estimation_type=["metric"]), {}),
        (hugging_face(max_depth="20"), {"depth": "metric"}),
        (depth_estimation(), {"depth": "metric", "max_depth": 80.0}),
        (depth_estimation(is_metric=False, max_depth=None), {"depth": "relative"}),
        (depth_estimation(backbone="vitl"), {}),
        (depth_estimation(embed_dim=1024), {}),
        (depth_estimation(is_metric="yes"), {}),
        ({}, {}),
        ([1, 2], {}),
        ("metric", {}),
    ],
)
@pytest.mark.parametrize("names", ["official", "transformers"])
def test_a_config_beside_it(names: str, content: Any, told: dict[str, Any], tmp_path: Path) -> None:
    of = table_for("vits") if names == "official" else table("hf_depth_anything_small")
    torch.save(tensors(of), tmp_path / "model.pt")
    (tmp_path / "config.json").write_text(json.dumps(content), encoding="utf-8")
    if names == "transformers" and isinstance(content, dict) and "is_metric" in content:
        return  # that package has no such names
    assert known(tmp_path / "model.pt") == told
    assert all(fact.source == "config.json" for fact in inspect_file(tmp_path / "model.pt").facts.values())


def test_a_config_of_megabytes_is_not_read(file: Path) -> None:
    (file.parent / "config.json").write_text(json.dumps(depth_estimation(more="x" * room.MOST_FACTS)), encoding="utf-8")
    assert inspect_file(file).facts == {}


@pytest.mark.parametrize("text", ["", "{", "[" * 10**5, '{"is_metric": NaN}', "\ud800", "x" * 2**21])
def test_a_config_that_is_none(text: str, file: Path) -> None:
    (file.parent / "config.json").write_bytes(text.encode("utf-8", "surrogatepass"))
    assert inspect_file(file).facts == {}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("depth_anything_v2_metric_hypersim_vits.pth", {"depth": "metric", "max_depth": 20.0}),
        ("depth_anything_v2_metric_vkitti_vits.fixed.pth", {"depth": "metric", "max_depth": 80.0}),
        ("Depth_Anything_V2_Metric_VKITTI_ViTS.pth", {"depth": "metric", "max_depth": 80.0}),
        ("depth_anything_v2_metric_hypersim_vitl.pth", {}),
        ("depth_anything_v2_vits.pth", {"depth": "relative"}),
        ("depth_anything_v2_vitb.pth", {}),
        ("metric_hypersim.pth", {}),
        ("my_depth_anything_v2_vits_tuned.pth", {}),
    ],
)
def test_official_names(name: str, told: dict[str, Any], tmp_path: Path) -> None:
    assert known(vits(tmp_path / name)) == told


def test_a_name_says_nothing_of_another_network(tmp_path: Path) -> None:
    for name in ("x_metric_hypersim_vits.pth", "x_metric_hypersim_run.pth"):
        torch.save({"a.weight": torch.ones(1)}, tmp_path / name)
        assert inspect_file(tmp_path / name).facts == {}


def test_a_relative_file_among_logs_of_a_metric_training(tmp_path: Path) -> None:
    write_log(tmp_path / LOG)
    found = known(vits(tmp_path / "depth_anything_v2_vits.pth"))
    assert {"depth", "max_depth"}.isdisjoint(found), "two sources disagree, so there is no range either"


# What this package wrote


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_what_was_saved_with_the_weights(kind: str, tmp_path: Path) -> None:
    file = save_weights(DepthAnythingV2("tiny", max_depth=12.5), tmp_path / f"a.{kind}", run="seven")
    found = inspect_file(file).facts
    source = "header" if kind == "safetensors" else "a.pth.json"
    assert {name: found[name].value for name in ("encoder", "depth", "max_depth", "run")} == {
        "encoder": "tiny", "depth": "metric", "max_depth": 12.5, "run": "seven"
    }  # fmt: skip
    assert {fact.source for fact in found.values()} == {source} and "fingerprint" not in found
    assert {"metric or relative", "max_depth"}.isdisjoint(diagnose(file).cannot_be_known)


def test_facts_of_another_file_are_not_taken(tmp_path: Path) -> None:
    file = save_weights(DepthAnythingV2("tiny", max_depth=12.5), tmp_path / "a.pth")
    torch.save(DepthAnythingV2("tiny").state_dict() | {"more": torch.ones(9999)}, file)
    assert inspect_file(file).facts == {}


def test_a_header_that_says_anything(tmp_path: Path) -> None:
    said = {"max_depth": "NaN", "depth": "metric", "steps": "[1", "x": "1e999", "deep": "[" * 9000}
    save_file({"a.weight": torch.ones(1)}, tmp_path / "a.safetensors", metadata=said)
    found = inspect_file(tmp_path / "a.safetensors")
    assert "max_depth" not in found.facts and found.facts["steps"].value == "[1"
    assert json.loads(json.dumps(found.to_dict()))["facts"]["depth"] == {"value": "metric", "from": "header"}


# Used


def test_the_log_is_the_default_and_goes_into_what_is_saved(tmp_path: Path) -> None:
    torch.save({"model": DepthAnythingV2("tiny").state_dict(), "epoch": 0}, tmp_path / "latest.pth")
    write_log(tmp_path / LOG, encoder="tiny", max_depth=35.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "these weights were never trained")
        assert load_model(tmp_path / "latest.pth").max_depth == 35.0
    with pytest.warns(UserWarning, match="max_depth 35"):
        assert load_model(tmp_path / "latest.pth", max_depth=7.0).max_depth == 7.0, "the caller overrules it"
    fix_file(tmp_path / "latest.pth", tmp_path / "elsewhere" / "a.pth")
    assert load_model(tmp_path / "elsewhere" / "a.pth").max_depth == 35.0, "without the log"


@pytest.mark.parametrize("kind", ["pth", "safetensors"])
def test_what_was_said_of_this_very_file_stands_above_its_folder(kind: str, tmp_path: Path) -> None:
    """`dav2 fix --max-depth 20` in a folder with the log of another run: the 20 was somebody's word, for this file."""
    torch.save({"model": DepthAnythingV2("tiny").state_dict(), "epoch": 0}, tmp_path / "latest.pth")
    write_log(tmp_path / LOG, encoder="tiny", max_depth=80.0)
    done = fix_file(tmp_path / "latest.pth", max_depth=20.0, format=kind)
    fact = inspect_file(str(done.target)).facts["max_depth"]
    own = "header" if kind == "safetensors" else "latest.fixed.pth.json"
    assert (fact.value, fact.source) == (20.0, own)
    assert [(other.value, other.source) for other in fact.disagree] == [(80.0, LOG)], "and it is shown"
    said = str(diagnose(str(done.target)))
    assert own in said and f"80.0 ({LOG})" in said and "{" not in said, "what fix did isn't listed as Python prints it"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "these weights were never trained")
        assert load_model(str(done.target)).max_depth == 20.0


def test_metric_weights_without_a_known_range_are_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "latest.pth"
    torch.save({"model": DepthAnythingV2("tiny").state_dict(), "previous_best": SCORES}, path)
    with pytest.warns(UserWarning, match=r"metric weights \(previous_best\).*--max-depth"):
        assert load_model(path).max_depth is None
    assert "--max-depth" in str(fix_file(path, dry_run=False).reason)
    for number, most in enumerate((20.0, 80.0)):
        write_log(tmp_path / f"2025110{number}_101500.log", encoder="tiny", max_depth=most)
    with pytest.warns(UserWarning, match=r"80\.0 m: 20251101_101500\.log, 20\.0 m: 20251100_101500\.log"):
        load_model(path)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", "these weights were never trained")
        assert load_model(path, max_depth=20.0).max_depth == 20.0, "who says it is not asked"


def test_a_diagnosis_says_what_is_known_and_from_where(file: Path) -> None:
    write_log(file.parent / LOG)
    found = diagnose(file)
    assert found.to_dict()["facts"]["max_depth"] == {"value": 20.0, "from": LOG}
    assert f"max_depth: 20.0 ({LOG})" in str(found) and LOG in found._repr_html_()
