"""Two tables in, a `Diagnosis` out: why they differ, and the steps that make them agree. Standard library only."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..advice import advice, another, resume, theirs
from ..encoders import ENCODERS, infer_encoder, table_for
from ..errors import AmbiguousSets, CheckpointError, NotACheckpoint, NoWeights, PrefixError, TooMuch
from ..families import Recognised, recognise
from ..files.checkpoint import Checkpoint, inspect_file
from ..files.checkpoint import select as choose
from ..files.facts import believed
from ..files.placeholders import extra
from ..files.weightsets import WeightSet, find_sets
from ..keys import Table, TensorInfo
from ..texts import say
from ..wrappers import WRAPPERS, bare, exchange, rename_map, wrappers_in
from ..writing.unusable import unusable
from .causes import CAUSES, CauseFound, Finding
from .difference import bookkeeping, of_tables
from .report import UNKNOWABLE, Diagnosis, Step
from .rules import carried_out, causes_of, transformers_encoder, without_target


def diagnose(
    source: Any, target: Any = None, select: str | None = None, rename: Mapping[str, str] | None = None
) -> Diagnosis:
    """Why the weights in `source` do not load into `target`, all causes at once, and the steps that are certain.

    `source`: a path, a `Checkpoint`, a state dict (or a dictionary around one), a table or an `nn.Module`. `target`:
    an encoder's name, a module, a path or a table; without one the encoder is inferred, and if that fails the
    verdict is `wrapped`, or `no target` if there is nothing to take off. `select` names the set of weights if
    `source` holds several, or those to be joined (`encoder,decoder`). `rename`: runs of components to exchange first
    (see `wrappers.exchange`). Something that isn't a checkpoint gets the verdict `unreadable`. Raises `CheckpointError`
    for a path that is not there, for several sets and no `select`, for a renaming that is not one-to-one, and for a
    target that cannot be read.
    """
    try:
        opened = _open(source)
        chosen = choose(opened, select)
    except (NotACheckpoint, NoWeights) as error:
        return _unreadable(source, error)
    whole, parts = chosen, chosen.parts
    counts: Counter[str] = Counter()
    first = exchange(chosen.table, rename or {}, counts)
    chosen = replace(chosen, table={new: chosen.table[old] for old, new in first.items()})
    known = recognise(chosen.table)
    encoder = infer_encoder(chosen.table) or transformers_encoder(chosen.table)
    goal, label = _target(target, None if another(known, chosen.table) else encoder, chosen.table)
    result = Diagnosis("no target", encoder, file=_path(source), target=label, format=opened.format, known=known)
    result.path, result.parts, result.facts = chosen.path, parts, opened.facts
    _container(result, opened, chosen)
    result.steps += [Step("rename", token=old, to=new, keys=counts[old]) for old, new in (rename or {}).items()]
    result._found = _mapped(result, chosen.table, goal)
    _judge(result, result._found, goal)
    _unusable(result, opened, whole)
    result.rename = {old: result.rename[new] for old, new in first.items() if new in result.rename}
    return result


def _mapped(result: Diagnosis, table: Table, goal: Table | None) -> Table:
    """The table under its new names, with the steps that lead there."""
    try:
        result.rename = rename_map(table, goal)
    except PrefixError as error:
        result.rename = {name: name for name in table}
        result.causes.append(CauseFound("duplicate_names", "", error.found, error.do))
    _prefixes(result, table)
    return {new: table[old] for old, new in result.rename.items()}


def _judge(result: Diagnosis, found: Table, goal: Table | None) -> None:
    """The causes that the names and shapes show, and the verdict; what is not in them where it is one of ours."""
    if goal is None:
        result.causes += [finding.said() for finding in without_target(found)]
        result.verdict = "wrapped" if result.steps else "no target"
        return
    _compare(result, found, goal)
    if infer_encoder(goal):
        said = {"metric or relative": "depth", "max_depth": "max_depth"}
        result.cannot_be_known = [what for what in UNKNOWABLE if said.get(what) not in believed(result.facts)]


def _unusable(result: Diagnosis, opened: Checkpoint, weights: WeightSet) -> None:
    """What no renaming makes good, whatever the names: slices, and tensors without numbers in them."""
    for found in unusable(opened, weights, result.verdict in ("loads", "repairable")):
        result.causes = [one for one in result.causes if one.cause not in (found.cause, *found.instead)]
        remedy = found.remedy or CAUSES[found.cause].remedy
        result.causes.append(CauseFound(found.cause, found.detail, found.evidence, remedy))
        result.verdict = "not repairable"
    if any(c.cause in _NEVER or (c.cause in _REFUSED and not c.repairable_by_renaming) for c in result.causes):
        result.verdict = "not repairable"


_NEVER = ("sharded_model", "flat_parameters", "duplicate_names")  # no model has such tensors, whatever the target
_REFUSED = ("refused_pickle", "whole_model")


def table_of(source: Any, select: str | None = None) -> Table:
    """The names, shapes and dtypes in a path, a state dict, an `nn.Module`, a `Checkpoint`, or of an encoder's name.

    Raises `CheckpointError` when there is none, or when there are several and `select` names none of them.
    """
    if isinstance(source, str) and source in ENCODERS:
        return table_for(source)
    return choose(_open(source), select).table


def _open(source: Any) -> Checkpoint:
    """`source` as a `Checkpoint`; what is in memory already is looked at where it lies."""
    if isinstance(source, Checkpoint):
        return source
    if isinstance(source, (str, os.PathLike)):
        return inspect_file(source)
    try:
        sets, others = _in_memory(source)
    except TooMuch as error:
        raise CheckpointError(f"This {type(source).__name__} cannot be looked through: {error}") from error
    if not sets:
        raise CheckpointError(
            f"There are no named tensors in this {type(source).__name__}",
            "a path, a state dict, a module or a checkpoint",
        )
    return Checkpoint.in_memory(sets, others)


def _in_memory(source: Any) -> tuple[list[WeightSet], dict[str, Any]]:
    """The sets of weights in what is loaded already, and what is beside them: found as in a file."""
    if not hasattr(source, "state_dict"):
        return find_sets(source, _info)
    entries = source.state_dict().items()  # a module's own: one set, whatever is in it
    table = {str(name): info for name, value in entries if (info := _info(value) or extra(str(name)))}
    return [WeightSet((), table)] if table else [], {}


def _info(value: Any) -> TensorInfo | None:
    """Shape and dtype of whatever has both: a tensor of torch or numpy, or a line of a table."""
    if isinstance(value, type) or not (hasattr(value, "shape") and hasattr(value, "dtype")):
        return None
    return TensorInfo(tuple(map(int, value.shape)), str(value.dtype).removeprefix("torch."))


def _target(target: Any, encoder: str | None, found: Table) -> tuple[Table | None, str | None]:
    """The table to compare with, and what to call it; an encoder's table has the options that the file's names show."""
    name = encoder if target is None else target
    if name is None:
        return None, None
    if isinstance(name, str) and (target is None or name in ENCODERS or not Path(name).exists()):
        bn = any(".resConfUnit1.bn1." in key for key in found)
        return table_for(name, use_bn=bn, use_clstoken=any(".readout_projects." in key for key in found)), name
    label = _path(target) or type(target).__name__
    try:
        return table_of(target), label
    except AmbiguousSets as error:
        raise CheckpointError(
            f"The target: {error.found}", do="Take the set that is meant out first: dav2 fix FILE --select NAME, and "
            "give the file that this writes", kind=error.kind
        ) from error  # fmt: skip


def _path(source: Any) -> str | None:
    if isinstance(source, Checkpoint):
        return None if source.format == "memory" else str(source.file)
    return os.fspath(source) if isinstance(source, (str, os.PathLike)) else None


_SLICED = (".DTensor", ".ShardedTensor")


def _container(result: Diagnosis, opened: Checkpoint, chosen: WeightSet) -> None:
    """What stands between the file and the chosen set of weights: objects that are code, and containers."""
    inside = [path for path, _ in chosen.parts if path]
    places = " and ".join(" > ".join(map(repr, path)) for path in inside)
    readable = opened.format == "torch-zip" and not chosen.elsewhere
    refused = "refused" if opened.globals else "protocol"
    args = {"module": chosen.module, "kind": chosen.elsewhere.rpartition(".")[2], "where": places,
            "path": ", ".join(map(" > ".join, inside)), "globals": tuple(opened.globals),
            "sliced": chosen.elsewhere, "others": ", ".join(list(opened.other_entries)[:6])}  # fmt: skip
    fix = "" if readable else "_once"
    if chosen.elsewhere.endswith(_SLICED):
        result.causes.append(_said("sharded_model", "sharded_kind", args, False))
    elif chosen.module:
        result.causes.append(_said("whole_model", f"whole_model_{refused}{fix}", args, readable))
    elif opened.globals or opened.beyond:
        found = _said("refused_pickle", f"refused_pickle_{refused}{fix}", args, readable)
        more = resume(opened.globals)
        result.causes.append(replace(found, remedy=" ".join(filter(None, (found.remedy, more)))))
    if inside:
        text = "container_path_beside" if args["others"] else "container_path"
        result.causes.append(_said("training_container", text, args, True))
    if inside or opened.globals or opened.beyond or (opened.other_entries and opened.format != "memory"):
        result.steps += [
            Step("unwrap", path=path) for path, _ in chosen.parts
        ]  # load_state_dict takes nothing but what belongs to it


def _said(cause: str, text: str, args: dict[str, Any], repairable: bool) -> CauseFound:
    return Finding(cause, text, (), args).said(repairable)


def _prefixes(result: Diagnosis, table: Table) -> None:
    """Causes and steps for the components that the renaming takes off or puts on."""
    gone: Counter[str] = Counter()
    come: Counter[str] = Counter()
    for old, new in result.rename.items():
        if old == new:
            continue
        off, on = _lost(old, new), _lost(new, old)
        gone.update(off if off or on else _elsewhere(old, new))
        come.update(on if off or on else _elsewhere(new, old))
    wrappers = [token for token in dict.fromkeys(wrappers_in(table)) if token in gone]
    outer = [token for token in gone if token not in WRAPPERS]
    result.steps += [Step("strip", token=token, keys=gone[token]) for token in [*wrappers, *outer]]
    result.steps += [Step("add", token=token, keys=count) for token, count in come.items()]
    for cause, tokens in (("wrapper_prefix", wrappers), ("outer_module_prefix", outer)):
        if tokens:  # the outermost comes first in a name
            around = [say("findings.around", inner=WRAPPERS.get(t, t)) if i else WRAPPERS.get(t, t)
                      for i, t in enumerate(tokens)]  # fmt: skip
            seen = ", ".join(say("findings.in_names", token=t, count=gone[t], all=len(table)) for t in tokens)
            result.causes.append(_said(cause, "prefix", {"around": ", ".join(around), "seen": seen}, True))
    for token, count in come.items():
        name = "model_is_wrapped" if token in WRAPPERS else "missing_outer_prefix"
        result.causes.append(_said(name, "prefix_of_the_model", {"token": token, "count": count}, True))


def _lost(name: str, other: str) -> set[str]:
    """What `name` has and `other` has not: wrapper components, and an attribute prefix in one piece."""
    parts, there = name.split("."), other.split(".")
    outer = {bare(name)[: -len(bare(other)) - 1]} - {""}
    return outer | {part for part in parts if part in WRAPPERS and parts.count(part) > there.count(part)}


def _elsewhere(name: str, other: str) -> set[str]:
    """The wrapper components that two names have in another order: they come off, and go on again as in `other`."""
    places = zip(name.split("."), other.split("."), strict=False)
    return {part for part, there in places if part != there and part in WRAPPERS}


def _compare(result: Diagnosis, found: Table, target: Table) -> None:
    """Fill in what remains, why, and the verdict."""
    diff = of_tables(found, target)
    part = _PART_OF.search(result.file or "")
    agree = len(diff.agree or ())
    outer = any(found.cause == "outer_module_prefix" for found in result.causes) and agree == len(target)
    if part and diff.missing and agree == len(found):
        args = {"part": int(part[1]), "parts": int(part[2]), "agree": agree, "all": len(target)}
        result.causes.append(_said("sharded_model", "sharded_file", args, False))
    elif not outer and not any(found.cause in ("duplicate_names", "sharded_model") for found in result.causes):
        causes = causes_of(diff).causes
        said = [finding.said(finding.cause == "bookkeeping_buffers" and finding.undone) for finding in causes]
        first = causes and causes[0].cause in _FIRST and not agree > len(target) / 2
        result.causes = [*said, *result.causes] if first else [*result.causes, *said]
        for finding in causes:
            result.renaming |= carried_out(finding, found, target)
    # what the larger model around this one had besides, or nothing that was learned
    surplus = [name for name in diff.unexpected if outer or bookkeeping(name)]
    if theirs(result.known) and diff.unexpected and agree == len(target) and not _same(result.known, target):
        result.causes = [found for found in result.causes if found.cause not in ("extra_head", "bookkeeping_buffers")]
        what: dict[str, Any] = {"family": " / ".join(result.known.family), "known": result.family}
        one = _said("different_model", "another_family", what | {"extra": len(diff.unexpected)}, False)
        result.causes.append(replace(one, remedy=" ".join(advice(result.known, result.encoder)) or one.remedy))
        surplus = []
    if surplus:
        result.steps.append(Step("drop", names=tuple(surplus)))
        diff = diff.without(surplus)
        result.rename = {old: new for old, new in result.rename.items() if new not in set(surplus)}
    result.expected, result.matched = len(target), agree
    result.missing, result.unexpected = list(diff.missing), list(diff.unexpected)
    result.size_mismatch = [{"name": n, "file": list(f), "model": list(m)} for n, (f, m) in diff.sizes.items()]
    complete = not diff.names and bool(agree) and all(c.repairable_by_renaming for c in result.causes)
    as_it_is = not result.steps and all(old == new for old, new in result.rename.items())
    result.verdict = "not repairable" if not complete else "loads" if as_it_is else "repairable"
    result._target = target


def _same(known: Recognised, target: Table) -> bool:
    """Whether the target is of the file's own family."""
    return known.family == recognise(target).family


_FIRST = ("different_model", "flat_parameters", "adapter_weights")  # a prefix is the lesser trouble then
_PART_OF = re.compile(r"-0*(\d{1,5})-of-0*(\d{1,5})\.\w+$")

_UNREADABLE = {"empty": "empty_file", "truncated": "truncated_file", "torchscript": "torchscript",
               "torch-tar": "legacy_format", "torch-legacy": "legacy_format"}  # fmt: skip


def _unreadable(source: Any, error: NotACheckpoint | NoWeights) -> Diagnosis:
    name, detail = _UNREADABLE.get(error.format, "not_a_checkpoint"), error.format
    if isinstance(error, NoWeights):
        name, detail = "not_a_checkpoint", say("findings.no_weights.detail")
    found = CauseFound(name, detail, error.found, error.do or CAUSES[name].remedy)
    return Diagnosis("unreadable", causes=[found], file=_path(source), format=error.format)
