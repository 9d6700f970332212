"""How people paste an error: functions from its text to what arrives; None where that would be no change."""

from __future__ import annotations

import html
import json
import random
import re
import textwrap
from collections.abc import Callable

Way = Callable[[str, random.Random], "str | None"]
WAYS: dict[str, Way] = {}
_LIST = re.compile(r'\t(?:Missing|Unexpected) key\(s\) in state_dict: (?:"[^"]*"(?:, )?)+\. ')
_SIZE = re.compile(r"\tsize mismatch for .*")


def way(paste: Way) -> Way:
    WAYS[paste.__name__] = paste
    return paste


@way
def whole(text: str, rng: random.Random) -> str | None:
    return text


@way
def three_names_and_dots(text: str, rng: random.Random) -> str | None:
    """The first names of each list and the first sizes, then an ellipsis."""
    return _shortened(text, 3, f", {rng.choice(['...', '..., ', '…'])}", "\n\t...")


@way
def few_names(text: str, rng: random.Random) -> str | None:
    """The same without any sign that names were left out, as people retype an error."""
    return _if_changed(text, _shortened(text, rng.choice([4, 6, 10]), ". ", ""))


def _shortened(text: str, most: int, end: str, end_of_sizes: str) -> str:
    def shorten(match: re.Match[str]) -> str:
        head, *names = match[0].split('"')
        return match[0] if len(names) < 2 * most + 2 else '"'.join([head, *names[: 2 * most - 1]]) + f'"{end}'

    sizes = _SIZE.findall(text)
    for line in sizes[most:]:
        text = text.replace(line + "\n", "", 1).replace("\n" + line, "", 1)
    return _LIST.sub(shorten, text) + (end_of_sizes if len(sizes) > most else "")


@way
def cut(text: str, rng: random.Random) -> str | None:
    """Cut off at some number of characters."""
    return _if_changed(text, text[: rng.choice([500, 1000, 2000, 4000])])


@way
def begins_in_the_middle(text: str, rng: random.Random) -> str | None:
    return _if_changed(text, text[-rng.choice([400, 1000, 2000, 4000]) :])


@way
def last_lines(text: str, rng: random.Random) -> str | None:
    lines = text.split("\n")
    return _if_changed(text, "\n".join(lines[-rng.choice([2, 5, 12]) :]))


@way
def one_list_only(text: str, rng: random.Random) -> str | None:
    lists = _LIST.findall(text) + (["\n".join(_SIZE.findall(text))] if _SIZE.search(text) else [])
    return rng.choice(lists).strip() if len(lists) > 1 else None


@way
def wrapped(text: str, rng: random.Random) -> str | None:
    """As a narrow terminal breaks it, inside names too."""
    width = rng.choice([60, 80, 100])
    return "\n".join(line[i : i + width] for line in text.split("\n") for i in range(0, len(line) or 1, width))


@way
def in_a_log(text: str, rng: random.Random) -> str | None:
    front = rng.choice(["2024-05-06 07:08:09,123 ERROR ", "[rank0]: ", "[2024-05-06 07:08:09] ", "worker-1  | "])
    before = f"{front}loading weights\n"
    return before + "\n".join(front + line for line in text.split("\n"))


@way
def after_a_harmless_list(text: str, rng: random.Random) -> str | None:
    """A warning about a backbone comes before the error, as in many logs."""
    return rng.choice([
        "unexpected key in source state_dict: fc.weight, fc.bias\n\n",
        "<All keys matched successfully>\n",
        "missing keys: ['aux.weight', 'aux.bias']\nunexpected keys: []\n",
        "Some weights of ViTModel were not initialized from the model checkpoint at google/vit and are newly "
        "initialized: ['pooler.dense.bias', 'pooler.dense.weight']\nYou should probably TRAIN this model.\n",
    ]) + text  # fmt: skip


@way
def quoted(text: str, rng: random.Random) -> str | None:
    return "\n".join("> " + line for line in text.split("\n")) + "\n\nI have the same problem, any ideas?"


@way
def chinese(text: str, rng: random.Random) -> str | None:
    """Within a sentence of Chinese, with its punctuation."""
    text = text.rstrip().replace('", "', '"，"').replace('". ', '"。').replace("\n", "，")
    return "请问加载权重的时候报错：" + text + "。怎么解决？"


@way
def without_line_ends(text: str, rng: random.Random) -> str | None:
    return " ".join(text.split())


@way
def html_escaped(text: str, rng: random.Random) -> str | None:
    return html.escape(text)


@way
def as_json(text: str, rng: random.Random) -> str | None:
    return json.dumps({"level": "error", "exc": text})


@way
def in_a_question(text: str, rng: random.Random) -> str | None:
    """Fenced, with words before and after it."""
    return f"Hi, I trained with your script and now I get\n```\n{text}```\nMy torch is 2.1.0. What is wrong? Thanks!"


@way
def indented(text: str, rng: random.Random) -> str | None:
    return textwrap.indent(text, "        ")


def _if_changed(text: str, pasted: str) -> str | None:
    return None if pasted == text else pasted
