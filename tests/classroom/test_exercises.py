"""Every exercise: not attempted, the wrong answers that people give, an answer that raises, and the right one."""

from __future__ import annotations

import re
from typing import Any

import pytest
from torch import nn

from dav2_utils import CheckpointError, check, texts
from dav2_utils.classroom.exercises import EXERCISES
from dav2_utils.encoders import table_for

_NAMES = len(table_for("tiny"))
EASY = {"01": "box", "02": "prefix", "03": "pointer", "04": "page", "05": "cut"}
MEDIUM = {"06": "two wrappers", "07": "inner wrapper", "08": "outer model", "09": "other size", "10": "refused object"}
NASTY = {"11": "fix", "12": "convert", "13": "choose", "14": "ask"}
WRONG: dict[str, tuple[Any, ...]] = {
    "00-names": (2, 6, "fc.weight"),
    "01-wrapped-twice": ([*"abc"] * 99, "module.pretrained.cls_token", "pretrained.cls_token", "module.module", 2),
    "01-reverse": ((0, 0), (_NAMES, 0), (0, _NAMES), _NAMES),
    "02-subtract": (
        ({"step"}, {"scale"}),
        ({"scale"},),
        (set(), {"step"}),
        "scale",
        {"scale", "step"},
        dict.fromkeys(("scale", "step")).keys(),  # a set whose order is not left to chance
    ),
    "02-encoder": ("vits", "vitl", "ViT-B"),
    "02-order": (["compile", "ddp"], "ddp", ["module", "_orig_mod"]),
    "03-letters": ("reg_module.0.weight", "0.weight", "reg_.0.weight", "reg.0.weight"),
    "03-anchored": (
        lambda name: name.replace("module.", ""),
        lambda name: name[7:],
        lambda name: name.lstrip("module."),
        lambda name: name.split("module", 1)[-1],
        "fc.weight",
    ),
    "03-coats": (
        lambda name: name.removeprefix("module."),
        lambda name: name.replace("_orig_mod.", "").removeprefix("module."),
        lambda name: ".".join(part for part in name.split(".") if part not in ("module", "_orig_mod")),
    ),
    "04-nearer": (("lamp", "cup"), ("cup", "cup"), ("lamp", "lamp"), "cup"),
    "04-factor": (1.25, 5, 80, 0.25, 25, "twenty"),
    "04-absrel": (1.0, 0.6, (1 / 3 + 1 / 9) / 2, 0.2, 30),
    "05-inner": (
        "wrapped.state_dict()", "model.module.state_dict()", "wrapped.module", "wrapped.module.state_dict",
        "module.state_dict()", nn.Linear(2, 2).state_dict(), nn.Linear(2, 2),
    ),
    "05-trap": (_NAMES, 1, "1", "all"),
    "05-facts": ("encoder", "features", "out_channels"),
    "06-easy": (EASY | {"01": "prefix"}, EASY | {"04": "cut"}, EASY | {"05": "broken"}, {"01": "box"}, "box"),
    "06-medium": (MEDIUM | {"06": "inner wrapper"}, dict.fromkeys(MEDIUM, "other size")),
    "06-nasty": (NASTY | {"14": "fix"}, NASTY | {"11": "choose"}),
    "06-cause": ("wrapper_prefix", "outer_module_prefix", "wrong_encoder", "naming"),
    "06-silent": ("depth_head.scratch.output_conv2.2.weight", "max_depth", "all", nn.Linear(2, 2).weight),
}  # fmt: skip
RIGHT: dict[str, Any] = {
    "00-names": 3,
    "01-wrapped-twice": "module.module.pretrained.cls_token",
    "01-reverse": (_NAMES, _NAMES),
    "02-subtract": ({"scale"}, {"step"}),
    "02-encoder": "vitb",
    "02-order": ["ddp", "compile"],
    "03-letters": "reg_0.weight",
    "03-anchored": lambda name: name.removeprefix("module."),
    "03-coats": lambda name: re.sub(r"^((module|_orig_mod)\.)+", "", name),
    "04-nearer": ("cup", "lamp"),
    "04-factor": 20,
    "04-absrel": 0.3,
    "05-inner": " wrapped.module.state_dict() ",
    "05-trap": 0,
    "05-facts": "max_depth",
    "06-easy": EASY,
    "06-medium": MEDIUM,
    "06-nasty": NASTY | {"11": " Fix "},
    "06-cause": "other_naming",
    "06-silent": "none",
}


def test_the_tables_are_complete() -> None:
    assert set(WRONG) == set(RIGHT) == set(EXERCISES)


def test_every_wrong_answer_has_words_of_its_own() -> None:
    said = texts._texts("en")["exercises"]
    assert set(said) - {"all", "states"} == set(EXERCISES)
    for name, words in said.items():
        assert name in ("all", "states") or ("right" in words and ("otherwise" in words or "wrong" in words)), name


def test_replies_are_in_the_readers_language(monkeypatch: pytest.MonkeyPatch) -> None:
    german = {"exercises": {"states": {"right": "Richtig."}, "00-names": {"right": "So geht es immer."}}}
    english = texts._texts("en")
    monkeypatch.setattr(texts, "_texts", lambda code: {"de": german, "en": english}.get(code, {}))
    monkeypatch.setenv("DAV2_LANG", "de")
    assert str(check("00-names", 3)) == "✓ Richtig. So geht es immer."
    assert "Count again" in check("00-names", 2).text, "what is not translated is English"


@pytest.mark.parametrize("exercise", EXERCISES)
def test_not_attempted(exercise: str) -> None:
    assert check(exercise, ...).state == check(exercise, None).state == "not attempted"


def test_a_stub_that_gives_three_dots_back_is_not_attempted() -> None:
    assert check("03-anchored", lambda name: ...).state == "not attempted"


@pytest.mark.parametrize(("exercise", "answer"), [(name, answer) for name, given in WRONG.items() for answer in given])
def test_wrong_answers_get_what_was_seen_and_a_nudge(exercise: str, answer: Any) -> None:
    reply = check(exercise, answer)
    assert reply.state == "wrong" and 25 < len(reply.text) < 400
    if isinstance(answer, str):
        assert repr(RIGHT[exercise]) not in reply.text, "a nudge does not give the answer away"


def test_a_nudge_is_about_the_answer() -> None:
    assert "one string" in check("03-coats", lambda name: name.split(".")).text
    assert "by the truth" in check("04-absrel", 0.222).text, "a rounded number is the same mistake"
    assert "in quotes" in check("05-inner", nn.Linear(2, 2).state_dict()).text


@pytest.mark.parametrize("exercise", EXERCISES)
def test_right(exercise: str) -> None:
    reply = check(exercise, RIGHT[exercise])
    assert reply.state == "right" and str(reply).startswith("\u2713 Right")


def test_an_answer_that_raises_is_explained() -> None:
    reply = check("03-anchored", lambda name: name.nothing())
    assert reply.state == "error" and "AttributeError" in reply.text


@pytest.mark.parametrize(
    ("exercise", "answer"),
    [
        ("05-trap", "0"),
        ("04-factor", "20"),
        ("00-names", " 3 "),
        ("05-inner", "clean_state_dict(wrapped)"),
        ("01-reverse", f"({_NAMES}, {_NAMES})"),
        ("01-reverse", [str(_NAMES), _NAMES]),
        ("02-encoder", "ViTB"),
        ("04-nearer", '("cup", "lamp")'),
        ("02-order", "DDP, compile"),
        ("06-silent", "None"),
        ("04-absrel", "0.3"),
        ("05-facts", ["max_depth"]),
    ],
)
def test_what_means_the_same_is_right(exercise: str, answer: str) -> None:
    assert check(exercise, answer).state == "right"


def test_guesses_that_are_open_are_named() -> None:
    reply = check("06-nasty", NASTY | {"12": ..., "13": None})
    assert reply.state == "not attempted" and "12, 13" in reply.text


def test_a_reply_shows_itself_escaped() -> None:
    assert "&lt;b&gt;" in check("02-encoder", "<b>")._repr_html_()
    assert "<code>pretrained</code>" in check("05-trap", _NAMES)._repr_html_()


def test_an_unknown_exercise_names_the_known_ones() -> None:
    with pytest.raises(CheckpointError, match="03-anchored"):
        check("99-nothing", 1)
