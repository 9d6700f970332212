"""The names in a pickle exchanged, and nothing else: optimizer, epoch and objects of strangers stay as they are.

Only the instructions that push the names of the chosen dictionary, and of its `_metadata`, are replaced. Where the
pickle uses such a text again elsewhere, by a reference, it is written out there as it was. Nothing is understood or
written anew beyond that. Standard library only.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, BinaryIO

from ..files.archives import data_start
from ..files.checkpoint import Checkpoint
from ..files.placeholders import Ordered
from ..files.weightsets import mapping as mapping_of
from .plan import Plan, Span, crc32
from .source import open_archive
from .torch_zip import Entry, lay_out
from .tracing import FRAME, Instruction, Trace, trace

_TEXTS = frozenset(b"XV\x8c\x8dTUS")  # the instructions that push a text: BINUNICODE and its kin
_GETS, _PUTS, _DUP = frozenset(b"ghj"), frozenset(b"pqr\x94"), ord("2")


def plan_renaming(
    opened: Checkpoint, source: BinaryIO, path: tuple[str, ...], mapping: Mapping[str, str]
) -> Plan | None:
    """The archive with `mapping` (old name -> new name) applied to the dictionary under `path`; None if it cannot be.

    Every record but the pickle is copied; what the writer said of its checksum is checked.
    """
    archive, data = open_archive(opened, source)
    records = archive.records.values()
    followed = trace(data)
    pickle = renamed_pickle(data, followed, dictionary_at(followed.value, path), mapping)
    if pickle is None or any(record.method or record.flags & 1 for record in records):
        return None
    entries, checks = [], []
    for record in records:
        name = record.name.partition("/")[2]
        if name.lower() == "data.pkl":
            entries.append(Entry("archive/data.pkl", pickle, zlib.crc32(pickle)))
            continue
        span = Span(data_start(source, record), record.size)
        entries.append(Entry(f"archive/{name}", span, record.crc or crc32(source, span)))
        checks += [(record.name, span, record.crc)] if record.crc else []
    plan = lay_out(entries)
    plan.checks = checks
    return plan


def dictionary_at(value: Any, path: tuple[str, ...]) -> Any:
    """What lies under `path` in nested dictionaries, lists and tuples; None if nothing does."""
    for part in path:
        entries = mapping_of(value) or {}
        if isinstance(value, (list, tuple)):
            entries = {str(place): one for place, one in enumerate(value)}
        value = entries.get(part)
    return value


def renamed_pickle(data: bytes, followed: Trace, chosen: Any, mapping: Mapping[str, str]) -> bytes | None:
    """`data` with the names of the dictionary `chosen` exchanged; None if they are not simply written there."""
    wanted = _exchanges(followed, chosen, mapping)
    inner = chosen.state.get("_metadata") if isinstance(chosen, Ordered) else None
    if isinstance(inner, dict) and inner:
        paths = module_paths(mapping)
        moved = {path: moved_path(path, paths) for path in inner if isinstance(path, str)}
        more = _exchanges(followed, inner, moved)
        wanted = None if wanted is None or more is None else wanted | more
    if wanted is None:
        return None
    changed: dict[int, str] = {}  # places of the memo that hold another text than before
    slots = set[int]()
    parts = []
    for index, one in enumerate(followed.instructions):
        text = _text_for(index, one, wanted, changed, data)
        if one.code in _PUTS:
            slots.add(slot := len(slots) if one.code == 0x94 else _slot(one, data))
            changed.pop(slot, None)
            if one.pushed_by in wanted and wanted[one.pushed_by] != one.top:
                changed[slot] = wanted[one.pushed_by]
        if one.code == _DUP and isinstance(one.top, str):
            return None
        if one.code != FRAME:  # a frame's length would no longer be true, and frames may be left out
            parts.append(data[one.start : one.end] if text is None else _push(text))
    return b"".join([*parts, b"."])


def _exchanges(followed: Trace, dictionary: Any, mapping: Mapping[str, str]) -> dict[int, str] | None:
    """What each instruction that pushed a name of `dictionary` is to push; None if the names are not `mapping`'s."""
    sites = followed.names.get(id(dictionary), [])
    names = [followed.instructions[site].top for site in sites]
    codes = {followed.instructions[site].code for site in sites}
    if not isinstance(dictionary, dict) or not codes <= _TEXTS | _GETS or sorted(map(str, names)) != sorted(mapping):
        return None
    return {site: mapping[name] for site, name in zip(sites, names, strict=True)}


def _text_for(
    index: int, one: Instruction, wanted: Mapping[int, str], changed: Mapping[int, str], data: bytes
) -> str | None:
    """The text to push in place of the instruction; None if it may stay as it is."""
    want = wanted.get(index, one.top)
    if one.code in _TEXTS:
        return str(want) if want != one.top else None
    if one.code in _GETS and isinstance(one.top, str):
        return want if changed.get(_slot(one, data), one.top) != want else None
    return None


def _slot(one: Instruction, data: bytes) -> int:
    """The place in the memo that a PUT or a GET names."""
    argument = data[one.start + 1 : one.end]
    return int(argument) if one.code in b"pg" else int.from_bytes(argument, "little")


def _push(text: str) -> bytes:
    encoded = text.encode("utf-8", "surrogatepass")
    return b"X" + struct.pack("<I", len(encoded)) + encoded


Place = tuple[list[str], int]  # the components of a name, and how many of them are a module's path


def _marks(parts: Sequence[str]) -> list[int]:
    """A hash for each beginning of a path, the empty one first: the beginnings themselves would fill gigabytes."""
    marks = [0]
    for part in parts:
        marks.append(hash((marks[-1], part)))
    return marks


def module_paths(mapping: Mapping[str, str]) -> dict[int, Place]:
    """Mark of an old module path -> new module path, as the names of the tensors in the modules moved."""
    paths: dict[int, Place] = {}
    for old, new in mapping.items():
        before, after = old.split("."), new.split(".")
        marks, i, j = _marks(before), len(before) - 1, len(after) - 1
        paths[marks[i]] = after, j
        while i > 0:
            if j > 0 and before[i - 1] == after[j - 1]:
                i, j = i - 1, j - 1
            elif i > j:
                i -= 1  # a component that went
            else:
                j -= 1  # a component that came
                continue
            paths.setdefault(marks[i], (after, j))
    return paths


def moved_path(path: str, paths: Mapping[int, Place]) -> str:
    """The new place of a module; one without tensors moves with the nearest module around it."""
    parts = path.split(".") if path else []
    marks = _marks(parts)
    known = next((k for k in range(len(parts), 0, -1) if marks[k] in paths), 0)
    after, j = paths.get(marks[known], ([], 0))
    return ".".join([*after[:j], *parts[known:]])
