"""What people read: one language for each reader, English if there is no translation."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dav2_utils import CAUSES, Diagnosis, texts

GERMAN = {"verdict": {"loads": "lädt, wie es ist"}, "greeting": {"twice": "{name} und {name}"}}


@pytest.fixture
def german(monkeypatch: pytest.MonkeyPatch) -> None:
    english = texts._texts("en") | {"greeting": {"twice": "{name} and {name}", "once": "hello, {name}"}}
    monkeypatch.setattr(texts, "_texts", lambda code: {"de": GERMAN, "en": english}.get(code, {}))
    monkeypatch.setenv("DAV2_LANG", "de")


@pytest.mark.usefixtures("german")
def test_a_text_is_said_in_the_language_of_the_reader() -> None:
    assert str(Diagnosis("loads", file="a.pth")) == "✓ a.pth: lädt, wie es ist."
    assert texts.say("greeting.twice", name="a{0}") == "a{0} und a{0}"


@pytest.mark.usefixtures("german")
def test_what_is_not_translated_is_english() -> None:
    assert texts.say("greeting.once", name="x") == "hello, x"
    assert "cannot" in texts.say("verdict.unreadable")


@pytest.mark.usefixtures("german")
def test_programs_read_the_same_in_every_language() -> None:
    assert Diagnosis("loads").to_dict()["verdict"] == "loads"


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"DAV2_LANG": "zh", "LANG": "de_DE.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "de_DE"),
        ({"LC_ALL": "zh_CN.GB18030", "LANG": "de_DE"}, "zh_CN"),
        ({"DAV2_LANG": "pt-BR"}, "pt_BR"),
        ({"LC_ALL": "C.UTF-8", "LANG": "de_DE"}, "en"),
        ({"LANG": "POSIX"}, "en"),
        ({"DAV2_LANG": "../../etc/passwd"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_is_the_variable_then_the_systems(
    variables: dict[str, str], language: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DAV2_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert texts.language() == language


def test_a_region_falls_back_to_its_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(texts, "_texts", lambda code: {"de": {"a": "eins"}, "en": {"a": "one"}}.get(code, {}))
    monkeypatch.setenv("DAV2_LANG", "de_AT")
    assert texts.say("a") == "eins"


def test_a_name_that_is_no_text_is_a_mistake_of_ours() -> None:
    with pytest.raises(KeyError, match="no text called"):
        texts.say("verdict.perhaps")


def leaves(data: dict[str, Any], path: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in data.items():
        found |= leaves(value, f"{path}{name}.") if isinstance(value, dict) else {path + name: value}
    return found


def test_every_text_is_used_and_every_cause_has_its_texts() -> None:
    english = leaves(texts._texts("en"))
    assert {name.split(".")[1] for name in english if name.startswith("causes.")} == set(CAUSES)
    for cause in CAUSES.values():
        assert all(len(text) > 10 for text in (cause.title, cause.sign, cause.explanation, cause.remedy)), cause.name
    assert not {name for name, text in english.items() if re.search(r"\{[^}]*[^a-z_}]", text)}, "arguments by name"


#: Rooms in which what people read is put together, and the values of two words in them that programs read.
ROOMS = (
    *(f"classroom/{room}" for room in ("clinic", "copies", "drawings", "exercises")),
    *(f"classroom/{room}" for room in ("plots", "progress", "views", "widgets")),
    *(f"diagnosis/{room}" for room in ("explain", "keytable", "report")),
)
VALUES = {
    *("not attempted", "not yet", "two wrappers", "inner wrapper", "outer model", "other size", "refused object"),
    *("other name", "other shape", "only in the file", "only in the model", "row wrap"),
    *("metric or relative", "not repairable", "no target"),
}


def said_in(code: ast.AST) -> Iterator[str]:
    """Every string in `code` except docstrings, what an error says and the files that the clinic writes."""
    for node in ast.iter_child_nodes(code):
        statement = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        a_file = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "write_text"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif not (statement or a_file or isinstance(node, ast.Raise)):
            yield from said_in(node)


def sentences(code: str) -> list[str]:
    """The strings in which two words meet at a space, HTML and JavaScript aside; a name in quotes is not a word."""
    strings = [re.sub(r"<[^>]*(>|$)", "", text) for text in said_in(ast.parse(code)) if text not in VALUES]
    return [text for text in strings if re.search(r"[A-Za-z]{2}[,.:;)]? \(?[A-Za-z]{2}", text) and "const " not in text]


def test_the_rooms_that_speak_to_people_hold_no_sentence() -> None:
    root = Path(texts.__file__).parent
    found = {room: sentences((root / f"{room}.py").read_text("utf-8")) for room in ROOMS}
    assert not {room: left for room, left in found.items() if left}, "put them into locale/en.json, say them by name"
    assert sentences("""say(f"<p>It {'does' if x else 'does not'} load it.</p>")""") == ["does not", " load it."]
