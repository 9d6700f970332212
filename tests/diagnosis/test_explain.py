"""`explain` on errors that torch, safetensors and pickle really raised, as people paste them, and cut to pieces."""

from __future__ import annotations

import json
import time
from pathlib import Path
from textwrap import wrap

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from real_errors import ERRORS, text_of, traceback_of

from dav2_utils.diagnosis.causes import CAUSES
from dav2_utils.diagnosis.explain import explain

CASES = json.loads((Path(__file__).parents[1] / "data" / "failures.json").read_text(encoding="utf-8"))
WORDLESS = ("EOFError\n", "OSError: [Errno 22] Invalid argument\n")  # without their traceback they could be anything
TEXTS = [case["error_text"] for case in CASES]


@pytest.mark.parametrize("title", ERRORS)
def test_a_real_error_is_named_first(title: str) -> None:
    assert [found.cause for found in explain(traceback_of(title)).causes][:1] == [ERRORS[title][0]]
    last = [found.cause for found in explain(text_of(title)).causes][:1]
    assert last == [ERRORS[title][0]] or (not last and text_of(title) in WORDLESS)


@pytest.mark.parametrize("title", ERRORS)
def test_as_people_paste_it(title: str) -> None:
    text = text_of(title)
    narrow = "\n".join(piece for line in text.splitlines() for piece in wrap(line, 80, break_on_hyphens=False) or [""])
    in_json = json.dumps({"msg": text})  # as in a log
    ways = [narrow, in_json, text.replace("\n", "\r\n"), f"\x1b[0;31m{text}\x1b[0m", f"```\n{text}\n```"]
    for pasted in ways:
        first = [found.cause for found in explain(pasted).causes][:1]
        assert first == [ERRORS[title][0]] or (not first and text in WORDLESS), pasted


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (  # of torch 2.14, where no process group and no torch.distributed.tensor is at hand
            "UnpicklingError: Weights only load failed. ``torch.distributed.tensor`` must be imported to load DTensors",
            "sharded_model",
        ),
        (
            "WeightsUnpickler error: Unsupported global: GLOBAL "
            "torch.distributed._shard.sharded_tensor.api.ShardedTensor was not an allowed global by default.",
            "sharded_model",
        ),
        ("IsADirectoryError: [Errno 21] Is a directory: 'checkpoint-500'", "not_a_checkpoint"),
    ],
)
def test_words_that_need_more_than_torch_to_raise(text: str, cause: str) -> None:
    assert [found.cause for found in explain(text).causes] == [cause]


def test_what_dav2_mends_is_said_to_be_mended_by_it() -> None:
    for title in ("arguments inside", "whole model"):
        assert "dav2 fix" in str(explain(text_of(title)))


PARTS = [f"{part}.{kind}" for part in ("stem", "body.0", "body.1", "head") for kind in ("weight", "bias")]
Shape = tuple[int, ...]


def lines_of(sizes: dict[str, tuple[Shape, Shape]]) -> str:
    return "".join(
        f"\tsize mismatch for {name}: copying a param with shape torch.Size({list(file)}) from checkpoint, "
        f"the shape in current model is torch.Size({list(model)}).\n"
        for name, (file, model) in sizes.items()
    )


SIZE = lines_of({"stem.odd": ((1,), (2,))})


def said(missing: list[str], unexpected: list[str], model: str = "Net") -> str:
    lists = (("Missing", missing), ("Unexpected", unexpected))
    lines = [f"\t{which} key(s) in state_dict: {', '.join(f'{chr(34)}{n}{chr(34)}' for n in names)}. \n"
             for which, names in lists if names]  # fmt: skip
    return f"Error(s) in loading state_dict for {model}:\n" + "".join(lines)


def front(prefix: str, names: list[str] = PARTS) -> list[str]:
    return [prefix + name for name in names]


MENDED_BY_RENAMING = {
    "module. in the file": (PARTS, front("module."), "wrapper_prefix"),
    "two wrappers in the file": (PARTS, front("module._orig_mod."), "wrapper_prefix"),
    "module. in the model": (front("module."), PARTS, "model_is_wrapped"),
    "_orig_mod. in the model": (front("_orig_mod."), PARTS, "model_is_wrapped"),
    "a larger model's file": (PARTS, front("net."), "outer_module_prefix"),
    "a larger model": (front("core.net."), PARTS, "missing_outer_prefix"),
    "blocks in chunks": (front("blocks.0.0."), front("blocks.0."), "other_naming"),
    "chunks in the file": (front("a.blocks.0."), front("a.blocks.0.0."), "other_naming"),
    "one part renamed": (front("a.fc."), front("a.lin."), "other_naming"),
}


@pytest.mark.parametrize("case", MENDED_BY_RENAMING)
def test_renaming_mends_only_what_a_whole_text_shows(case: str) -> None:
    missing, unexpected, cause = MENDED_BY_RENAMING[case]
    whole = said(missing, unexpected)
    strangers = front("other.", [f"layer{number}" for number in range(20)])
    for text, renamable in {
        whole: True,
        whole[:-3]: False,
        whole[whole.index("Missing") :]: True,  # both lists, so from their beginning
        whole + SIZE: False,
        said(missing, front("module." * case.startswith("module. in the file"), strangers) + unexpected): False,
    }.items():
        found = explain(text).causes[0]
        if renamable or text == whole[:-3]:
            assert found.cause == cause, (text, found)
        assert found.repairable_by_renaming is renamable, (text, found)


@pytest.mark.parametrize(
    ("missing", "unexpected", "model"),
    [
        (front("_orig_mod."), PARTS, "FullyShardedDataParallel"),  # slices may lie under these names
        (PARTS, front("module.", [*PARTS[:-2], "other.weight"]), "Net"),  # another part at the top
        (
            PARTS,
            front("module.", [*PARTS[:1], *front("body.", PARTS), "head.odd"]),
            "Net",
        ),  # the same, with others in it
    ],
)
def test_renaming_is_not_promised_where_the_lists_differ(missing: list[str], unexpected: list[str], model: str) -> None:
    found = explain(said(missing, unexpected, model)).causes
    assert found[0].cause in ("wrapper_prefix", "model_is_wrapped")
    assert not any(one.repairable_by_renaming for one in found)


def test_a_few_names_that_look_cut_are_no_damage() -> None:
    cut = [name[1:] for name in PARTS]
    assert explain(said(PARTS, cut)).causes[0].cause == "damaged_names"
    few = said(PARTS, [cut[0], *(f"layer{number}.w" for number in range(9))])
    assert explain(few).causes[0].cause == "different_model"


TWICE = {"0.fc.weight": ((512, 256), (256, 128)), "0.fc.bias": ((512,), (256,)), "1.w": ((256, 512), (128, 256))}
CLASSES = {"classifier.weight": ((80, 9), (81, 9)), "classifier.bias": ((80,), (81,))}


def joined(more: int, last: int = 5) -> dict[str, tuple[Shape, Shape]]:
    return {f"m.{n}.w": ((n, 96 + more, 3, 3), (n, 96, 3, 3)) for n in (9, last)}


@pytest.mark.parametrize(
    ("missing", "sizes", "cause", "word"),
    [
        ([], {"cls_token": ((1, 1, 384), (1, 1, 768))}, "wrong_encoder", "384"),
        ([], {"a.cls_token": ((1, 1, 384), (1, 1, 768))}, "wrong_encoder", "384"),
        ([], {"pos_embed": ((1, 197, 384), (1, 197, 768))}, "wrong_encoder", "384"),
        ([], {"a.pos_embed": ((1, 197, 384), (1, 577, 384))}, "input_geometry", "image size"),
        ([], {"pretrained.norm.weight": ((384,), (7,))}, "wrong_encoder", "the file is vits"),
        ([], {"pretrained.norm.weight": ((7,), (384,))}, "wrong_encoder", "the model is vits"),
        ([], {f"encoder.{name}": pair for name, pair in TWICE.items()}, "wrong_encoder", "512"),
        ([], {f"blocks.{name}": pair for name, pair in TWICE.items()}, "wrong_encoder", "512"),
        ([], {f"encoder.{n}": pair[::-1] for n, pair in TWICE.items()}, "wrong_encoder", "256"),
        ([], {f"zz.{name}": pair for name, pair in TWICE.items()}, "wrong_encoder", "512"),
        ([], {f"encoder.{n}": p for n, p in TWICE.items()} | {f"o{i}.w": ((3, 5), (7, 5)) for i in range(3)},
         "different_model", ""),
        ([], joined(1), "different_model", ""),
        ([], joined(64) | {"m.odd.w": ((3, 3), (3, 4))}, "different_model", ""),
        ([], CLASSES, "head_size", "classes"),
        ([], CLASSES | {"classifier.odd": ((80, 9), (81, 10))}, "head_size", "classes"),
        ([], {f"fc.{n}.w": ((80, n), (81, n)) for n in range(1, 14)}, "different_model", ""),
        ([], {"word_embeddings.weight": ((100, 9), (101, 9))}, "head_size", "tokens"),
        (["a.b.x", "a.b.y", *(f"{n}.q" for n in range(30))], CLASSES, "different_model", ""),
        # a place held is no width, in whichever of its forms
        ([], {"a.bias": ((1,), (96,)), "a.weight": ((1,), (96, 9)), "b.bias": ((1,), (384,))}, "sharded_model", "ZeRO"),
        ([], {"a.bias": ((0,), (96,)), "b.bias": ((0,), (96,))}, "sharded_model", "ZeRO"),
        # the reductions between stages alone: of another version, and of no other width
        ([], {f"l.{n}.down.{w}": ((n * a,), (n * b,)) for n in (1, 2) for w, a, b in (("norm", 8, 4), ("red", 6, 3))},
         "different_model", ""),
        ([], {f"l.1.{n}.weight": ((2 * w, w), (w, w // 2)) for n, w in (("a", 8), ("b", 6), ("c", 4))},
         "different_model", ""),
        ([], {f"l.0.{n}.weight": ((2 * w, w), (w, w // 2)) for n, w in (("a", 8), ("b", 6), ("c", 4))},
         "wrong_encoder", "width"),
        # two numbers that have nothing to do with each other; one number, four times in places
        ([], {"emb.weight": ((30, 64), (28, 64)), "post.fc.weight": ((257, 64), (129, 64))}, "different_model", ""),
        ([], {"cls.weight": ((91, 64), (6, 64)), "box.weight": ((364, 64), (24, 64))}, "head_size", "classes"),
        # widths in the middle of a network are no classes, and other kernels no other width
        ([], {"up1.conv.0.weight": ((256, 128, 4, 4), (128, 128, 4, 4))}, "different_model", ""),
        ([], {f"up.{n}.{m}.weight": ((64 * n, 8, 7, 7), (128 * n, 16, 3, 3)) for n in (1, 2) for m in "ab"},
         "different_model", ""),
        ([], {f"c.{n}.w": ((3, 3, 3, 16, n), (n, 3, 3, 3, 16)) for n in (24, 32)}, "different_model", "another order"),
    ],
)  # fmt: skip
def test_what_sizes_give_away(missing: list[str], sizes: dict[str, tuple[Shape, Shape]], cause: str, word: str) -> None:
    found = explain(said(missing, []) + lines_of(sizes)).causes[0]
    assert found.cause == cause and word in found.detail


def test_what_counts_is_said_after_what_was_learned() -> None:
    counts = [f"stem.{number}.total_ops" for number in range(6)]
    counted = explain(said([], [*counts, "stem.odd.weight", "stem.odd.norm1.weight"]))
    assert [found.cause for found in counted.causes] == ["different_model", "bookkeeping_buffers"]
    assert explain(said(["acc.correct", "acc.total"], [])).causes[0].cause == "bookkeeping_buffers"
    one = explain(said([], [*(f"stem.{number}.num_batches_tracked" for number in range(30)), "stem.odd.weight"]))
    assert "different_model" in [found.cause for found in one.causes], "one learned name in thirty is none the less one"


def test_learned_additions_to_layers_are_no_head_to_leave_out() -> None:
    causes = explain(said([], ["conv1.act.bias", "convs.0.act.bias", "convs.1.act.bias"])).causes
    assert "extra_head" not in [found.cause for found in causes]


def test_what_libraries_announce_is_harmless_unless_it_is_a_renaming() -> None:
    new = "Some weights of Net were not initialized from a/b and are newly initialized: ['enc.0.cross.q.weight']\n"
    unused = "Some weights of a/b were not used when initializing Net: ['head.next.weight', 'head.next.bias']\n"
    assert {found.cause for found in explain(unused + new).causes} == {"harmless"}
    again = unused.replace("'head.next.weight', 'head.next.bias'", "'x.norm.gamma', 'y.norm.gamma'") + new.replace(
        "'enc.0.cross.q.weight'", "'x.norm.weight', 'y.norm.weight'")  # fmt: skip
    assert explain(again).causes[0].cause == "other_naming"
    log = "unexpected key in source state_dict: fc.weight, fc.bias\n\nmissing keys in source state_dict: {}\n"
    assert explain(log.format("a.bn.num_batches_tracked")).causes[0].cause == "harmless"
    assert explain(log.format("a.bn.weight, b.bn.weight")).causes[0].cause != "harmless"
    other = log.replace("fc.weight, fc.bias", "pred_b, pred_w").format(", ".join(f"roi.{n}.weight" for n in range(9)))
    assert explain(other).causes[0].cause != "training_container", "two odd names of a network, and no entries"
    adapter = unused.replace("head.next.weight", "base_model.model.l.0.q.lora_A.default.weight")
    assert explain(adapter).causes[0].cause == "adapter_weights"


def test_a_batch_norm_is_no_weight_to_split() -> None:
    parted, plain = ["pos.0.weight_g", "pos.0.weight_v"], ["pos.0.weight"]
    assert explain(said(parted, plain)).causes[0].cause == "other_naming"
    norm = [*plain, "pos.0.running_mean", "pos.0.running_var", "pos.1.weight"]
    assert explain(said(parted, norm)).causes[0].cause == "different_model"


def test_only_a_refusal_is_a_refusal() -> None:
    error = "WeightsUnpickler error: {}"
    assert not explain(error.format("size is inconsistent with indices: for dim 0, size is 3 but found 10")).causes
    graph = error.format("Unsupported global: GLOBAL torch.fx.graph_module.reduce_graph_module was not an allowed")
    assert explain(graph).causes[0].cause == "whole_model", "that function builds code out of the file"


def test_one_name_of_a_teacher_makes_no_teacher() -> None:
    assert explain(said(PARTS, front("teacher."))).causes[0].cause == "outer_module_prefix"
    both = explain(said(PARTS, [*front("teacher."), *front("student.")]))
    assert both.causes[0].cause == "training_container"
    others = [f"layer{number}.odd" for number in range(9)]
    assert explain(said(PARTS, ["teacher.odd", *others])).causes[0].cause == "different_model"


def test_the_likeliest_of_several_entries_is_named() -> None:
    for boxes, box in ((["net", "state_dict"], "state_dict"), (["net", "model"], "model"), (["net", "params"], "net")):
        assert f"under '{box}'" in explain(said(PARTS, ["epoch", *boxes])).causes[0].detail


def test_other_numbers_are_no_other_names() -> None:
    lists = ([f"body.{number}.norm.w" for number in numbers] for numbers in ((4, 5, 6), (0, 1, 2)))
    assert explain(said(*lists)).causes[0].cause == "different_model"


def test_what_a_whole_text_does_not_name_agrees() -> None:
    """Nothing is unexpected, so the file's names carry module. as well, and these two are an option of the model."""
    text = said(front("module.aux.", ["weight", "bias"]), [], "DataParallel")
    assert not any("wrapp" in one.cause or one.repairable_by_renaming for one in explain(text).causes)
    part = text[text.index("Missing") :].replace("module.aux", "module.a.aux").replace('"module.a.aux.bias"', ", ".join(
        f'"module.{name}"' for name in PARTS))  # fmt: skip
    assert explain(part).causes[0].cause == "model_is_wrapped", "the list alone says nothing of the file"


def test_names_from_fsdp_alone_promise_nothing() -> None:
    wrapped = {f"_fsdp_wrapped_module.{name}" for name in ("a.weight", "b.weight", "c.weight")}
    plain = [name.partition(".")[2] for name in wrapped]
    lists = [", ".join(f'"{name}"' for name in names) for names in (plain, wrapped)]
    text = "Error(s) in loading state_dict for Net:\n\tMissing key(s) in state_dict: {}. \n"
    text += "\tUnexpected key(s) in state_dict: {}. "
    [found] = explain(text.format(*lists)).causes
    assert found.cause == "wrapper_prefix" and found.repairable_by_renaming is False
    assert explain(text.format(*lists).replace("_fsdp_wrapped_module", "module")).causes[0].repairable_by_renaming


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(TEXTS), st.integers(0, 10_000), st.integers(0, 10_000), st.text(max_size=40))
def test_cut_anywhere_it_never_fails(text: str, start: int, end: int, noise: str) -> None:
    assert explain(text).causes, "cut, it may be silent"
    found = explain(text[start % len(text) :][: end % len(text)] + noise)
    json.dumps(found.to_dict())
    assert len(str(found).splitlines()) < 80 and "<script" not in found._repr_html_()


def test_the_reference_is_a_link_and_no_address_in_the_text_is() -> None:
    found = explain("KeyError: 'module.https://evil.example/x.weight'\nMissing key(s) in state_dict: \"x.weight\".")
    reference = CAUSES[found.causes[0].cause].reference
    assert len(reference) > 90, "too long for a line of 100"
    assert f'more: <a href="{reference}">' in found._repr_html_() and 'href="https://evil' not in found._repr_html_()
    assert reference in str(found)


def test_every_cause_is_filled_in() -> None:
    for name, cause in CAUSES.items():
        assert cause.title and cause.sign and cause.explanation and cause.remedy, name
    assert all(cause.reference.startswith("https://") for cause in list(CAUSES.values())[:20])
    assert {case["cause"] for case in CASES} <= set(CAUSES)


def test_every_cause_is_found_in_an_error_that_was_really_raised() -> None:
    found = {found.cause for title in ERRORS for found in explain(traceback_of(title)).causes[:1]}
    unseen = {"nan_weights", "harmless", "wrong_device_after_loading"}
    assert found == set(CAUSES) - unseen, "NaN raises nothing; the others need transformers, or a GPU"


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("model.load_state_dict('a.pth')\nAttributeError: 'str' object has no attribute 'copy'", "not_a_state_dict"),
        ("SourceChangeWarning: source code of class 'net.Net' has changed. you can retrieve", "whole_model"),
    ],
)
def test_what_older_versions_said(text: str, cause: str) -> None:
    assert [found.cause for found in explain(text).causes] == [cause]


def test_two_readings_say_what_tells_them_apart() -> None:
    found = explain("torch.load('a.pth')\nEOFError")
    assert [one.cause for one in found.causes] == ["empty_file", "truncated_file"]
    assert "To tell them apart, look at the file's size" in str(found) and "the file&#x27;s size" in found._repr_html_()


def listed(name: str, count: int) -> str:
    return ", ".join(f'"{name.format(number)}"' for number in range(count))


@pytest.mark.parametrize("file", ["b{}.w", "module.a{}.w", "{}.w", "x.y.a{}.w", "b." * 150 + "w{}"])
def test_time_grows_with_the_length_and_no_faster(file: str) -> None:
    """Two long lists with nothing, or everything, in common: comparing all pairs would take minutes."""
    count = 300 if len(file) > 99 else 15_000
    said = f"Missing key(s) in state_dict: {listed('a{}.w', count)}. Unexpected key(s) in state_dict: "
    said += f"{listed(file, count)}. " + "".join(f"unexpected key 'z{number}' in " for number in range(count))
    start = time.process_time()
    explain(said)
    assert time.process_time() - start < 10


def test_a_pasted_error_cannot_steer_the_terminal() -> None:
    names = '"{0}a\x07\x9b2J.weight", "{0}b.weight". '
    said = f"Missing key(s) in state_dict: {names.format('')}Unexpected key(s) in state_dict: {names.format('module.')}"
    found = explain(said)
    assert found.causes[0].cause == "wrapper_prefix" and "a\x07" in found.causes[0].evidence
    assert str(found).replace("\n", "").isprintable() and "\x07" not in found._repr_html_()


ODD = st.sampled_from(
    ["a", "stem", "0", "1", "12", "²", "٣", "½", "module", "weight", "running_var", "", "x\u0300", "9" * 90]
)
ODD_NAMES = st.lists(st.lists(ODD, min_size=1, max_size=5).map(".".join), max_size=12)


@settings(max_examples=150, deadline=None)
@given(ODD_NAMES, ODD_NAMES, st.sampled_from([". ", ", ...", ""]), st.booleans())
@example([], ["0", "1", "9" * 90], ". ", False)
@example(["a", "a", "a", "a", ".a"], ["stem."], ". ", True)
def test_names_of_any_kind_have_an_answer(missing: list[str], unexpected: list[str], end: str, headless: bool) -> None:
    """Digits that are no numbers, empty components, numbers longer than any: other people's names."""
    said = [", ".join(f'"{name}"' for name in names) + end for names in (missing, unexpected)]
    text = f"Missing key(s) in state_dict: {said[0]}\n\tUnexpected key(s) in state_dict: {said[1]}"
    text = text[40:] if headless else f"Error(s) in loading state_dict for Net:\n\t{text}"
    assert str(explain(text)) and explain(text)._repr_html_()
