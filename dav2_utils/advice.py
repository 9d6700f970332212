"""What to do with a network that is known by its table: who loads it, and whether a Depth Anything is to be had of it.

Standard library only.
"""

from __future__ import annotations

from typing import NamedTuple

from .encoders import infer_encoder
from .families import Recognised, rules
from .keys import Table
from .texts import say
from .wrappers import bare


def another(found: Recognised, table: Table) -> bool:
    """Whether `table`, of which `found` is known, is another network than one of ours.

    So is a larger one around one of ours, unless all that is left besides belongs to a training (a loss, a counter).
    """
    ours = next(set(rule.family) for rule in rules() if rule.ours == "")
    inside = found.contains if found.contains and found.contains.at and set(found.contains.family) <= ours else None
    rest = {bare(name): info for name, info in table.items() if not bare(name).startswith(inside.at)} if inside else {}
    if found.family:
        return not set(found.family) <= ours and (inside is None or bool(rest))
    rest = {name: info for name, info in rest.items() if not _of_a_training(name)}
    return bool(rest) and infer_encoder(rest) is None  # where it is one of ours again, there are two sets


def _of_a_training(name: str) -> bool:
    top = name.partition(".")[0].lower()
    return name.endswith("num_batches_tracked") or any(word in top for word in _TRAINING)


_TRAINING = ("loss", "criterion", "metric", "n_averaged", "num_updates")


class About(NamedTuple):
    """What to do with a network of a family."""

    package: str  # where its class is: a repository, or a name for pip
    cls: str
    rename: dict[str, str]  # runs of components to exchange for the names of Depth Anything V2; mostly empty
    note: str  # of the texts `families.notes`; empty where there is nothing more to say


def about(family: str) -> About:
    """Who loads a network of `family`, and how its names become ours. Raises `KeyError` for a family not known."""
    rule = next((rule for rule in rules() if family in rule.family), None)
    if rule is None:
        raise KeyError(f"there is no family {family!r} in families.json")
    return About(rule.package, rule.cls, dict(rule.rename), rule.note)


def advice(found: Recognised, taken: bool = False) -> list[str]:
    """Sentences on what to do with what was recognised, in the reader's language; none where nothing was.

    Only a Depth Anything is offered to be taken out, unless it is `taken` anyway.
    """
    said = []
    ours = {name for rule in rules() if rule.ours == "" for name in rule.family}
    if found.family:
        package, cls, _, note = about(found.family[0])
        said = [] if set(found.family) <= ours else [say("families.loader", package=package, cls=cls)]
        said += [say(f"families.notes.{note}")] if note else []
    if found.contains and found.contains.at and set(found.contains.family) <= ours and not taken:
        at = found.contains.at
        said.append(say("families.inside", family=" / ".join(found.contains.family), at=at, name=at.rstrip(".")))
    return said
