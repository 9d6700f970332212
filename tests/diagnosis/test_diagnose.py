"""Two tables in, causes and steps out: every cause of one file at once, and never a step that is a guess."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dav2_utils.diagnosis.causes import CAUSES
from dav2_utils.diagnosis.diagnose import diagnose, table_of
from dav2_utils.encoders import table_for
from dav2_utils.errors import CheckpointError
from dav2_utils.files.checkpoint import inspect_file
from dav2_utils.keys import Table, TensorInfo
from dav2_utils.repair.fixing import fix_file
from dav2_utils.wrappers import WRAPPERS

VITS, VITL = table_for("vits"), table_for("vitl")
ONE = TensorInfo((1,))


def under(prefix: str, table: Table) -> Table:
    return {prefix + name: info for name, info in table.items()}


def encoder_of(table: Table, prefix: str = "pretrained.") -> Table:
    return {prefix + name[11:]: info for name, info in table.items() if name.startswith("pretrained.")}


def transformers(table: Table) -> Table:
    """The encoder's blocks with the names that the library transformers gives them (q, k and v apart)."""
    found: Table = {"backbone.embeddings.patch_embeddings.projection.weight": TensorInfo((384, 3, 14, 14))}
    for i in range(12):
        for part in ("query", "key", "value"):
            found[f"backbone.encoder.layer.{i}.attention.attention.{part}.weight"] = TensorInfo((384, 384))
    return found | {"neck.fusion_stage.layers.0.projection.weight": TensorInfo((64, 64, 1, 1))}


BN = {"a.weight": ONE, "a.num_batches_tracked": TensorInfo((), "int64")}

# source, target, verdict, causes, what the steps do
CASES: dict[str, tuple[Any, Any, str, list[str], list[str]]] = {
    "clean": (VITS, None, "loads", [], []),
    "training file": ({"model": under("module.", VITL), "epoch": 1}, None, "repairable",
                      ["training_container", "wrapper_prefix"], ["unwrap", "strip"]),
    "two wrappers": (under("module._orig_mod.", VITS), "vits", "repairable", ["wrapper_prefix"], ["strip", "strip"]),
    "lightning": ({"state_dict": under("model._orig_mod.", VITS) | {"loss.weight": ONE}}, None, "repairable",
                  ["training_container", "wrapper_prefix", "outer_module_prefix"],
                  ["unwrap", "strip", "strip", "drop"]),
    "averaged model": ({"n_averaged": TensorInfo((), "int64")} | under("module.", VITS), None, "repairable",
                       ["wrapper_prefix", "bookkeeping_buffers"], ["strip", "drop"]),
    "wrapped model": (VITS, under("module.", VITS), "repairable", ["model_is_wrapped"], ["add"]),
    "part of a model": (VITS, under("core.core.", VITS), "repairable", ["missing_outer_prefix"], ["add"]),
    "part of more": (VITS, under("core.", VITS) | {"bins.w": ONE}, "not repairable", ["missing_outer_prefix"], []),
    "wrong encoder": (under("module.", VITS), "vitl", "not repairable", ["wrapper_prefix", "wrong_encoder"], ["strip"]),
    "wrong encoder, larger": (VITL, VITS, "not repairable", ["wrong_encoder"], []),
    "DINOv2": (encoder_of(VITL, ""), "vitl", "not repairable", ["missing_outer_prefix"], []),
    "encoder alone": (encoder_of(VITL), None, "not repairable", ["backbone_only"], []),
    "head alone": ({n: i for n, i in VITS.items() if n.startswith("depth_head")}, None, "not repairable",
                   ["different_model"], []),
    "transformers": (under("module.", transformers(VITS)), None, "not repairable",
                     ["wrapper_prefix", "other_naming"], ["strip"]),
    "transformers, bare": (transformers(VITS), None, "not repairable", ["other_naming"], []),
    "another size": (VITS | {"pretrained.pos_embed": TensorInfo((1, 1025, 384))}, None, "not repairable",
                     ["input_geometry"], []),
    "another head": (VITS | {f"depth_head.scratch.layer{i}_rn.weight": TensorInfo((99, 9, 3, 3)) for i in range(1, 5)},
                     None, "not repairable", ["different_model"], []),
    "one head more": (VITS | {"cls.weight": ONE}, None, "not repairable", ["extra_head"], []),
    "another model": ({f"layer{i}.weight": ONE for i in range(9)}, "vits", "not repairable", ["different_model"], []),
    "teacher and student": (under("student.", VITS) | under("teacher.", VITS), "vits", "not repairable",
                            ["training_container"], []),
    "EMA as an attribute": (under("module.", VITS | under("ema.", VITS)), None, "not repairable",
                            ["wrapper_prefix", "ema_copy"], ["strip"]),
    "two of a name": ({"w": ONE, "module.w": ONE}, {"w": ONE}, "not repairable", ["duplicate_names"], []),
    "flat shards": ({"_fsdp_wrapped_module._flat_param": TensorInfo((99,))}, "vits", "not repairable",
                    ["flat_parameters", "wrapper_prefix"], ["strip"]),
    "flat shards, no target": ({"_fsdp_wrapped_module._flat_param": TensorInfo((99,))}, None, "not repairable",
                               ["wrapper_prefix", "flat_parameters"], ["strip"]),
    "slices of FSDP": (under("_fsdp_wrapped_module.", {n: TensorInfo((i.elements // 2,)) for n, i in VITS.items()}),
                       None, "not repairable", ["wrapper_prefix", "sharded_model"], ["strip"]),
    "slices of FSDP2": ({n: TensorInfo((-(-i.shape[0] // 2), *i.shape[1:])) for n, i in VITS.items()}, "vits",
                        "not repairable", ["sharded_model"], []),
    "video transformer": ({"cls_token": TensorInfo((1, 1, 8)), "patch_embed.proj.weight": TensorInfo((8, 3, 2, 4, 4))},
                          None, "no target", [], []),
    "DINOv2, no target": (under("module.", encoder_of(VITL, "")), None, "wrapped",
                          ["wrapper_prefix", "backbone_only"], ["strip"]),
    "DINOv2 of a training": ({"teacher": encoder_of(VITS, "backbone.") | {"dino_head.last_layer.weight": ONE}}, None,
                             "wrapped", ["training_container", "backbone_only"], ["unwrap"]),
    "parts renamed, no target": (encoder_of(VITS, "body.") | {n: i for n, i in under("x", VITS).items() if "head" in n},
                                 None, "no target", [], []),
    "LoRA, no target": ({"base_model.model.a.lora_A.weight": ONE}, None, "no target", ["adapter_weights"], []),
    "quantised": ({f"a.{part}": ONE for part in ("scale", "zero_point", "_packed_params.dtype")},
                  {"a.weight": ONE, "a.bias": ONE}, "not repairable", ["quantized"], []),
    "quantised, by a layer's scale": ({"a.scale": ONE}, {"a.weight": ONE}, "not repairable", ["quantized"], []),
    "a scale of its own": ({"b.scale": ONE}, {"a.weight": ONE}, "not repairable", ["different_model"], []),
    "counters too many": (BN, {"a.weight": ONE}, "repairable", ["bookkeeping_buffers"], ["drop"]),
    "counters too few": ({"a.weight": ONE}, BN, "not repairable", ["bookkeeping_buffers"], []),
    "LoRA": ({"base_model.model.a.lora_A.weight": ONE}, "vits", "not repairable", ["adapter_weights"], []),
    "wrapped": (under("module.", {"a.w": ONE}), None, "wrapped", ["wrapper_prefix"], ["strip"]),
    "no target, no prefix": ({"a.w": ONE}, None, "no target", [], []),
    "no target, collision": ({"a.w": ONE, "a.module.w": ONE}, None, "not repairable", ["duplicate_names"], []),
    "the model's own component": ({"l.module.w": ONE}, {"l.module.w": ONE}, "loads", [], []),
    "built with options": (table_for("vits", use_bn=True, use_clstoken=True), None, "loads", [], []),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_causes_and_steps(case: str) -> None:
    source, target, verdict, causes, steps = CASES[case]
    found = diagnose(source, target)
    assert found.verdict == verdict, str(found)
    assert (found.loads, found.repairable) == (verdict == "loads", verdict == "repairable")
    assert [one.cause for one in found.causes] == causes
    assert [step.do for step in found.steps] == steps
    assert all(one.evidence and one.remedy for one in found.causes)
    complete = found.expected == found.matched and not found.unexpected
    if found.repairable:
        assert len(found.rename) == found.matched, "every name of the target, once, and nothing besides"
    assert (verdict in ("loads", "repairable")) == (complete and bool(found.expected))
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["verdict"] == verdict
    assert len(str(found).splitlines()) <= 30 and max(map(len, str(found).splitlines())) < 700
    assert "<script" not in found._repr_html_() and "✓⚠✗?".find(str(found)[0]) >= 0


def test_one_set_of_two_in_one_dictionary() -> None:
    both = under("module.student.", VITS) | under("module.teacher.", VITS)
    assert "--select student" in str(diagnose(both)) and "--select teacher" in str(diagnose(both))
    found = diagnose(both, select="teacher")
    assert found.repairable and found.rename == {f"module.teacher.{name}": name for name in VITS}
    with pytest.raises(CheckpointError, match="no one set called 'teach'"):
        diagnose(both, select="teach")
    assert CheckpointError("What was found").kind == "checkpoint", "the word for programs where there is no closer one"


def test_a_part_says_so_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "model-00002-of-00015.pth"
    torch.save({name: torch.zeros(info.shape) for name, info in list(table_for("tiny").items())[:20]}, path)
    found = diagnose(path, "tiny")
    assert [one.cause for one in found.causes] == ["sharded_model"] and "part 2 of 15" in found.causes[0].evidence


def test_a_target_has_its_own_names_and_its_own_advice() -> None:
    whole = transformers(VITS)
    part = {name.removeprefix("backbone."): info for name, info in whole.items() if name.startswith("backbone.")}
    found = diagnose(part, whole)  # no word of qkv: both sides have transformers' names
    assert [one.cause for one in found.causes] == ["missing_outer_prefix"] and found.causes[0].detail == "backbone"
    with pytest.raises(CheckpointError, match=r"The target: .*Take the set that is meant out first"):
        diagnose(VITS, {"model": VITS, "ema": VITS})


def test_averaged_or_raw_is_advised() -> None:
    for sets, advised in (({"model": VITS, "model_ema": VITS}, True), ({"a": VITS, "cinema": VITS}, False)):
        with pytest.raises(CheckpointError) as stop:
            diagnose(sets)
        assert ("usually the one to use" in str(stop.value)) is advised


def test_evidence_has_counts() -> None:
    found = diagnose({"model": under("module.", VITL), "optimizer": {}, "epoch": 1})
    container, prefix = found.causes
    assert "'model'" in container.evidence and "optimizer, epoch" in container.evidence
    assert "407 of 407" in prefix.evidence and prefix.detail == "DataParallel or DistributedDataParallel"
    assert [step.to_dict() for step in found.steps] == [
        {"do": "unwrap", "path": ["model"]},
        {"do": "strip", "token": "module", "keys": 407},
    ]
    assert (found.expected, found.matched, found.encoder) == (407, 407, "vitl")
    assert found.cannot_be_known == ["metric or relative", "max_depth", "V1 or V2"]


def test_the_json_of_a_diagnosis() -> None:
    file = {"state": {"model": {"module.net.a.w": ONE, "module.net.b.w": TensorInfo((2, 3)), "module.loss.w": ONE}}}
    found = diagnose(file, {"a.w": ONE, "b.w": TensorInfo((2, 3))}).to_dict()
    assert [one.pop("cause") for one in found["causes"]] == [
        "training_container", "wrapper_prefix", "outer_module_prefix"]  # fmt: skip
    assert found["causes"][1] == {
        "detail": "DataParallel or DistributedDataParallel",
        "evidence": "'module.' in 3 of 3 names",
        "remedy": CAUSES["wrapper_prefix"].remedy,
        "repairable_by_renaming": True,
    }
    assert {**found, "causes": []} == {
        "file": None, "format": "memory", "verdict": "repairable", "encoder": None, "target": "dict", "causes": [],
        "steps": [
            {"do": "unwrap", "path": ["state", "model"]},
            {"do": "strip", "token": "module", "keys": 3},
            {"do": "strip", "token": "net", "keys": 2},
            {"do": "drop", "names": ["loss.w"], "keys": 1},
        ],
        "expected": 2, "matched": 2, "missing": [], "unexpected": [], "size_mismatch": [], "cannot_be_known": [],
        "family": [], "variant": "", "contains": None, "facts": {},
    }  # fmt: skip
    wrong = diagnose({"a.w": ONE, "c.w": ONE}, {"a.w": TensorInfo((2,)), "b.w": ONE}).to_dict()
    assert (wrong["missing"], wrong["unexpected"], wrong["expected"], wrong["matched"]) == (["b.w"], ["c.w"], 2, 0)
    assert wrong["size_mismatch"] == [{"name": "a.w", "file": [1], "model": [2]}]
    assert diagnose({"a": ONE}, {"module.a": ONE}).to_dict()["steps"] == [{"do": "add", "token": "module", "keys": 1}]


def test_a_wrong_encoder_is_one_line_and_not_236() -> None:
    found = diagnose(VITS, "vitl")
    assert "this is a vits file, your model is vitl" in str(found)
    assert len(found.size_mismatch) == 236 and len(found.missing) == 168 and len(str(found)) < 2500
    assert found.size_mismatch[0] == {"name": "pretrained.cls_token", "file": [1, 1, 384], "model": [1, 1, 1024]}


def test_nothing_is_said_of_depth_where_it_does_not_matter() -> None:
    assert diagnose({"a.w": ONE}, {"a.w": ONE}).cannot_be_known == []


@pytest.fixture
def net() -> torch.nn.Module:
    return torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.BatchNorm1d(3))


def test_sources_and_targets_of_every_kind(net: torch.nn.Module, tmp_path: Path) -> None:
    path, other = tmp_path / "a.pth", tmp_path / "b.pth"
    torch.save({"model": torch.nn.DataParallel(net).state_dict()}, path)
    torch.save(net.state_dict(), other)
    sources = [path, str(path), inspect_file(path), torch.load(path, weights_only=True), torch.nn.DataParallel(net)]
    for source in sources:
        for target in (net, other, str(other), net.state_dict(), table_of(other)):
            found = diagnose(source, target)
            assert found.verdict == "repairable" and found.matched == 7
            assert diagnose(target, target).verdict == "loads"
    assert table_of("tiny") == table_for("tiny")
    assert table_of(net)["1.num_batches_tracked"] == TensorInfo((), "int64")
    odd = {"kind": argparse.Namespace(dtype="float32"), "size": argparse.Namespace(shape=(1,))}
    assert list(table_of({"a.w": torch.ones(1), **odd})) == ["a.w"]
    for nothing in ({}, {"epoch": 1}, 3):
        with pytest.raises(CheckpointError):
            table_of(nothing)
    with pytest.raises(CheckpointError, match="vits"):
        diagnose(path, "vitx")
    with pytest.raises(CheckpointError) as error:
        diagnose(tmp_path / "nowhere.pth")
    assert error.value.kind == "usage"


def test_several_sets_are_never_chosen_in_silence() -> None:
    both = {"model": under("module.", VITS), "ema": VITS}
    with pytest.raises(CheckpointError) as error:
        diagnose(both)
    assert error.value.kind == "several sets" and "ema" in str(error.value)
    assert diagnose(both, select="ema").steps[0].path == ("ema",)


def test_code_in_the_file_is_the_first_thing_that_one_meets(net: torch.nn.Module, tmp_path: Path) -> None:
    wrapped = torch.nn.DataParallel(net)
    torch.save({"model": wrapped.state_dict(), "args": argparse.Namespace(lr=1)}, tmp_path / "args.pth")
    torch.save(net, tmp_path / "whole.pth")
    found = diagnose(tmp_path / "args.pth", net)
    assert [one.cause for one in found.causes] == ["refused_pickle", "training_container", "wrapper_prefix"]
    assert "argparse.Namespace" in found.causes[0].evidence and found.verdict == "repairable"
    torch.save({"args": argparse.Namespace(), "a": net.state_dict()}, tmp_path / "old.pth",
               _use_new_zipfile_serialization=False)  # fmt: skip
    assert diagnose(tmp_path / "old.pth", net).verdict == "not repairable", "nothing but torch reads the old format"
    found = diagnose(tmp_path / "whole.pth", net)
    assert [one.cause for one in found.causes] == ["whole_model"] and found.verdict == "repairable"


@pytest.mark.parametrize(("content", "cause"), [
    (b"", "empty_file"), (b"<!DOCTYPE html><html>", "not_a_checkpoint"), (b"PK\3\4" + bytes(99), "truncated_file"),
    (b"hello" * 9, "not_a_checkpoint"),
])  # fmt: skip
def test_unreadable(content: bytes, cause: str, tmp_path: Path) -> None:
    path = tmp_path / "x.pth"
    path.write_bytes(content)
    found = diagnose(path)
    assert found.verdict == "unreadable" and [one.cause for one in found.causes] == [cause] and cause in CAUSES
    assert found.to_dict()["format"] and found.causes[0].remedy


def test_no_weights_in_a_file_that_can_be_read(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "epoch.pth")
    assert diagnose(tmp_path / "epoch.pth").verdict == "unreadable"


def test_everything_from_the_file_is_escaped() -> None:
    evil = {"<script>alert(1)</script>.w": ONE, "module.\x1b[31mred": ONE, "a\nb.c": ONE}
    found = diagnose(evil, "vits")
    assert "<script" not in found._repr_html_() and "\x1b" not in str(found) + found._repr_html_()
    assert "&lt;script" in found._repr_html_()


def test_a_command_in_the_words_is_code_on_a_page() -> None:
    found = diagnose({f"module.{name}": info for name, info in table_for("tiny").items()}, "tiny")
    assert "`dav2 fix` will fix it" in str(found) and "<code>dav2 fix</code> will fix it" in found._repr_html_()


def test_a_large_foreign_table_takes_no_time() -> None:
    names = {f"module.m{i}.module.w": ONE for i in range(10_000)}
    assert diagnose(names, {f"m{i}.w": ONE for i in range(10_000)}).verdict == "repairable"
    assert diagnose(names, "vits").verdict == "not repairable"


def test_the_order_of_wrappers_is_that_of_the_name() -> None:
    names = {f"_orig_mod.module.{name}": info for name, info in table_for("tiny").items()}
    [cause] = diagnose(names, "tiny").causes
    assert cause.detail == "torch.compile, around DataParallel or DistributedDataParallel"


def test_the_same_wrappers_in_another_order_do_not_load_as_they_are(tmp_path: Path) -> None:
    """compile(DDP(m)) and DDP(compile(m)): the same components, and torch refuses."""
    ddp_outside, compile_outside = (under(prefix, VITS) for prefix in ("module._orig_mod.", "_orig_mod.module."))
    found = diagnose(ddp_outside, compile_outside)
    assert found.verdict == "repairable" and list(found.rename.values()) == list(compile_outside)
    assert {(step.do, step.token) for step in found.steps} == {
        (do, token) for do in ("strip", "add") for token in ("module", "_orig_mod")
    }
    assert diagnose({new: ddp_outside[old] for old, new in found.rename.items()}, compile_outside).loads
    file, model = tmp_path / "a.pth", tmp_path / "model.pth"
    torch.save({f"module._orig_mod.l.{last}": torch.ones(1) for last in ("w", "b")}, file)
    torch.save({f"_orig_mod.module.l.{last}": torch.zeros(1) for last in ("b", "w")}, model)
    fixed = torch.load(str(fix_file(file, against=model).target), weights_only=True)
    assert set(fixed) == set(torch.load(model, weights_only=True)) and all(tensor == 1 for tensor in fixed.values())


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([*WRAPPERS, "a", "b", "0"]), min_size=1, max_size=5).map(".".join), min_size=1,
             max_size=6, unique=True),
    st.none() | st.randoms(use_true_random=False),
)  # fmt: skip
def test_what_a_diagnosis_makes_is_clean_and_only_that_is_called_clean(names: list[str], order: Any) -> None:
    """Mixtures of wrappers: a second time there is nothing to do, and "loads" means the target's own names."""
    target = None
    if order is not None:
        target = {}
        for name in names:
            path = name.split(".")[:-1]
            order.shuffle(path)
            target[".".join([*path, name.split(".")[-1]])] = ONE
    found = diagnose(dict.fromkeys(names, ONE), target)
    if found.verdict in ("repairable", "loads"):
        assert set(found.rename.values()) == set(target or ()) and found.loads == (set(names) == set(target or ()))
    if any(cause.cause == "duplicate_names" for cause in found.causes):
        return  # refused
    again = diagnose(dict.fromkeys(found.rename.values(), ONE), target)
    assert not again.steps and all(old == new for old, new in again.rename.items())
    assert again.causes == [] or target is not None


def test_what_torch_loaded_is_looked_through_as_the_file_is(latest: Path, tmp_path: Path) -> None:
    """An optimizer's state holds tensors too: in memory it was taken for a second set of weights."""
    loaded = torch.load(latest, map_location="cpu", weights_only=True)
    from_file, in_memory = diagnose(latest), diagnose(loaded)
    assert (in_memory.verdict, in_memory.path, in_memory.rename) == (
        from_file.verdict, from_file.path, from_file.rename) and in_memory.verdict == "repairable"  # fmt: skip
    nested: dict[str, Any] = {"epoch": 1}
    nested["self"] = nested
    with pytest.raises(CheckpointError, match="no named tensors"):
        diagnose(nested)
    one = torch.nn.Module()
    one.register_buffer("seen", torch.zeros(3, dtype=torch.uint8))  # in a module whatever it holds is its own
    assert diagnose({"seen": TensorInfo((3,), "int64")}, one).matched == 1


@pytest.mark.parametrize("name", ["blocks.{0}.a.weight", "x.1.{0}.a.weight", "x.a.w{0}", "{0}"])
def test_numbers_longer_than_python_reads(name: str) -> None:
    """From 4,300 digits on, int() raises an error."""
    odd = {name.format("9" * 5000 + str(number)): torch.ones(2) for number in range(4)}
    plain = {f"blocks.{number}.a.weight": torch.ones(2) for number in range(4)}
    assert diagnose(odd, plain).causes and diagnose(plain, odd).causes
