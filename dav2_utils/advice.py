"""What to do with a network recognised by its table: what loads it, and whether a Depth Anything can be taken out.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .encoders import infer_encoder
from .families import Recognised, rules
from .keys import Table
from .texts import say
from .wrappers import bare


def another(found: Recognised, table: Table) -> bool:
    """Whether `table`, recognised as `found`, is a network other than ours.

    A larger one around one of ours counts too, unless everything else in it belongs to training (a loss, a counter).
    """
    ours = _ours()
    rest: Table = {}
    if found.contains and found.contains.at and set(found.contains.family) <= ours:
        own = tuple(f"{found.contains.at}{part}." for part in ("pretrained", "depth_head"))
        rest = {short: info for name, info in table.items() if not (short := bare(name)).startswith(own)}
        rest = {name: info for name, info in rest.items() if not _of_a_training(name.removeprefix(found.contains.at))}
        if found.family or not rest:
            return bool(rest)
    return theirs(found) or (bool(rest) and infer_encoder(rest) is None)  # else there are two sets


def theirs(found: Recognised) -> bool:
    """Whether it is known to belong to a family that isn't ours."""
    return not set(found.family) <= _ours()


def _ours() -> set[str]:
    return {name for rule in rules() if rule.ours == "" for name in rule.family}


def _of_a_training(name: str) -> bool:
    top = name.partition(".")[0].lower()
    return name.endswith("num_batches_tracked") or any(word in top for word in _TRAINING)


_TRAINING = ("loss", "criterion", "metric", "n_averaged", "num_updates")


class About(NamedTuple):
    """What to do with a network of a family."""

    package: str  # where its class is: a repository, or a name for pip
    cls: str
    rename: dict[str, str]  # runs of components to exchange for the names of Depth Anything V2; mostly empty
    note: str  # of the texts `families.notes`; empty if there is nothing more to say


def about(family: str) -> About:
    """What loads a network of `family`, and how its names become ours. Raises `KeyError` for an unknown family."""
    rule = next((rule for rule in rules() if family in rule.family), None)
    if rule is None:
        raise KeyError(f"there is no family {family!r} in families.json")
    return About(rule.package, rule.cls, dict(rule.rename), rule.note)


def advice(found: Recognised, encoder: str | None = None, taken: bool = False) -> list[str]:
    """Sentences on what to do with what was recognised, in the reader's language; none if nothing was.

    Only a Depth Anything is offered for taking out, with its `encoder`, unless it is `taken` anyway.
    """
    said, ours = [], _ours()
    if found.family:
        package, cls, _, note = about(found.family[0])
        said = [] if set(found.family) <= ours else [say("families.loader", package=package, cls=cls)]
        said += [say(f"families.notes.{note}")] if note else []
    if found.contains and found.contains.at and set(found.contains.family) <= ours and not taken:
        at, option = found.contains.at, f" --encoder {encoder}" if encoder else ""
        family = " / ".join(found.contains.family)
        said.append(say("families.inside", family=family, at=at, option=f"--select {at.rstrip('.')}{option}"))
    return said


# What only holds data, as far as can be told: a class by its name, and the two functions that NumPy's numbers need.
_CODE = {
    "builtins",
    "__builtin__",
    "os",
    "posix",
    "nt",
    "sys",
    "subprocess",
    "shutil",
    "runpy",
    "pickle",
    "ctypes",
    "socket",
}
_NUMBERS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_DATA = {"numpy.dtype", *_NUMBERS}


def resume_line(names: Sequence[str]) -> str:
    """The line that lets `torch.load` take just the types `names` (`argparse.Namespace`), to resume training.

    Empty if one of them is a function, or a part of a model: calling those is what safe loading is there to prevent.
    """
    if not names or not all(_harmless(name) for name in names):
        return ""
    kinds = [_allowed(name) for name in names]
    kinds += ["*(type(numpy.dtype(code)) for code in '?bBhHiIlLefd')"] if _NUMBERS & set(names) else []
    modules = dict.fromkeys(["torch", *(name.rpartition(".")[0] for name in names)])
    modules = dict.fromkeys("numpy" if name.startswith("numpy") else name for name in modules)
    return f"import {', '.join(modules)}; torch.serialization.add_safe_globals([{', '.join(kinds)}])"


def resume(names: Sequence[str]) -> str:
    """How to resume training from a file that holds the types `names`: a sentence, empty if there is no safe way."""
    line = resume_line(names)
    return say("resume", line=line) if line else ""


def _harmless(name: str) -> bool:
    parts = name.split(".")
    a_class = len(parts) > 1 and parts[-1][:1].isupper() and all(part.isidentifier() for part in parts)
    return name in _DATA or (a_class and parts[0] not in _CODE and parts[:2] != ["torch", "nn"])


def _allowed(name: str) -> str:
    """As torch wants it: the type, and the name that the file has for it if NumPy 2 has moved it."""
    if name.startswith("numpy.core."):
        return f"(numpy._core.{name.removeprefix('numpy.core.')}, {name!r})"
    return name
