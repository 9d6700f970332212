"""A diagnosis carried out on a file: `fix_file`, and `Repair`, which says what was done."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from .._version import __version__
from ..diagnosis.diagnose import diagnose
from ..diagnosis.report import Diagnosis, Step, target_line
from ..encoders import check_max_depth
from ..errors import AlreadyThere, CheckpointError, MissingPackage, NotACheckpoint, PathError, SourceChanged, WriteError
from ..files.checkpoint import Checkpoint, inspect_file
from ..files.facts import believed, facts_path, is_ours, no_range
from ..files.unreadable import OTHER_FORMATS, SUFFIXES
from ..texts import printable, say
from ..wrappers import check_rename
from ..writing.disk import require_space
from ..writing.replacing import Place, Seen, replacing_all, write_text
from .by_torch import fingerprint_by_torch, write_by_torch
from .copying import fingerprint_of, plan_copy, write_copy
from .outcome import Repair


@dataclass(frozen=True)
class _Wish:
    """What the caller asked for."""

    target: Path
    format: str
    in_place: bool = False
    keep_training_state: bool = False
    max_depth: float | None = None
    dry_run: bool = False
    force: bool = False
    source: Seen | None = None  # as it was when the reading began
    must_write: bool = False  # a place, a format or facts were asked for: write even what is clean already


def fix_file(
    path: str | os.PathLike[str], output: str | os.PathLike[str] | None = None, *, in_place: bool = False,
    format: str | None = None, keep_training_state: bool = False, encoder: str | None = None,
    against: str | os.PathLike[str] | None = None, select: str | None = None, max_depth: float | None = None,
    dry_run: bool = False, force: bool = False, rename: Mapping[str, str] | None = None,
) -> Repair:  # fmt: skip
    """Write the weights in `path` as a clean state dict, under the names that the model has, and prove it.

    The new file is STEM.fixed.pth (or .safetensors) beside the source, or `output`; `in_place` puts it in the source's
    place and keeps the old one as NAME.bak. `keep_training_state` keeps optimizer, epoch and so on, and changes only
    the names. `encoder` or `against` (another checkpoint) say what the names should be; without them the encoder is
    inferred. `select` takes one set of several, or joins those named (`encoder,decoder`), and is part of the new file's
    name. `rename` replaces runs of whole components, old -> new, at the caller's word (see `wrappers.exchange`).
    `max_depth`, in metres, is recorded with the weights. What cannot be fixed is refused, and what cannot be read or
    written fails: `Repair.status` and `.reason` say so, and the source is as it was. An existing result with exactly
    these weights is left alone.

    Raises `CheckpointError` (kind `usage`) only for arguments that do not go together and a path that is not there.
    """
    source = Path(path)
    _check(in_place, output, format, keep_training_state, encoder, against, max_depth)
    check_rename(rename or {})
    if keep_training_state and "," in (select or ""):
        raise CheckpointError("--keep-training-state leaves every set where it is, and joining takes them out",
                              do="Leave out one of the two", kind="usage")  # fmt: skip
    if not source.exists():
        raise PathError(source, "is not there", "a checkpoint file")
    seen = Seen(source)
    try:
        opened = inspect_file(source)
        kind, target = _place(opened, Path(output) if output else None, in_place, format, select)
        wish = _Wish(target, kind, in_place, keep_training_state, max_depth, dry_run, force, seen,
                     must_write=bool(output) or max_depth is not None or _changes_format(opened, kind))  # fmt: skip
        return _fix(opened, diagnose(opened, encoder or against, select, rename), wish)
    except (CheckpointError, OSError, MemoryError, ImportError) as error:
        return _not_done(seen, error)


def _not_done(seen: Seen, error: CheckpointError | OSError | MemoryError | ImportError) -> Repair:
    """What is said of a file that `error` came of; when it changed meanwhile, that is the reason."""
    if isinstance(error, OSError):
        found = f"{error.filename or seen.path}: {error.strerror or error}"
        do = "Check the new file's path, its length too, and the permissions; --output sets another path"
        error = WriteError(found, do=do)
    if isinstance(error, ImportError):
        error = MissingPackage(error)
    if isinstance(error, MemoryError):
        error = WriteError("This needs more memory than there is")
    try:
        seen.check()
    except SourceChanged as changed:
        error = changed
    status = "failed" if isinstance(error, (NotACheckpoint, WriteError, MissingPackage)) else "refused"
    return Repair(str(seen.path), status, reason=str(error))


def _check(in_place: bool, output: Any, format: str | None, keep: bool, encoder: Any, against: Any, depth: Any) -> None:
    for wrong, text in (
        (in_place and output, "--in-place and --output name two places for the result"),
        (keep and format == "safetensors", "--keep-training-state needs --format pth: safetensors takes only tensors"),
        (encoder and against, "--encoder and --against both name the target"),
        (format not in (None, "pth", "safetensors"), f"There is no format {format!r}; there are pth and safetensors"),
    ):
        if wrong:
            raise CheckpointError(text, do="Give one of them" if "both" in text or "two" in text else "", kind="usage")
    check_max_depth(depth)
    if output and Path(output).suffix.lower() in OTHER_FORMATS and not Path(output).is_dir():
        raise CheckpointError(f"The name {printable(Path(output).name)} asks for a format that is not available here",
                              ".pth or .safetensors", "Give the file a name like that", kind="usage")  # fmt: skip


def _place(
    opened: Checkpoint, output: Path | None, in_place: bool, format: str | None, select: str | None
) -> tuple[str, Path]:  # fmt: skip
    """The format to write and the file to write to; an `output` without a suffix is a folder."""
    source = opened.file
    into = output is not None and (output.is_dir() or not output.suffix)
    named = source if in_place else output if not into else None
    by_name = "" if named is None else "safetensors" if named.suffix == ".safetensors" else "pth"
    kind = format or by_name or ("safetensors" if opened.format == "safetensors" else "pth")
    if by_name and by_name != kind:
        raise CheckpointError(f"{named} would hold {kind} under the name of another format",
                              do="Give the file another name, or leave out --format")  # fmt: skip
    new = beside(source, kind, select)
    return kind, named or (output / new.name if output else new)


def _changes_format(opened: Checkpoint, kind: str) -> bool:
    return (opened.format == "safetensors") != (kind == "safetensors") or opened.format == "torch-legacy"


def stem(path: Path) -> str:
    """The name without what says that it is a checkpoint: `latest` for latest.pth and for latest.pth.tar."""
    name = path.name
    while Path(name).suffix in SUFFIXES:
        name = Path(name).stem
    return name


def beside(source: Path, kind: str, select: str | None = None) -> Path:
    """STEM.fixed.pth, or STEM.SET.fixed.pth, so that several sets of one file have a place each."""
    return source.with_name(f"{stem(source)}{of_set(select)}.fixed.{kind}")


def of_set(select: str | None) -> str:
    """What is in a file's name for the set that was chosen."""
    return "." + re.sub(r"[^\w.,-]", "_", select)[:60].strip(".") if select else ""


def _fix(opened: Checkpoint, diagnosis: Diagnosis, wish: _Wish) -> Repair:
    steps = [step for step in diagnosis.steps if not (wish.keep_training_state and step.do == "unwrap")]
    done = Repair(str(opened.file), "already clean", steps=steps, tensors=len(diagnosis.rename))
    collides = any(found.cause == "duplicate_names" for found in diagnosis.causes)
    if diagnosis.verdict in ("not repairable", "unreadable") or collides:
        return replace(done, status="refused", steps=[], reason=_why_not(diagnosis))
    if diagnosis.verdict in ("no target", "wrapped"):
        done.status, done.reason = "not compared", _uncompared(diagnosis, bool(steps))
    if not steps and not wish.must_write:
        return done
    done.target = str(wish.target)
    if not wish.force and not wish.in_place and (digest := _written_already(opened, diagnosis, wish)):
        size = wish.target.stat().st_size
        return replace(done, status="already fixed", fingerprint=digest, identical=True, bytes=size)
    _may_write(opened.file, wish)
    if wish.dry_run:
        return replace(done, status="would fix")
    facts = believed(opened.facts) | _facts(diagnosis, steps, wish.max_depth, opened.file.name)
    if facts.get("depth") == "metric" and "max_depth" not in facts:
        done.reason = " ".join(filter(None, (done.reason, f"{no_range(opened.facts)}.")))
    result = _write(opened, diagnosis, wish, facts)
    return replace(done, status="fixed", identical=True, **result)


def _written_already(opened: Checkpoint, diagnosis: Diagnosis, wish: _Wish) -> str | None:
    """The fingerprint of the target if it holds exactly these weights under these names, and the range asked for."""
    if not wish.target.is_file() or wish.target.samefile(opened.file):
        return None
    try:
        there = inspect_file(wish.target)
        path = diagnosis.path if wish.keep_training_state else ()
        weights = there.at(path)
        table = weights.table if weights else {}
        wanted = {new: diagnosis.names[new] for new in diagnosis.rename.values()}
        kind = "safetensors" if there.format == "safetensors" else "pth"
        if kind != wish.format or table != wanted or len(there.sets) != len(opened.sets if path else there.sets[:1]):
            return None
        if wish.max_depth not in (None, believed(there.facts).get("max_depth")):
            return None
        own = replace(diagnosis, rename={name: name for name in table}, parts=[(path, list(table))])
        digest = fingerprint_of(opened, diagnosis) or fingerprint_by_torch(opened, diagnosis)
        same = digest == (fingerprint_of(there, own) or fingerprint_by_torch(there, own))
    except CheckpointError:
        return None
    return digest if same else None


def _may_write(source: Path, wish: _Wish) -> None:
    """Raises unless every path that is about to be written is free, or the caller's to overwrite."""
    if wish.in_place and source.is_symlink():
        raise AlreadyThere(source, f"It is a symbolic link: give the file that it leads to, {source.resolve()}, or "
                                   "use --output for another place")  # fmt: skip
    for path in _paths(wish):
        try:
            os.lstat(path)  # a name that is too long says so now, and not when half is written
        except (FileNotFoundError, NotADirectoryError):
            continue
        own = path == wish.target
        if not path.is_file() and not path.is_symlink():
            raise AlreadyThere(path, "It is not a file; use --output for another place")
        if path.exists() and path.samefile(source) and not (wish.in_place and own):
            what = "It is the source itself: use " + ("--in-place, which keeps a backup" if own else "another --output")
            raise AlreadyThere(path, what)
        if not wish.force and not wish.in_place:
            what = "" if own else f"What is known about {wish.target.name} would go there: "
            raise AlreadyThere(path, f"{what}Use --force to overwrite it, or --output for another place")


def _paths(wish: _Wish) -> list[Path]:
    """What a repair writes: the weights, and NAME.json with the facts where their format has no place for them."""
    return [wish.target, facts_path(wish.target)] if wish.format == "pth" else [wish.target]


def _uncompared(diagnosis: Diagnosis, steps: bool) -> str:
    """What the status does not vouch for, and how to get a model to compare with."""
    more = [f"{found.title}: {found.evidence}." for found in diagnosis.causes if not found.repairable_by_renaming]
    if diagnosis.family:
        more.append(say("report.family", family=diagnosis.family))
    words = say("fix.unwrapped" if steps else "fix.nothing"), *more, target_line(diagnosis.file)
    return " ".join(words)


def _why_not(diagnosis: Diagnosis) -> str:
    """The first cause that no renaming fixes, with what to do about it."""
    worst = next((found for found in diagnosis.causes if not found.repairable_by_renaming), None)
    if worst is None:
        return "The tables differ"
    return f"{worst.title}{worst.detail and f' ({worst.detail})'}: {worst.evidence}. {worst.remedy}"


def _facts(diagnosis: Diagnosis, steps: list[Step], max_depth: float | None, source: str) -> dict[str, Any]:
    """What the tensors do not hold. Nothing is written about the depth unless somebody said it."""
    facts: dict[str, Any] = {"encoder": diagnosis.encoder} if diagnosis.encoder else {}
    if max_depth is not None:
        facts |= {"depth": "metric", "max_depth": float(max_depth)}
    facts |= {"dav2_utils": __version__, "source": source}
    return facts | {"steps": [step.to_dict() for step in steps]}


def _write(opened: Checkpoint, diagnosis: Diagnosis, wish: _Wish, facts: dict[str, Any]) -> dict[str, Any]:
    """Write, read back, compare, name. Gives what `Repair` wants to know of it."""
    places = [Place(path, wish.force, backup=wish.in_place) for path in _paths(wish)]
    for notes in places[1:]:  # nobody named this one, so --force is not about what somebody else wrote there
        notes.backup = wish.in_place or (wish.force and not is_ours(notes.target))
    form, keep = wish.format, wish.keep_training_state
    with opened.file.open("rb", buffering=0) as source:
        copied = plan_copy(opened, diagnosis, source, form, keep, facts)
        if copied:
            require_space(wish.target.parent, copied.plan.size)
        with replacing_all(places, like=opened.file, source=wish.source) as (temporary, *beside):
            if copied:
                digest = write_copy(copied, source, temporary)
            else:
                digest = write_by_torch(opened, diagnosis, temporary, form, keep, facts)
            size = temporary.stat().st_size
            for path_of_facts in beside:
                write_text(path_of_facts, facts | {"fingerprint": digest, "bytes": size})
    kept = [place.kept and str(place.kept) for place in places] + [None]
    written = str(places[1].target) if places[1:] else None
    return {"bytes": size, "fingerprint": digest, "backup": kept[0], "facts": written, "facts_backup": kept[1]}
