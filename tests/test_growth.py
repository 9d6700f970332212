"""Time and memory grow with the file's table, or with the text, and no faster; every regular expression is linear.

Times are CPU times of this process, the least of several, and only ever compared with each other.
"""

from __future__ import annotations

import ast
import re
import sys
import time
import tracemalloc
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import pytest

import dav2_utils
from dav2_utils import CheckpointError
from dav2_utils.diagnosis.causes import data
from dav2_utils.diagnosis.diagnose import diagnose
from dav2_utils.diagnosis.explain import explain
from dav2_utils.diagnosis.keytable import show_keys
from dav2_utils.diagnosis.signs import signs
from dav2_utils.files.checkpoint import Checkpoint
from dav2_utils.files.weightsets import find_sets
from dav2_utils.keys import TensorInfo
from dav2_utils.repair.stripping import renamed
from dav2_utils.wrappers import WRAPPERS, rename_map, wrappers_in

if sys.version_info >= (3, 11):
    import re._constants as sre
    import re._parser as sre_parse
else:
    import sre_constants as sre
    import sre_parse

PACKAGE = Path(dav2_utils.__file__).parent
ONE = TensorInfo((1,))


def least(run: Callable[[], Any], times: int) -> float:
    found = []
    for _ in range(times):
        start = time.process_time()
        run()
        found.append(time.process_time() - start)
    return min(found)


def grows(run: Callable[[Any], Any], make: Callable[[int], Any], size: int) -> float:
    """How many times longer it takes for four times the input: 4 for what is linear, 16 for what is quadratic.

    A run that seems too long is measured again: others at work on the machine make it longer, never shorter.
    """
    ratio, small, large = 99.0, make(size), make(4 * size)
    for times in (1, 3, 7):
        ratio = min(ratio, least(lambda: run(large), times) / max(least(lambda: run(small), times), 1e-9))
        if ratio < LIMIT:
            break
    return ratio


LIMIT = 9.0


# Regular expressions ------------------------------------------------------------------------------------------------


def patterns() -> Iterator[tuple[str, str, int]]:
    """Place, pattern and flags of every regular expression in the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if (
                isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
                and isinstance(node.func.value, ast.Name) and node.func.value.id == "re" and node.args
            ):  # fmt: skip
                text, flags = node.args[0], 0
                for other in [*node.args[1:], *(keyword.value for keyword in node.keywords)]:
                    names = {part.attr for part in ast.walk(other) if isinstance(part, ast.Attribute)}
                    flags |= sum(getattr(re, name) for name in names & {"I", "IGNORECASE", "MULTILINE", "S", "M"})
                place = f"{path.relative_to(PACKAGE)}:{node.lineno}"
                if isinstance(text, ast.Constant):  # of bytes, the same with a character for each
                    yield place, text.value if isinstance(text.value, str) else text.value.decode("latin-1"), flags
                else:
                    assert (place.partition(":")[0], ast.unparse(text)) in MADE, f"{place}: add it to MADE"
    for (room, text), made in MADE.items():
        yield from ((f"{room} {text}", pattern, 0) for pattern in made)


#: Those that are put together: where, the expression, and what comes of it.
MADE: dict[tuple[str, str], list[str]] = {
    ("diagnosis/names.py", "'|'.join(parts)"): ["|".join(parts) for parts in data()["words"]["dialects"].values()],
}


def sample(parsed: Any) -> Iterator[str]:
    """Texts that the beginning of a parsed expression matches, one for every further element and branch."""
    done = [""]
    for what, value in parsed:
        more = list(islice(element(what, value), 6)) or [""]
        yield from (done[0] + text for text in more)
        done = [done[0] + text for text in more]


def element(what: Any, value: Any) -> Iterator[str]:
    if what is sre.LITERAL:
        yield chr(value)
    elif what is sre.NOT_LITERAL:
        yield "a" if value != ord("a") else "b"
    elif what is sre.ANY:
        yield "a"
    elif what is sre.IN:
        yield from islice((char for char in "a.1_ \"'-[(:,\tA" if fits(value, char)), 2)
    elif what is sre.BRANCH:
        for branch in value[1]:
            yield from list(sample(branch))[-1:]
    elif what is sre.SUBPATTERN:
        yield from list(sample(value[-1]))[::-1]
    elif what in (sre.MAX_REPEAT, sre.MIN_REPEAT):
        for text in islice(sample(value[2]), 3):
            yield text * max(1, value[0])


def fits(members: Any, char: str) -> bool:
    compiled = sre_parse.SubPattern(sre_parse.State(), [(sre.IN, members)])
    return re.compile(_written(compiled)).match(char) is not None


def _written(parsed: Any) -> str:
    """A class of characters written out again."""
    names = {sre.CATEGORY_DIGIT: r"\d", sre.CATEGORY_WORD: r"\w", sre.CATEGORY_SPACE: r"\s",
             sre.CATEGORY_NOT_DIGIT: r"\D", sre.CATEGORY_NOT_WORD: r"\W", sre.CATEGORY_NOT_SPACE: r"\S"}  # fmt: skip
    inside = "".join(
        "^" if what is sre.NEGATE
        else names[value] if what is sre.CATEGORY
        else f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}" if what is sre.RANGE
        else re.escape(chr(value))
        for what, value in parsed[0][1]
    )  # fmt: skip
    return f"[{inside}]"


def hostile(pattern: str, flags: int) -> Iterator[Callable[[int], str]]:
    """Texts of any length made of what the expression begins to match, again and again, and then something else."""
    units = list(dict.fromkeys(text for text in sample(sre_parse.parse(pattern, flags)) if text))[:40]
    for unit in [*units, *dict.fromkeys(unit[-1] for unit in units)]:
        yield lambda size, unit=unit: (unit * (size // len(unit) + 1))[:size] + "\n\x01"  # type: ignore[misc]
    for first, then in pairwise(units):
        yield lambda size, first=first, then=then: first + (then[-1] * size) + "\n\x01"  # type: ignore[misc]


def test_every_regular_expression_is_linear() -> None:
    found = list(patterns())
    assert len(found) > 60, "they are seen"
    assert quadratic(found) == {}


def quadratic(found: list[tuple[str, str, int]]) -> dict[str, tuple[str, float]]:
    worst: dict[str, tuple[str, float]] = {}
    yardstick = least(lambda: re.compile("(?:[^x]|y)*x").match("a" * 4_000), 3)  # one slow walk through such a text
    for place, pattern, flags in found:
        compiled = re.compile(pattern, flags)
        walk = partial(_walk, compiled)
        for text in hostile(pattern, flags):
            if least(partial(walk, text(4_000)), 1) > yardstick / 2 and (ratio := grows(walk, text, 1_000)) > LIMIT:
                worst[place] = (text(60), ratio)
                break
    return worst


def _walk(compiled: re.Pattern[str], text: str) -> None:
    for _ in compiled.finditer(text):
        pass


@pytest.mark.parametrize(
    "pattern", [r"Tryingto(?:instantiate|call\w*)(?:class)?([A-Za-z_]\w{0,9}?),", r"(a|b)*c+d", r"\s+$", r"\.p\..+$"]
)
def test_one_that_is_not_is_found(pattern: str) -> None:
    assert "here" in quadratic([("here", pattern, 0)])


# Tables -------------------------------------------------------------------------------------------------------------

ALL = list(WRAPPERS)


def table(names: list[str]) -> dict[str, TensorInfo]:
    return dict.fromkeys(names, ONE)


def mixed(count: int) -> list[str]:
    """Names that differ in their wrappers alone."""
    return [".".join(ALL[(number // len(ALL) ** k) % len(ALL)] for k in range(5)) + ".w" for number in range(count)]


#: Names that are many, long or deep; the number says how much there is of it.
NAMES: dict[str, Callable[[int], list[str]]] = {
    "many": lambda n: [f"module.blocks.{k}.attn.w" for k in range(n)],
    "with many dots": lambda n: ["a." * n + "w", "b." * n + "w", "module." + "c." * n + "w"],
    "wrapped deeply": lambda n: ["module." * n + "w", "_orig_mod." * n + "v", "x." + "module._orig_mod." * n + "u"],
    "of digits": lambda n: [f"{k}." * 20 + "w" for k in range(n // 20)],
    "under paths of their own": lambda n: [f"p{k}.q{k}.r{k}.s{k}.t.w" for k in range(n)],
    "of one tail": mixed,
    "under student and teacher": lambda n: [f"{top}.l{k}.w" for k in range(n // 2) for top in ("student", "teacher")],
    "without an end": lambda n: ["x" * n, "module." + "y" * n + ".", "." * n],
}
LOOKS: dict[str, Callable[[list[str]], Any]] = {
    "rename_map": lambda names: _quietly(lambda: rename_map(names)),
    "rename_map onto others": lambda names: _quietly(lambda: rename_map(names, [f"module.{name}" for name in names])),
    "rename_map onto half": lambda names: _quietly(lambda: rename_map(names, ["z.w", *names[::2]])),
    "rename_map onto the rest": lambda names: _quietly(lambda: rename_map(names[::2], names[1::2])),
    "wrappers_in": wrappers_in,
    "diagnose": lambda names: _quietly(lambda: str(diagnose(table(names)))),
    "diagnose with a target": lambda names: _quietly(
        lambda: diagnose(table(names), table(["z.w", *names[1::2]]))._repr_html_()),
    "show_keys": lambda names: _quietly(lambda: str(show_keys(table(names), table(names[::2])))),
    "renamed with _metadata": lambda names: renamed(state(names), {name: f"model.{name}" for name in names}),
}  # fmt: skip


def _quietly(run: Callable[[], Any]) -> None:
    with suppress(CheckpointError):
        run()


def state(names: list[str]) -> OrderedDict[str, Any]:
    found: OrderedDict[str, Any] = OrderedDict(table(names))
    found._metadata = {name.rpartition(".")[0]: {} for name in names}  # type: ignore[attr-defined]
    return found


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("look", LOOKS)
def test_tables(look: str, names: str) -> None:
    assert grows(LOOKS[look], NAMES[names], 500) < LIMIT


def test_many_sets() -> None:
    def make(count: int) -> dict[str, Any]:
        return {f"s{k}": {"a.b": ONE, "seen": k} for k in range(count)} | {f"x{k}": k for k in range(count)}

    def look(sets: dict[str, Any]) -> str:
        return str(Checkpoint.in_memory(*find_sets(sets, lambda v: v if isinstance(v, TensorInfo) else None)))

    assert grows(look, make, 1_000) < LIMIT


@pytest.mark.parametrize(("look", "names"), [("renamed with _metadata", "with many dots"),
                                             ("rename_map onto half", "with many dots")])  # fmt: skip
def test_memory_of_deep_names(look: str, names: str) -> None:
    """For each character of a name so much, however many dots are in it; it was 1,600 times the name for 10 kB."""
    given = NAMES[names](5_000)
    assert peak(lambda: LOOKS[look](given)) < 200 * sum(map(len, given))


def peak(run: Callable[[], Any]) -> int:
    tracemalloc.start()
    run()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most


# Texts --------------------------------------------------------------------------------------------------------------

ERROR = (
    "Error(s) in loading state_dict for A:\n\tMissing key(s) in state_dict: {}.\nUnexpected key(s) in state_dict: {}."
)


def error(missing: str, unexpected: str, count: int) -> str:
    """Two lists of `count` names, in which {} is the number."""
    lists = (", ".join(f'"{pattern}"'.format(number) for number in range(count)) for pattern in (missing, unexpected))
    return ERROR.format(*lists)


WORDS = [
    "Trying to call ", "Trying to instantiate unsupported class a", "Unsupported global: GLOBAL a.b ", '"', "'",
    "\x1b[", "\x1b]", "KeyError: '", "size mismatch for a.b: ", "size mismatch for ", "Missing key(s) in state_dict: ",
    '"a.b", ',
    "Error(s) in loading state_dict for A: ", "unexpected key 'a.b' in ", "[1, ", "While copying the parameter named ",
    "'dict' object has no attribute 'a' ", "No module named 'a", "can't get attribute 'a' on <module 'b", "a | ", "> ",
    "2024-01-01 00:00:00 ", "\\n\\t", "&quot;", "a.", "1.", "\n", " ", "module.", "Traceback (most recent call last):",
]  # fmt: skip
TEXTS: dict[str, Callable[[int], str]] = {
    **{repr(word): lambda n, word=word: word * (n // len(word)) + "- " for word in WORDS},  # type: ignore[misc]
    "every phrase of the signs": lambda n: (
        " ".join(phrase for sign in signs() for phrase in sign.phrases) * (n // 2_000)),
    "names under two wrappers": lambda n: error("module.a{}.w", "module.module.a{}.w", n // 30),
    "student and teacher": lambda n: error("b{}.w", "student.b{}.w", n // 30),
    "renamed": lambda n: error("a{}.b.c.d.e.f.g.w", "a{}.x.c.d.e.f.g.w", n // 50),
    "another in each place": lambda n: error("a.b{}.w", "a.c{}.w", n // 20),
    "deep": lambda n: error("a.b.c.d.e.f.g.h.i.j.{}", "z.b.c.d.e.f.g.h.i.j.{}", n // 50),
    "of many dots": lambda n: error("a." * 28 + "{}", "b." * 28 + "{}", n // 130),
    "sizes": lambda n: "".join(
        f"size mismatch for a{k}.w: copying a param with shape torch.Size([{k}]) from checkpoint, the shape in current "
        f"model is torch.Size([{k + 1}]).\n" for k in range(n // 100)),
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
def test_texts(text: str) -> None:
    assert grows(lambda given: str(explain(given)), TEXTS[text], 8_000) < LIMIT


@pytest.mark.parametrize(
    "text", ["deep", "of many dots", "renamed", "another in each place", "names under two wrappers"]
)
def test_memory_of_texts(text: str) -> None:
    """It was up to 570 times the text."""
    given = TEXTS[text](20_000)
    explain(given[:200])  # what is kept for every later text is no part of it
    assert peak(lambda: explain(given)) < 60 * len(given)
