"""What is said to people: one language for each reader, English where nobody has translated it."""

from __future__ import annotations

import re
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
