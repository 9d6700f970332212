"""A repair without torch: the chosen tensors copied as they are, under new names, and the copy proved.

Two things go on side by side: the copy, forced to the disk and compared with the source byte for byte; and a look at
the source, whether it still has the checksums that were written with it, and the fingerprint of its tensors.
Standard library only.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..diagnosis.report import Diagnosis
from ..errors import ArchiveError, WriteError
from ..files.checkpoint import Checkpoint
from ..files.formats import read_content
from ..files.weightsets import tensor_info
from ..writing.plan import Plan, Span, carry_out, check_source, compare, fingerprint
from ..writing.renaming import dictionary_at, plan_renaming
from ..writing.safetensors import plan_safetensors
from ..writing.source import Located, locate
from ..writing.torch_zip import plan_torch_zip
from .stripping import renamed
from .writing import in_parallel


class Copied(NamedTuple):
    """A plan, and the tensors that it is for, under their new names."""

    plan: Plan
    state: OrderedDict[str, Located]
    path: tuple[str, ...]  # where in the new file they are


def plan_copy(
    opened: Checkpoint, diagnosis: Diagnosis, source: BinaryIO, format: str, keep: bool, facts: Mapping[str, Any]
) -> Copied | None:
    """How to write what `diagnosis` says to a file of `format` (`pth`, `safetensors`); None if it takes torch.

    `keep`: everything else in the file stays, and only the names change.
    """
    with contextlib.suppress(ArchiveError):  # a record that is not what it says: torch may know better, or say why
        found = None if keep and opened.format != "torch-zip" else _located(opened, diagnosis, source)
        if found is None:
            return None
        state = renamed(found, diagnosis.rename)
        if keep:
            plan = plan_renaming(opened, source, diagnosis.path, diagnosis.rename)
        elif format == "safetensors":
            plan = plan_safetensors(state, facts)
        else:
            plan = plan_torch_zip(state, source)
        return Copied(plan, state, diagnosis.path if keep else ()) if plan else None
    return None


def _located(opened: Checkpoint, diagnosis: Diagnosis, source: BinaryIO) -> OrderedDict[str, Located] | None:
    """Where each tensor lies, whatever set of `diagnosis.parts` it is in; None if it takes torch."""
    sets = [(weights, names) for path, names in diagnosis.parts if (weights := opened.at(path))]
    table = {name: weights.table[name] for weights, names in sets for name in names}
    places = locate(opened, table, source)
    found = OrderedDict((name, one) for name, one in places if one and one.copyable)
    if len(found) < len(table) or not diagnosis.rename or not diagnosis.rename.keys() <= table.keys():
        return None
    if len(sets) == 1:
        found._metadata = sets[0][0].metadata  # type: ignore[attr-defined]
    return found


def fingerprint_of(opened: Checkpoint, diagnosis: Diagnosis) -> str | None:
    """The fingerprint that a repair would have, from the source alone; None if it takes torch."""
    with opened.file.open("rb", buffering=0) as source, contextlib.suppress(ArchiveError):
        if found := _located(opened, diagnosis, source):
            return _fingerprint({new: found[old] for old, new in diagnosis.rename.items()}, source)
    return None


def write_copy(copied: Copied, source: BinaryIO, target: Path) -> str:
    """Carry the plan out at `target`, prove it, and give the fingerprint of the tensors.

    Raises `WriteError` if the result differs from the source, or the source from its own checksums, and
    `SourceChanged` where the source ends too early.
    """
    with target.open("r+b", buffering=0) as file:
        digest, same = in_parallel(lambda: _look(copied, source), lambda: _copy(copied.plan, source, file))
    if not same or not _lies_there(copied, target):
        raise WriteError("What was written is not what was read", do="Check the disk; the new file was deleted")
    return str(digest)


def _copy(plan: Plan, source: BinaryIO, file: BinaryIO) -> bool:
    carry_out(plan, source, file)
    os.fsync(file.fileno())
    return compare(plan, source, file)


def _look(copied: Copied, source: BinaryIO) -> str:
    check_source(copied.plan, source)
    return _fingerprint(copied.state, source)


def _fingerprint(state: Mapping[str, Located], source: BinaryIO) -> str:
    return fingerprint((name, one.info.dtype, one.info.shape, partial(one.read, source)) for name, one in state.items())


def _lies_there(copied: Copied, target: Path) -> bool:
    """Whether our own reader finds each tensor in `target` at the place to which its bytes were copied."""
    content = read_content(target)
    again = Checkpoint(target, content.format, copied.plan.size, [], mark=content.mark)
    entries = dictionary_at(content.value, copied.path) or {}
    table = {name: info for name, value in entries.items() if (info := tensor_info(value))}
    with target.open("rb", buffering=0) as file:
        found = dict(locate(again, table, file))
    if list(found) != list(copied.state) and again.format != "safetensors":
        return False
    # place in the target -> place in the source, where a range begins
    came_from = {place: part.start for place, _, part in copied.plan.placed() if isinstance(part, Span)}
    for name, one in copied.state.items():
        there = found.get(name)
        if there is None or there.info != one.info or there.stride != one.stride:
            return False
        start = came_from.get(there.storage.span.start)
        if one.span.size and (start is None or start + there.span.start - there.storage.span.start != one.span.start):
            return False
    return True
