"""Judges of answers: each gives nothing for a right answer, otherwise a nudge that does not give it away."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Judge = Callable[[Any], "str | None"]


class NotAttempted(Exception):
    """The answer still holds its three dots; the text says where."""


def _plain(answer: Any) -> Any:
    """An answer as it is meant: text without spaces or quotes around it, a plain word in small letters, a number or
    a pair written as text, a list for a pair."""
    if isinstance(answer, str) and "," in answer:
        answer = answer.strip().strip("()[]").split(",")
    if isinstance(answer, str):
        answer = answer.strip().strip("'\"")
        if answer.isdecimal() and str(int(answer)) == answer:
            return int(answer)
        return answer.lower() if answer.isalnum() else answer
    return tuple(map(_plain, answer)) if isinstance(answer, list | tuple) else answer


def equals(right: Any, nudges: dict[Any, str], otherwise: str, also: tuple[Any, ...] = ()) -> Judge:
    """A judge for one value; `also` other forms of it, `nudges` for the wrong ones that people give."""

    def judge(answer: Any) -> str | None:
        meant = _plain(answer)
        return None if meant in (right, *also) else f"I see {meant!r}. " + next(
            (nudge for wrong, nudge in nudges.items() if wrong == meant), otherwise
        )  # fmt: skip

    return judge


def near(right: float, nudges: dict[float, str], otherwise: str) -> Judge:
    def judge(answer: Any) -> str | None:
        try:
            number = float(answer)
        except (TypeError, ValueError):
            return f"I see {answer!r}. One number is asked for, without a unit and without quotes."
        nudge = next((nudge for wrong, nudge in nudges.items() if abs(number - wrong) < 1e-6), otherwise)
        return None if abs(number - right) < 0.005 else f"I see {answer}. {nudge}"

    return judge


def maps(cases: dict[str, tuple[str, str]]) -> Judge:
    """A judge for a function from name to name: each case is a name, the right result, and a nudge."""

    def judge(function: Any) -> str | None:
        if not callable(function):
            return f"I see a {type(function).__name__}. Hand over the function itself, without calling it."
        for name, (right, nudge) in cases.items():
            result = function(name)
            if result is None or result is ...:
                raise NotAttempted("The function gives nothing back yet. Put your answer in place of the three dots.")
            if result != right:
                return f"{name!r} became {result!r}. {nudge}"
        return None

    return judge


def subtract(answer: Any) -> str | None:
    asked = f"I see {answer!r}. Two sets are asked for, in this order: ({{missing}}, {{unexpected}})."
    if not isinstance(answer, tuple | list):  # a set has no first and no second
        return asked
    try:
        missing, unexpected = (frozenset([part] if isinstance(part, str) else part) for part in answer)
    except (TypeError, ValueError):
        return asked
    if (set(missing), set(unexpected)) == ({"step"}, {"scale"}):
        return "Both names are right, but the other way round: missing is always said from the model's side."
    if (set(missing), set(unexpected)) == ({"scale"}, {"step"}):
        return None
    return f"I see missing {sorted(missing)} and unexpected {sorted(unexpected)}. A name that both have is neither."


def guesses(right: dict[str, str], nudges: dict[str, str]) -> Judge:
    """A judge for a dictionary of guesses, one word for each of several; `nudges` for each that may be wrong."""
    words = ", ".join(sorted(set(right.values())))

    def judge(answer: Any) -> str | None:
        if not isinstance(answer, dict) or set(answer) != set(right):
            return f"I see {answer!r}. A dictionary is asked for, with a word for each of {', '.join(right)}."
        if open_ := [name for name, word in answer.items() if word in (None, ...)]:
            raise NotAttempted(f"No word yet for {', '.join(open_)}. Put your guess in place of the three dots.")
        wrong = [name for name, word in answer.items() if str(word).strip().lower() != right[name]]
        unknown = [str(word) for word in answer.values() if str(word).strip().lower() not in right.values()]
        if unknown:
            return f"I see {unknown[0]!r}. The words to choose from: {words}."
        if wrong:
            return f"{len(right) - len(wrong)} of {len(right)} are right. Look at {wrong[0]} again: {nudges[wrong[0]]}"
        return None

    return judge
