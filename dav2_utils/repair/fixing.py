"""A diagnosis carried out on a file: `fix_file`, and `Repair`, which says what was done."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field, replace
from html import escape
from pathlib import Path
from typing import Any

from .._version import __version__
from ..diagnosis.diagnose import diagnose
from ..diagnosis.report import Diagnosis, Step
from ..errors import AlreadyThere, CheckpointError, NotACheckpoint, PathError, WriteError
from ..files.checkpoint import Checkpoint, human, inspect_file
from ..files.unreadable import SUFFIXES
from ..texts import printable
from .reading import as_seen, facts_path, read_facts, read_set, read_tensors, require_dense, tensors_in, walk
from .stripping import StateDict, compact, renamed
from .writing import (
    fingerprint,
    identical,
    in_parallel,
    keep_backup,
    replacing,
    require_space,
    seal,
    write_pth,
    write_safetensors,
    write_text,
)

_MARKS = {"fixed": "✓", "already clean": "✓", "would fix": "→", "loaded": "✓", "refused": "✗", "failed": "✗"}


@dataclass
class Repair:
    """What became of one file. `to_dict()` is its entry in `dav2 fix --json`."""

    source: str
    status: str  # fixed, already clean, would fix, refused, failed; loaded (by load_into)
    target: str | None = None
    reason: str | None = None  # why refused or failed; what the status does not vouch for
    steps: list[Step] = field(default_factory=list)
    tensors: int = 0
    bytes: int = 0  # of the file written
    identical: bool | None = None  # every tensor's bytes, dtype and shape in the target equal the source's
    fingerprint: str | None = None  # see writing.fingerprint
    backup: str | None = None  # with in_place: where the old file is now

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "steps"} | {
            "steps": [step.to_dict() for step in self.steps]
        }

    def __str__(self) -> str:
        lines = [f"{_MARKS[self.status]} {self.status}: {self.source}"]
        if self.target and self.target != self.source and self.status in ("fixed", "would fix"):
            lines[0] += f" -> {self.target}"
        lines += [f"  {self.reason}"] if self.reason else []
        lines += [f"  {'; '.join(map(str, self.steps))}"] if self.steps else []
        if self.identical:
            lines.append(
                f"  {self.tensors} tensors, {human(self.bytes)}, every byte as in the source; {self.fingerprint}"
            )
        lines += [f"  the old file is now {self.backup}"] if self.backup else []
        return "\n".join(printable(line, 2000) for line in lines)

    __repr__ = __str__  # what a notebook keeps as text

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


@dataclass(frozen=True)
class _Wish:
    """What the caller asked for."""

    target: Path
    format: str
    in_place: bool = False
    keep_training_state: bool = False
    select: str | None = None
    max_depth: float | None = None
    dry_run: bool = False
    force: bool = False
    must_write: bool = False  # a place, a format or facts were asked for: write even what is clean already


def fix_file(
    path: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, in_place: bool = False,
    format: str | None = None, keep_training_state: bool = False, encoder: str | None = None,
    against: str | os.PathLike[str] | None = None, select: str | None = None, max_depth: float | None = None,
    dry_run: bool = False, force: bool = False,
) -> Repair:  # fmt: skip
    """Write the weights in `path` as a clean state dict, under the names that the model has, and prove it.

    The new file is STEM.fixed.pth (or .safetensors) beside the source, or `output`; `in_place` puts it in the source's
    place and keeps the old one as NAME.bak. `keep_training_state` keeps optimizer, epoch and so on, and changes the
    names alone. `encoder` or `against` (another checkpoint) say what the names should be; without them the encoder is
    inferred. `max_depth`, in metres, is written down with the weights. What cannot be mended is refused, and what
    cannot be read or written fails: `Repair.status` and `.reason` say so, and the source is as it was.

    Raises `CheckpointError` (kind `usage`) only for arguments that do not go together and a path that is not there.
    """
    source = Path(path)
    _check(in_place, output, format, keep_training_state, encoder, against, max_depth)
    if not source.exists():
        raise PathError(source, "is not there", "a checkpoint file")
    try:
        opened = inspect_file(source)
        kind, target = _place(opened, Path(output) if output else None, in_place, format)
        wish = _Wish(target, kind, in_place, keep_training_state, select, max_depth, dry_run, force,
                     must_write=bool(output) or max_depth is not None or _changes_format(opened, kind))  # fmt: skip
        return _fix(opened, diagnose(opened, encoder or against, select), wish)
    except (NotACheckpoint, WriteError) as error:
        return Repair(str(source), "failed", reason=str(error))
    except OSError as error:
        found = f"{error.filename or source}: {error.strerror or error}"
        do = "Look at the path of the new file, its length included, and at the permissions; --output gives another"
        return Repair(str(source), "failed", reason=str(WriteError(found, do=do)))
    except MemoryError:
        return Repair(str(source), "failed", reason=str(WriteError("This needs more memory than there is")))
    except CheckpointError as error:
        return Repair(str(source), "refused", reason=str(error))


def _check(in_place: bool, output: Any, format: str | None, keep: bool, encoder: Any, against: Any, depth: Any) -> None:
    for wrong, text in (
        (in_place and output, "--in-place and --output name two places for the result"),
        (keep and format == "safetensors", "--keep-training-state needs --format pth: safetensors holds tensors alone"),
        (encoder and against, "--encoder and --against both name the target"),
        (format not in (None, "pth", "safetensors"), f"There is no format {format!r}; there are pth and safetensors"),
        (depth is not None and not 0 < depth < float("inf"), f"--max-depth {depth} is no range in metres above 0"),
    ):
        if wrong:
            raise CheckpointError(text, do="Give one of them" if "both" in text or "two" in text else "", kind="usage")


def _place(opened: Checkpoint, output: Path | None, in_place: bool, format: str | None) -> tuple[str, Path]:
    """The format to write and the file to write to; an `output` without a suffix is a folder."""
    source = opened.file
    into = output is not None and (output.is_dir() or not output.suffix)
    named = source if in_place else output if not into else None
    by_name = "" if named is None else "safetensors" if named.suffix == ".safetensors" else "pth"
    kind = format or by_name or ("safetensors" if opened.format == "safetensors" else "pth")
    if by_name and by_name != kind:
        raise CheckpointError(f"{named} would hold {kind} under the name of another format",
                              do="Give the file another name, or leave out --format")  # fmt: skip
    return kind, named or (output / beside(source, kind).name if output else beside(source, kind))


def _changes_format(opened: Checkpoint, kind: str) -> bool:
    return (opened.format == "safetensors") != (kind == "safetensors") or opened.format == "torch-legacy"


def stem(path: Path) -> str:
    """The name without what says that it is a checkpoint: `latest` for latest.pth and for latest.pth.tar."""
    name = path.name
    while Path(name).suffix in SUFFIXES:
        name = Path(name).stem
    return name


def beside(source: Path, kind: str) -> Path:
    return source.with_name(f"{stem(source)}.fixed.{kind}")


def _fix(opened: Checkpoint, diagnosis: Diagnosis, wish: _Wish) -> Repair:
    steps = [step for step in diagnosis.steps if not (wish.keep_training_state and step.do == "unwrap")]
    done = Repair(str(opened.file), "already clean", steps=steps, tensors=len(diagnosis.rename))
    collides = any(found.cause == "duplicate_names" for found in diagnosis.causes)
    if diagnosis.verdict in ("not repairable", "unreadable") or collides:
        return replace(done, status="refused", steps=[], reason=_why_not(diagnosis))
    if diagnosis.verdict == "no target":
        done.reason = _UNCOMPARED + "".join(f" {found.title}: {found.evidence}." for found in diagnosis.causes
                                            if not found.repairable_by_renaming)  # fmt: skip
    if not steps and not wish.must_write:
        return done
    done.target = str(wish.target)
    if wish.target.exists() and not wish.in_place:
        if not wish.target.is_file():
            raise AlreadyThere(wish.target, "It is no file; use --output for another place")
        if wish.target.samefile(opened.file):
            raise AlreadyThere(wish.target, "It is the source itself: use --in-place, which keeps a backup")
        if not wish.force:
            raise AlreadyThere(wish.target)
    if wish.dry_run:
        return replace(done, status="would fix")
    facts = read_facts(opened) | _facts(diagnosis, steps, wish.max_depth, opened.file.name)
    wish.target.parent.mkdir(parents=True, exist_ok=True)
    if wish.format == "pth":
        with contextlib.suppress(FileNotFoundError):
            os.lstat(facts_path(wish.target))  # a name that is too long says so now, and not when half is written
    result = _write(opened, diagnosis, wish, facts)
    return replace(done, status="fixed", identical=True, **result)


_UNCOMPARED = ("Not compared with a model, as no encoder fits: prefixes and containers are all that was looked at. "
               "--encoder or --against names the model.")  # fmt: skip


def _why_not(diagnosis: Diagnosis) -> str:
    """The first cause that no renaming mends, with what to do about it."""
    worst = next((found for found in diagnosis.causes if not found.repairable_by_renaming), None)
    if worst is None:
        return "The tables differ"
    return f"{worst.title}{worst.detail and f' ({worst.detail})'}: {worst.evidence}. {worst.remedy}"


def _facts(diagnosis: Diagnosis, steps: list[Step], max_depth: float | None, source: str) -> dict[str, Any]:
    """What the tensors do not hold. Nothing is written about the depth unless somebody said it."""
    import torch

    facts: dict[str, Any] = {"encoder": diagnosis.encoder} if diagnosis.encoder else {}
    if max_depth is not None:
        facts |= {"depth": "metric", "max_depth": max_depth}
    facts |= {"torch": torch.__version__, "dav2_utils": __version__, "source": source}
    return facts | {"steps": [step.to_dict() for step in steps]}


def _write(opened: Checkpoint, diagnosis: Diagnosis, wish: _Wish, facts: dict[str, Any]) -> dict[str, Any]:
    """Write, read back, compare, name. Gives what `Repair` wants to know of it."""
    path = diagnosis.path
    if wish.keep_training_state:
        content = read_tensors(opened)
        for name, tensor in tensors_in(content):
            require_dense(tensor, name)
        state = renamed(as_seen(walk(content, path), opened, path), diagnosis.rename)
        whole = _put(content, path, state)
    else:
        whole = state = compact(renamed(read_set(opened, path), diagnosis.rename))
    require_space(wish.target.parent, sum(tensor.nbytes for _, tensor in tensors_in(whole)))
    backup = None
    with replacing(wish.target, like=opened.file, overwrite=wish.in_place or wish.force) as temporary:
        if wish.format == "safetensors":
            write_safetensors(state, temporary, facts)
        else:
            write_pth(whole, temporary)
        digest = prove(temporary, whole, state, path if wish.keep_training_state else ())
        size = temporary.stat().st_size
        if wish.in_place:
            backup = str(keep_backup(opened.file))
    if wish.format == "pth":
        write_text(facts_path(wish.target), facts | {"fingerprint": digest, "bytes": size})
    return {"bytes": size, "fingerprint": digest, "backup": backup}


def prove(written: Path, whole: Any, state: StateDict, path: tuple[str, ...] = ()) -> str:
    """Read `written` back and compare every byte with `whole`; the fingerprint of the state dict under `path` in it.

    Raises `WriteError` when anything differs.
    """
    again = inspect_file(written)
    back = read_tensors(again, mmap=os.name != "nt")  # nobody else knows the name of this file yet
    pairs = list(zip(tensors_in(whole), tensors_in(back), strict=True)) if again.format != "safetensors" else [
        ((name, tensor), (name, back[name])) for name, tensor in state.items()
    ]  # fmt: skip
    jobs = [lambda: identical((a, b) for (_, a), (_, b) in pairs), lambda: fingerprint(walk(back, path))]
    if again.format == "torch-zip":
        jobs.append(lambda: seal(written))
    same, digest, *_ = in_parallel(*jobs)
    if not same or any(a != b for (a, _), (b, _) in pairs) or list(walk(back, path)) != list(state):
        raise WriteError("What was written is not what was read", do="Look at the disk; the new file was thrown away")
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
