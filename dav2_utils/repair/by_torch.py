"""Repairs that cannot be copied as they are: read by torch, written by torch, read back and compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..diagnosis.report import Diagnosis
from ..errors import WriteError
from ..files.checkpoint import Checkpoint, inspect_file
from ..writing.disk import require_space
from .reading import as_seen, read_parts, read_tensors, require_dense, tensors_in, walk
from .stripping import StateDict, compact, renamed
from .writing import fingerprint, identical, in_parallel, write_pth, write_safetensors


def write_by_torch(
    opened: Checkpoint, diagnosis: Diagnosis, target: Path, format: str, keep: bool, facts: dict[str, Any]
) -> str:
    """Write what `diagnosis` says to `target` in `format` (`pth`, `safetensors`), and give its fingerprint.

    `keep`: everything else in the file stays, and only the names change. Raises as `prove`, `read_parts` and
    `require_space` do.
    """
    path = diagnosis.path
    if keep:
        content = read_tensors(opened)
        for name, tensor in tensors_in(content):
            require_dense(tensor, name)
        state = renamed(as_seen(walk(content, path), opened, path), diagnosis.rename)
        whole = _put(content, path, state)
    else:
        whole = state = compact(renamed(read_parts(opened, diagnosis.parts), diagnosis.rename))
    require_space(target.parent, sum(tensor.nbytes for _, tensor in tensors_in(whole)))
    if format == "safetensors":
        write_safetensors(state, target, facts)
    else:
        write_pth(whole, target)
    return prove(target, whole, state, path if keep else ())


def fingerprint_by_torch(opened: Checkpoint, diagnosis: Diagnosis) -> str:
    """The fingerprint that a repair would have. Raises as `read_parts` does."""
    return fingerprint(renamed(read_parts(opened, diagnosis.parts), diagnosis.rename))


def prove(written: Path, whole: Any, state: StateDict, path: tuple[str, ...] = ()) -> str:
    """Read `written` back and compare every byte with `whole`; the fingerprint of the state dict under `path` in it.

    Raises `WriteError` when anything differs.
    """
    again = inspect_file(written)
    back = read_tensors(again, mmap=os.name != "nt")  # nobody else knows the name of this file yet
    pairs = list(zip(tensors_in(whole), tensors_in(back), strict=True)) if again.format != "safetensors" else [
        ((name, tensor), (name, back[name])) for name, tensor in state.items()
    ]  # fmt: skip
    same, digest = in_parallel(
        lambda: identical((a, b) for (_, a), (_, b) in pairs), lambda: fingerprint(walk(back, path))
    )
    if not same or any(a != b for (a, _), (b, _) in pairs) or set(walk(back, path)) != set(state):
        raise WriteError("What was written is not what was read", do="Check the disk; the new file was deleted")
    return str(digest)


def _put(content: Any, path: tuple[str, ...], state: StateDict) -> Any:
    """`content` with `state` under `path`; everything else is the same."""
    if not path:
        return state
    if isinstance(content, (tuple, list)):
        return type(content)(
            _put(value, path[1:], state) if str(place) == path[0] else value for place, value in enumerate(content)
        )
    # by name, not by what a key looks like: 1 and "1" are two
    return {name: _put(content[name], path[1:], state) if name == path[0] else content[name] for name in content}
