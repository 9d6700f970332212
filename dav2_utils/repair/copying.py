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
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..diagnosis.report import Diagnosis
from ..errors import ArchiveError, WriteError
from ..files.checkpoint import Checkpoint, inspect_file
from ..writing.plan import Plan, Span, carry_out, check_source, compare, fingerprint
from ..writing.renaming import plan_renaming
from ..writing.safetensors import plan_safetensors
from ..writing.source import Followed, Located, follow, locate, locate_safetensors
from ..writing.torch_zip import plan_torch_zip
from .stripping import renamed

_NOT_WHAT_WAS_READ = "What was written is not what was read"


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
        return _plan(opened, diagnosis, source, format, keep, facts)
    return None


def _plan(
    opened: Checkpoint, diagnosis: Diagnosis, source: BinaryIO, format: str, keep: bool, facts: Mapping[str, Any]
) -> Copied | None:
    followed = follow(source, opened.bytes) if opened.format == "torch-zip" else None
    found = None if keep and followed is None else _located(opened, diagnosis, source, followed)
    if found is None or not diagnosis.rename or any(name not in found for name in diagnosis.rename):
        return None
    state = renamed(found, diagnosis.rename)
    if keep and followed:
        plan = plan_renaming(followed, diagnosis.path, diagnosis.rename)
    elif format == "safetensors":
        plan = plan_safetensors(state, facts)
    else:
        plan = plan_torch_zip(state, source)
    return Copied(plan, state, diagnosis.path if keep else ()) if plan else None


def _located(
    opened: Checkpoint, diagnosis: Diagnosis, source: BinaryIO, followed: Followed | None
) -> OrderedDict[str, Located] | None:
    """Where each tensor lies, whatever set of `diagnosis.parts` it is in; None if it takes torch."""
    if opened.format == "safetensors":
        return locate_safetensors(opened, source)
    places = [locate(followed, path) if followed else None for path, _ in diagnosis.parts]
    if len(places) == 1 or None in places:
        return places[0] if len(places) == 1 else None
    return OrderedDict((name, one[name]) for one, (_, names) in zip(places, diagnosis.parts, strict=True) if one
                       for name in names if name in one)  # fmt: skip


def fingerprint_of(opened: Checkpoint, diagnosis: Diagnosis) -> str | None:
    """The fingerprint that a repair would have, from the source alone; None if it takes torch."""
    with opened.file.open("rb", buffering=0) as source, contextlib.suppress(ArchiveError):
        followed = follow(source, opened.bytes) if opened.format == "torch-zip" else None
        found = _located(opened, diagnosis, source, followed)
        if found and diagnosis.rename and all(name in found for name in diagnosis.rename):
            return _fingerprint({new: found[old] for old, new in diagnosis.rename.items()}, source)
    return None


def write_copy(copied: Copied, source: BinaryIO, target: Path) -> str:
    """Carry the plan out at `target`, prove it, and give the fingerprint of the tensors.

    Raises `WriteError` if the result differs from the source, or the source from its own checksums, and
    `SourceChanged` where the source ends too early.
    """
    with target.open("r+b", buffering=0) as file, ThreadPoolExecutor(2) as pool:
        copy = pool.submit(_copy, copied.plan, source, file)
        looked = pool.submit(_look, copied, source)
        digest, same = looked.result(), copy.result()
    if not same or not _lies_there(copied, target):
        raise WriteError(_NOT_WHAT_WAS_READ, do="Check the disk; the new file was deleted")
    return digest


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
    again = inspect_file(target)
    with target.open("rb", buffering=0) as file:
        if again.format == "safetensors":
            found = locate_safetensors(again, file)
        else:
            found = locate(follow(file, again.bytes), copied.path)
    if found is None or (list(found) != list(copied.state) and again.format != "safetensors"):
        return False
    came_from: dict[int, int] = {}  # place in the target -> place in the source, where a range begins
    place = 0
    for part in copied.plan.parts:
        if isinstance(part, Span):
            came_from[place] = part.start
        place += part.size if isinstance(part, Span) else len(part)
    for name, one in copied.state.items():
        there = found.get(name)
        if there is None or there.info != one.info or there.stride != one.stride:
            return False
        start = came_from.get(there.storage.span.start)
        if one.span.size and (start is None or start + there.span.start - there.storage.span.start != one.span.start):
            return False
    return True
