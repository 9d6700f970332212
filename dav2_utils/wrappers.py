"""The wrapper components (`module.` and its relatives) that make two tables differ although the weights are the same.

`rename_map` takes them off, or puts them on, one-to-one; `exchange` renames by rule. Standard library only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from .errors import CheckpointError, PrefixError

#: Name components that a wrapper puts into every parameter name below it, and who writes each.
WRAPPERS: dict[str, str] = {
    "module": "DataParallel or DistributedDataParallel",
    "_orig_mod": "torch.compile",
    "_fsdp_wrapped_module": "FullyShardedDataParallel",
    "_fpw_module": "FullyShardedDataParallel (torch 1.11 to 1.12)",
    "_checkpoint_wrapped_module": "activation checkpointing",
    "_forward_module": "Lightning Fabric",
}


#: The classes that put a component into every name below them, by name: some of them need not be installed.
WRAPPER_CLASSES: dict[str, str] = {
    "DataParallel": "module", "DistributedDataParallel": "module", "AveragedModel": "module",
    "DeepSpeedEngine": "module", "OptimizedModule": "_orig_mod", "FullyShardedDataParallel": "_fsdp_wrapped_module",
    "CheckpointWrapper": "_checkpoint_wrapped_module", "_FabricModule": "_forward_module",
}  # fmt: skip


_DEEPEST_OUTER = 4  # components of an attribute prefix, `model.net.` and the like


def wrappers_in(names: Iterable[str]) -> list[str]:
    """The wrapper components in `names`, from the outside in: `["module", "_orig_mod"]` for `module._orig_mod.x`.

    The run at the front of most names is given as it stands, repetitions included (`module.module.x` gives two);
    components deeper inside follow, each once.
    """
    fronts: Counter[tuple[str, ...]] = Counter()
    deeper: dict[tuple[int, str], None] = {}
    for name in names:
        if any(token in name for token in WRAPPERS):
            path = name.split(".")[:-1]
            front = _front(path, WRAPPERS)
            fronts[tuple(path[:front])] += 1
            deeper.update({(depth, part): None for depth, part in enumerate(path[front:]) if part in WRAPPERS})
    most: tuple[str, ...] = max(fronts, key=lambda front: (bool(front), fronts[front]), default=())
    known = set(most)
    others = [part for front in fronts for part in front] + [part for _, part in sorted(deeper)]
    return [*most, *dict.fromkeys(part for part in others if part not in known)]


def bare(name: str, components: AbstractSet[str] = WRAPPERS.keys()) -> str:
    """`name` without its wrapper components. The last component is the tensor's own name and always stays."""
    path = name.split(".")
    if components.isdisjoint(path):
        return name
    return ".".join([part for part in path[:-1] if part not in components] + path[-1:])


def rename_map(
    names: Iterable[str], target: Collection[str] | None = None, components: Sequence[str] | None = None
) -> dict[str, str]:
    """Old name -> new name for every one of `names`, in the same order: wrapper components off, or on, one-to-one.

    With a `target` (the names that the model has) the target decides: a component goes if the target has the name
    without it, comes if the target has the name with it, and stays if the target has it too. One attribute
    prefix common to the weights (`model.`, `net.`) goes only when the target proves it. Without a target, all wrapper
    components go, so a second time there is nothing to do.

    `components` names the components to take off instead of the known `WRAPPERS`. Raises `PrefixError`, with the names
    concerned, if two names would become one, if a component in `components` is not there, and if the target itself has
    it.
    """
    old = list(names)
    tokens = frozenset(WRAPPERS if components is None else components)
    for token in components or ():
        _must_occur(token, old)
    if target is None:
        new = [bare(name, tokens) for name in old]
    else:
        new = _onto(old, set(target), tokens, outer=components is None)
    _must_be_one_to_one(old, new)
    _must_have_gone(components or (), old, new)
    return dict(zip(old, new, strict=True))


def exchange(names: Iterable[str], rename: Mapping[str, str], counts: Counter[str] | None = None) -> dict[str, str]:
    """Old name -> new name for every one of `names`: runs of whole components replaced, all at once, one-to-one.

    `rename`: `{"backbone.blocks.0": "pretrained.blocks", "backbone": "pretrained"}`. The longest run goes first, and no
    component that was replaced is replaced again, so two names can change places. `counts` learns how many names each
    run was found in. Raises `PrefixError` for a run that occurs in no name and if two names would become one, and as
    `check_rename` does.
    """
    if not rename:
        return {name: name for name in names}
    check_rename(rename)
    runs = sorted(((old.split("."), new.split(".")) for old, new in rename.items()), key=lambda run: -len(run[0]))
    found: Counter[str] = Counter() if counts is None else counts
    old = list(names)
    new = [".".join(_exchanged(name.split("."), runs, found)) for name in old]
    if unused := [run for run in rename if not found[run]]:
        found_out = f"No name has {unused[0]!r} as whole components; the names are like {', '.join(map(repr, old[:2]))}"
        raise PrefixError(found_out, do="dav2 inspect FILE --keys prints them all")
    _must_be_one_to_one(old, new, "With these renamings", "Choose new names that no other tensor has")
    return dict(zip(old, new, strict=True))


def check_rename(rename: Mapping[str, str]) -> None:
    """Raises `CheckpointError` (kind `usage`) unless old and new are runs of whole components (`net.layer`)."""
    for run in (run for pair in rename.items() for run in pair):
        if not all(run.split(".")):
            raise CheckpointError(f"{run!r} is not a run of components", "components of names, with dots between them",
                                  "Write OLD=NEW without a dot at either end: layer.msg_mlp=layer.msg_fn",
                                  kind="usage")  # fmt: skip


def _exchanged(parts: list[str], runs: Iterable[tuple[list[str], list[str]]], found: Counter[str]) -> Iterable[str]:
    """The components `parts` with every run exchanged."""
    pieces: list[str | list[str]] = [*parts]  # a list where something was exchanged already
    for old, new in runs:
        at, here = 0, False
        while at <= len(pieces) - len(old):
            if pieces[at] == old[0] and pieces[at : at + len(old)] == old:
                pieces[at : at + len(old)] = [new]
                here = True
            at += 1
        found[".".join(old)] += here
    return (part for piece in pieces for part in (piece if isinstance(piece, list) else [piece]))


def _onto(old: list[str], target: set[str], tokens: AbstractSet[str], outer: bool) -> list[str]:
    """The new names, in the order of `old`, by what the target has."""
    for literal in (old, _without_front(old, tokens)):
        if target.issuperset(literal) and len(set(literal)) == len(old):
            return literal
    by_bare: dict[str, dict[str, None]] = {}
    for name in target:
        by_bare.setdefault(bare(name, tokens), {})[name] = None
    own = _places(target, tokens)
    new = [_closest(name, target, by_bare.get(bare(name, tokens), {}), own, tokens) for name in old]
    if outer and not target.issuperset(new):
        new = _with_outer_prefix(new, target, by_bare, tokens)
    return new


def _closest(name: str, target: set[str], same: Collection[str], own: Collection[int], tokens: AbstractSet[str]) -> str:
    """What the target calls the tensor `name`, where `same` are the target's names that differ in wrappers alone."""
    if name in target:
        return name
    if len(same) == 1:
        return next(iter(same))
    path = name.split(".")
    for front in range(1, min(_front(path[:-1], tokens), 8) + 1 if same else 1):
        if (shorter := ".".join(path[front:])) in same:
            return shorter
    kept, place = [], 0  # not in the target: only the components that the target has at the same place stay
    for part in path[:-1]:
        inner = hash((place, part))
        if part not in tokens:
            kept.append(part)
            place = inner
        elif inner in own:
            kept.append(part)
    return ".".join([*kept, path[-1]])


def _places(names: Iterable[str], tokens: Collection[str]) -> set[int]:
    """Where in a model's modules wrapper components are; by hashes, as the paths themselves grow with their depth."""
    found = set()
    for name in names:
        place = 0
        for part in name.split(".")[:-1] if any(token in name for token in tokens) else ():
            inner = hash((place, part))
            if part in tokens:
                found.add(inner)
            else:
                place = inner
    return found


def _with_outer_prefix(
    names: list[str], target: set[str], by_bare: Mapping[str, Collection[str]], tokens: AbstractSet[str]
) -> list[str]:
    """`names` without, or with, one attribute prefix, if that makes the target complete; otherwise as they are.

    Off: when every name of the target is then there, or more than half of them and nothing under the prefix is left
    over. On: only when names and target then agree completely.
    """
    plain = {name: bare(name, tokens) for name in names}
    hits = len(target.intersection(names))
    off = _one_prefix(plain.values(), by_bare)
    if off and hits < len(target):  # where nothing is missing, what lies under a prefix is a second set
        under = {name: by_bare.get(short.removeprefix(off)) for name, short in plain.items() if short.startswith(off)}
        landed = {name: next(iter(there)) for name, there in under.items() if there and len(there) == 1}
        moved = [landed.get(name) or (plain[name].removeprefix(off) if name in under else name) for name in names]
        covered = len(target.intersection(moved))
        if covered == len(target) or (len(landed) == len(under) and covered > max(hits, len(target) / 2)):
            return moved
    on = _one_prefix(by_bare, set(plain.values()))
    if on and len(by_bare) == len(names) == len(target) and not hits:
        added = [on + plain[name] for name in names]
        if all(name in by_bare for name in added):
            return [next(iter(by_bare[name])) for name in added]
    return names


def _one_prefix(longer: Iterable[str], shorter: Collection[str]) -> str:
    """The one attribute prefix (with its dot) by which most of `longer` become names in `shorter`; empty for a tie."""
    counts: Counter[str] = Counter()
    for name in longer:
        at = name.find(".")
        for _ in range(_DEEPEST_OUTER):
            if at < 0:
                break
            if name[at + 1 :] in shorter:
                counts[name[: at + 1]] += 1
            at = name.find(".", at + 1)
    best = counts.most_common(2)
    return best[0][0] if len(best) == 1 or (len(best) == 2 and best[0][1] > best[1][1]) else ""


def _front(path: Sequence[str], tokens: Collection[str]) -> int:
    """How many wrapper components are at the front of a name's path."""
    return next((i for i, part in enumerate(path) if part not in tokens), len(path))


def _without_front(names: list[str], tokens: AbstractSet[str]) -> list[str]:
    """The same number of leading wrapper components off every name that has any: as many as the least of them has."""
    fronts = [_front(name.split(".")[:-1], tokens) for name in names]
    least = min((front for front in fronts if front), default=0)
    return [name.split(".", least)[-1] if front else name for name, front in zip(names, fronts, strict=True)]


def _must_be_one_to_one(
    old: list[str], new: list[str], how: str = "Without their wrapper components",
    do: str = "These are two sets of weights, or the component belongs to the model: give the model's own names as "
    "target",
) -> None:  # fmt: skip
    if len(set(new)) == len(old):
        return
    taken = Counter(new)
    clash = next(name for name in new if taken[name] > 1)
    rivals = [repr(name) for name, became in zip(old, new, strict=True) if became == clash]
    raise PrefixError(f"{how}, {' and '.join(rivals[:3])} would both become {clash!r}", "one tensor for each name", do)


def _must_occur(token: str, names: list[str]) -> None:
    if not any(token in name.split(".")[:-1] for name in names):
        raise PrefixError(
            f"No name has the component {token!r}; the names begin like {', '.join(map(repr, names[:2]))}",
            f"names such as {token + '.' + (names[0] if names else 'weight')!r}",
            "Leave `components` out to have the wrappers found automatically",
        )


def _must_have_gone(components: Iterable[str], old: list[str], new: list[str]) -> None:
    for token in components:
        kept = [name for name, now in zip(old, new, strict=True) if name == now and token in name.split(".")[:-1]]
        if not any(
            name.split(".").count(token) > now.split(".").count(token) for name, now in zip(old, new, strict=True)
        ):
            listed = ", ".join(map(repr, kept[:3]))
            raise PrefixError(
                f"The component {token!r} is part of the target's own names: {listed}", do="Leave it there"
            )
