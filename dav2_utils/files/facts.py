"""What names and shapes do not say, but the file or its neighbours may: metric or relative, and the range.

The sources are what this package recorded itself (a safetensors header, NAME.json), the log of the official recipe, a
`config.json`, the official file name, and what else is in a training file. All of it is read as text, a bounded part of
it, and nothing is run. Each fact comes with its source; where two sources disagree, both are given and nothing is
assumed.

What was recorded with this very file (its header, NAME.json) overrules what merely lies in the same folder: it
is what somebody said when the file was saved, as with `dav2 fix --max-depth`, and a folder's log may be of another run.
What the others say is shown all the same. Standard library only.
"""

from __future__ import annotations

import ast
import contextlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..encoders import ENCODERS, is_max_depth
from ..keys import Table
from ..texts import printable, say
from .weightsets import mapping

MOST_FACTS = 2**20  # bytes of NAME.json or config.json; they have a few hundred
MOST_OF_A_LOG = 2**18  # bytes; its first record is what counts
MOST_LOGS = 50  # the newest of them
_MOST_ENTRIES = 20_000  # of a folder
_LONGEST_RECORD = 10_000  # characters
_MOST_NESTED = 200  # brackets and signs in a record: what Python's own parser takes without a fault

_LOG_NAME = re.compile(r"\d{8}_\d{6}\.log")  # date and time, as the official scripts call it
_ARGUMENTS = re.compile(r"^\[[^\]\n]{1,40}\]\[[^\]\n]{1,12}\] (?=\{)", re.MULTILINE)  # [time][ level] {...
_METRIC_NAME = re.compile(r"_metric_(hypersim|vkitti)_(vit[sblg])?")
_RELATIVE_NAME = re.compile(r"depth_anything_v2_(vit[sblg])\.(pth|safetensors)")
_RANGES = {"hypersim": 20.0, "vkitti": 80.0}  # metres, of the official weights
_SCORES = {"d1", "d2", "d3", "abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "silog"}  # of the metric script alone
_OF_ONE_FILE = ("bytes", "fingerprint", "format")  # true of the file that they were written for, and of no other


class Fact(NamedTuple):
    """One fact and where it comes from.

    Where sources disagree, `disagree` has what each says, and `value` is None; unless one of them is about this very
    file: then `value` is what that one says, and `disagree` what the others do.
    """

    value: Any
    source: str
    disagree: tuple[Fact, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found = {"value": self.value, "from": self.source}
        return found | ({"disagree": [fact.to_dict() for fact in self.disagree]} if self.disagree else {})

    def __str__(self) -> str:
        each = [f"{printable(str(fact.value), 60)} ({printable(fact.source)})" for fact in self.disagree[:6] or [self]]
        if self.value is not None and self.disagree:
            return say("facts.overruled", value=self.value, source=printable(self.source), others=", ".join(each))
        return say("facts.disagree", values=", ".join(each)) if self.disagree else each[0]


Said = tuple[str, dict[str, Any]]  # a source and what it says


def facts_beside(
    path: Path, table: Table, encoder: str | None = None, *, size: int = -1, header: Mapping[str, str] | None = None,
    content: Any = None,
) -> dict[str, Fact]:  # fmt: skip
    """What is known of the file at `path`, by name: `depth` (metric or relative), `max_depth` in metres, and so on.

    `table` is what it holds and `encoder` what its shapes belong to: a source about another file is ignored.
    `size`: of the file, in bytes. `header`: the texts in a safetensors file, which then has no NAME.json; `content`:
    the nested data of any other. Nothing is raised: what cannot be read says nothing.
    """
    own = _written_down(path, size) if header is None else ("header", _plain(header))
    configuration = _configuration(_json(path.with_name("config.json")), encoder, _width(table))
    sources = [own, _name(path, encoder), *_logs(path.parent, encoder), ("config.json", configuration)]
    return _together(own[0], [(source, said) for source, said in (*sources, *_training(content, encoder)) if said])


def _width(table: Table) -> int:
    """Channels of a token, by the class token that every ViT has; 0 if there is none."""
    return next((info.shape[-1] for name, info in table.items() if name.endswith("cls_token") and info.shape), 0)


def believed(facts: Mapping[str, Fact]) -> dict[str, Any]:
    """The facts that may be used: all but those on which sources disagree, and no range unless it is metric."""
    known = {name: fact.value for name, fact in facts.items() if fact.value is not None}
    if "depth" in facts and known.get("depth") != "metric":
        known.pop("max_depth", None)
    return known


def no_range(facts: Mapping[str, Fact]) -> str:
    """What to say about metric weights whose range is unknown, or given in more than one way."""
    told = facts["max_depth"].disagree if "max_depth" in facts else ()
    sources = ", ".join(f"{fact.value} m: {printable(fact.source)}" for fact in told[:6])
    return say("facts.no_range", source=sources or printable(facts["depth"].source))


def facts_path(path: Path) -> Path:
    """Where the facts about a `.pth` are: NAME.json beside it (latest.fixed.pth.json)."""
    return path.with_name(f"{path.name}.json")


def is_ours(path: Path) -> bool:
    """Whether the file at `path` is a NAME.json that this package wrote, and nothing that somebody else put there."""
    return not path.is_symlink() and {"dav2_utils", "fingerprint", "bytes"} <= set(_json(path))


def _together(own: str, sources: Iterable[Said]) -> dict[str, Fact]:
    """All facts of the sources, the first of which may be called `own`: what it says wins."""
    found: dict[str, dict[str, tuple[Any, list[str]]]] = {}
    for source, said in sources:
        for name, value in said.items():
            # 20 and 20.0 are one range
            key = repr(float(value)) if type(value) in (int, float) and abs(value) < 2**53 else repr(value)
            found.setdefault(name, {}).setdefault(key, (value, []))[1].append(source)
    facts = {}
    for name, values in found.items():
        each = tuple(Fact(value, ", ".join(where[:3]) + ", ..." * (len(where) > 3)) for value, where in values.values())
        if len(each) == 1 or f"{each[0].source}, ".startswith(f"{own}, "):
            facts[name] = Fact(each[0].value, each[0].source, each[1:])
        else:
            facts[name] = Fact(None, ", ".join(fact.source for fact in each[:8]), each)
    return facts


# What this package wrote ---------------------------------------------------------------------------------------------


def _written_down(path: Path, size: int) -> Said:
    """NAME.json, provided that it is about a file of this size."""
    notes = facts_path(path)
    facts = _json(notes)
    return notes.name, _checked(facts) if facts.get("bytes") == size else {}


def _plain(header: Mapping[str, str]) -> dict[str, Any]:
    facts: dict[str, Any] = dict(sorted(header.items()))  # safetensors writes its header in any order
    for name, text in header.items():
        with contextlib.suppress(ValueError, RecursionError):
            facts[name] = json.loads(text, parse_constant=str)
    return _checked(facts)


def _checked(facts: dict[str, Any]) -> dict[str, Any]:
    """The facts without those that are true of one file only, and without an impossible range."""
    fits = is_max_depth(facts.get("max_depth"))
    return {name: fact for name, fact in facts.items() if name not in _OF_ONE_FILE and (fits or name != "max_depth")}


def _json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty if there is none, or not one of a size that such files have."""
    with contextlib.suppress(OSError, ValueError, RecursionError):
        if path.is_file() and path.stat().st_size <= MOST_FACTS:  # a pipe or a device would never end
            with path.open("rb") as file:
                found = json.loads(file.read(MOST_FACTS + 1).decode("utf-8"), parse_constant=str)
            return found if isinstance(found, dict) else {}
    return {}


# What others wrote ---------------------------------------------------------------------------------------------------


def _name(path: Path, encoder: str | None) -> Said:
    """What an official file is called."""
    name = path.name.lower()
    if (found := _METRIC_NAME.search(name)) and encoder in ENCODERS and found[2] in (None, encoder):
        return "file name", {"depth": "metric", "max_depth": _RANGES[found[1]]}
    found = _RELATIVE_NAME.fullmatch(name)
    return "file name", {"depth": "relative"} if found and found[1] == encoder else {}


def _logs(folder: Path, encoder: str | None) -> Iterator[Said]:
    """The logs of the official recipe for this encoder, the newest first."""
    names: list[str] = []
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        names = [entry.name for entry in itertools.islice(entries, _MOST_ENTRIES) if _LOG_NAME.fullmatch(entry.name)]
    for name in sorted(names, reverse=True)[:MOST_LOGS] if encoder else ():
        arguments = read_arguments(folder / name)
        if arguments.get("encoder") == encoder:
            yield name, arguments


def read_arguments(log: Path) -> dict[str, Any]:
    """What the first record of an official log says about the training: the script's arguments, as Python prints them.

    Of them `max_depth`, `min_depth` (metres), `encoder`, `dataset`, `pretrained_from` and `img_size` (pixels), as far
    as they are there and make sense; with a `max_depth` the training was a metric one.
    """
    text = ""
    with contextlib.suppress(OSError):
        if log.is_file():
            with log.open("rb") as file:
                text = file.read(MOST_OF_A_LOG).decode("utf-8", "replace").replace("\r\n", "\n")
    start = _ARGUMENTS.search(text)
    end = text.find("}\n", start.end(), start.end() + _LONGEST_RECORD) if start else -1
    record = text[start.end() : end + 1] if start and end > 0 else ""
    if not record or sum(map(record.count, "([{-+~")) > _MOST_NESTED:
        return {}
    try:
        arguments = ast.literal_eval(record)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return {}
    return _arguments(arguments) if isinstance(arguments, dict) else {}


def _arguments(said: Mapping[Any, Any]) -> dict[str, Any]:
    encoder, size, least = said.get("encoder"), said.get("img_size"), said.get("min_depth")
    facts: dict[str, Any] = {"encoder": encoder} if isinstance(encoder, str) and encoder in ENCODERS else {}
    if is_max_depth(said.get("max_depth")):
        facts |= {"depth": "metric", "max_depth": float(said["max_depth"])}
    if is_max_depth(least) or (least == 0 and type(least) in (int, float)):
        facts["min_depth"] = float(said["min_depth"])
    texts = {name: said.get(name) for name in ("dataset", "pretrained_from")}
    facts |= {name: text for name, text in texts.items() if isinstance(text, str) and 0 < len(text) <= 1000}
    return facts | ({"img_size": size} if type(size) is int and 0 < size < 10**6 else {})


def _configuration(said: Mapping[str, Any], encoder: str | None, width: int) -> dict[str, Any]:
    """`config.json` of the package depth-estimation (`is_metric`) or of transformers (`depth_estimation_type`)."""
    inner = said.get("backbone_config")
    widths = [said.get("reassemble_hidden_size"), inner.get("hidden_size") if isinstance(inner, dict) else None]
    if isinstance(said.get("is_metric"), bool):
        kind = "metric" if said["is_metric"] else "relative"
        widths = [said.get("embed_dim")]
    elif said.get("model_type") in ("depth_anything", "prompt_depth_anything"):
        kind = said.get("depth_estimation_type", "relative")  # older versions leave out what is the default
    else:
        return {}
    backbone = said.get("backbone")
    other = isinstance(backbone, str) and backbone in ENCODERS and backbone != encoder
    if other or any(type(size) is int and size != width for size in widths) or kind not in ("metric", "relative"):
        return {}
    metric = kind == "metric" and is_max_depth(said.get("max_depth"))
    return {"depth": kind} | ({"max_depth": float(said["max_depth"])} if metric else {})


def _training(content: Any, encoder: str | None) -> Iterator[Said]:
    """What the training script left in the file: only the metric one is public, and writes these two."""
    entries = mapping(content) if encoder else None
    if entries is None:
        return
    if set(map(str, mapping(entries.get("previous_best")) or ())) >= _SCORES:
        yield "previous_best", {"depth": "metric"}
    groups = (mapping(entries.get("optimizer")) or {}).get("param_groups")
    if isinstance(groups, list) and len(groups) == 2:
        slow, fast = ((mapping(group) or {}).get("lr") for group in groups)
        if isinstance(slow, float) and isinstance(fast, float) and slow > 0 and abs(fast / slow - 10) < 1e-6:
            yield "optimizer", {"depth": "metric"}
