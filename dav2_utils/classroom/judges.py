"""Judges of answers: each gives nothing for a right answer, otherwise a nudge that does not give it away.

What a nudge says is a text: `tell("wrong.1")` is the one under the exercise's own name in `locale/en.json`, and
`say("exercises.all...")` one that they share.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..texts import say

Tell = Callable[[str], str]
Judge = Callable[[Any, Tell], "str | None"]


class NotAttempted(Exception):
    """The answer still contains its three dots; the text says where."""


def _plain(answer: Any) -> Any:
    """An answer as it is meant: text without spaces or quotes around it, a plain word in small letters, a number or
    a pair written as text, a list for a pair, the one thing in a list of one."""
    if isinstance(answer, str) and "," in answer:
        answer = answer.strip().strip("()[]").split(",")
    if isinstance(answer, str):
        answer = answer.strip().strip("'\"")
        if answer.isdecimal() and str(int(answer)) == answer:
            return int(answer)
        return answer.lower() if answer.isalnum() else answer
    if isinstance(answer, list | tuple):
        return _plain(answer[0]) if len(answer) == 1 else tuple(map(_plain, answer))
    return answer


def _seen(answer: Any) -> str:
    """An answer as the reply repeats it; of a whole state dict, the beginning."""
    text = repr(answer)
    return text if len(text) <= 120 else f"{text[:100]}[...]"


def equals(right: Any, *wrong: Any, also: tuple[Any, ...] = ()) -> Judge:
    """A judge for one value; `also` other forms of it, `wrong` what people give, each with a text `wrong.N`."""

    def judge(answer: Any, tell: Tell) -> str | None:
        meant = _plain(answer)
        if isinstance(right, str) and not isinstance(meant, str | int | float | tuple):  # the thing, and not its name
            return say("exercises.all.seen", seen=_seen(meant), nudge=say("exercises.all.text"))
        nudge = next((f"wrong.{n}" for n, given in enumerate(wrong, 1) if given == meant), "otherwise")
        return None if meant in (right, *also) else say("exercises.all.seen", seen=_seen(meant), nudge=tell(nudge))

    return judge


def near(right: float, *wrong: float) -> Judge:
    """A judge for a number; `wrong` as in `equals`."""

    def judge(answer: Any, tell: Tell) -> str | None:
        try:
            number = float(answer)
        except (TypeError, ValueError):
            return say("exercises.all.seen", seen=_seen(answer), nudge=say("exercises.all.number"))
        nudge = next((f"wrong.{n}" for n, given in enumerate(wrong, 1) if abs(number - given) < 0.005), "otherwise")
        return None if abs(number - right) < 0.005 else say("exercises.all.seen", seen=_seen(answer), nudge=tell(nudge))

    return judge


def maps(cases: dict[str, str]) -> Judge:
    """A judge for a function from name to name: each case is a name and the right result, with a text `wrong.N`."""

    def judge(function: Any, tell: Tell) -> str | None:
        if not callable(function):
            return say("exercises.all.function", kind=type(function).__name__)
        for n, (name, right) in enumerate(cases.items(), 1):
            result = function(name)
            if result is None or result is ...:
                raise NotAttempted(say("exercises.all.nothing"))
            if not isinstance(result, str):
                nudge = say("exercises.all.name")
                return say("exercises.all.became", name=repr(name), result=_seen(result), nudge=nudge)
            if result != right:
                return say("exercises.all.became", name=repr(name), result=repr(result), nudge=tell(f"wrong.{n}"))
        return None

    return judge


def subtract(answer: Any, tell: Tell) -> str | None:
    """The judge of 02-subtract: two sets, in their order."""
    asked = say("exercises.all.seen", seen=_seen(answer), nudge=tell("otherwise"))
    if not isinstance(answer, tuple | list):  # a set has no order
        return asked
    try:
        missing, unexpected = (frozenset([part] if isinstance(part, str) else part) for part in answer)
    except (TypeError, ValueError):
        return asked
    if (set(missing), set(unexpected)) == ({"step"}, {"scale"}):
        return tell("wrong.1")
    if (set(missing), set(unexpected)) == ({"scale"}, {"step"}):
        return None
    return say("exercises.02-subtract.wrong.2", missing=sorted(missing), unexpected=sorted(unexpected))


def guesses(right: dict[str, str]) -> Judge:
    """A judge for a dictionary of guesses, one word for each of several, each with a text `wrong.NAME`."""
    words = ", ".join(sorted(set(right.values())))

    def judge(answer: Any, tell: Tell) -> str | None:
        if not isinstance(answer, dict) or set(answer) != set(right):
            nudge = say("exercises.all.dictionary", names=", ".join(right))
            return say("exercises.all.seen", seen=_seen(answer), nudge=nudge)
        if open_ := [name for name, word in answer.items() if word in (None, ...)]:
            raise NotAttempted(say("exercises.all.open", names=", ".join(open_)))
        wrong = [name for name, word in answer.items() if str(word).strip().lower() != right[name]]
        unknown = [str(word) for word in answer.values() if str(word).strip().lower() not in right.values()]
        if unknown:
            return say("exercises.all.seen", seen=_seen(unknown[0]), nudge=say("exercises.all.words", words=words))
        if wrong:
            counts = {"right": len(right) - len(wrong), "all": len(right)}
            return say("exercises.all.again", name=wrong[0], nudge=tell(f"wrong.{wrong[0]}"), **counts)
        return None

    return judge
