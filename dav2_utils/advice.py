"""What to do with a network that is known by its table: who loads it, and whether a Depth Anything is to be had of it.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence

from .encoders import infer_encoder
from .families import Recognised, Rule, rules
from .keys import Table
from .texts import say
from .wrappers import bare


def another(found: Recognised, table: Table) -> bool:
    """Whether `table`, of which `found` is known, is another network than one of ours.

    So is a larger one around one of ours, unless all that is left besides belongs to a training (a loss, a counter).
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
    """Whether it is known to be of a family that is none of ours."""
    return not set(found.family) <= _ours()


def _ours() -> set[str]:
    return {name for rule in rules() if rule.ours == "" for name in rule.family}


def _of_a_training(name: str) -> bool:
    top = name.partition(".")[0].lower()
    return name.endswith("num_batches_tracked") or any(word in top for word in _TRAINING)


_TRAINING = ("loss", "criterion", "metric", "n_averaged", "num_updates")


def about(family: str) -> Rule:
    """Who loads a network of `family`, and how its names become ours. Raises `KeyError` for a family not known."""
    rule = next((rule for rule in rules() if family in rule.family), None)
    if rule is None:
        raise KeyError(f"there is no family {family!r} in families.json")
    return rule


def advice(found: Recognised, encoder: str | None = None, taken: bool = False) -> list[str]:
    """Sentences on what to do with what was recognised, in the reader's language; none if nothing was.

    Only a Depth Anything is offered to be taken out, with its `encoder`, unless it is `taken` anyway.
    """
    said, ours = [], _ours()
    if found.family:
        rule = about(found.family[0])
        said = [] if set(found.family) <= ours else [say("families.loader", package=rule.package, cls=rule.cls)]
        said += [say(f"families.notes.{rule.note}")] if rule.note else []
    if found.contains and found.contains.at and set(found.contains.family) <= ours and not taken:
        at, option = found.contains.at, f" --encoder {encoder}" if encoder else ""
        family = " / ".join(found.contains.family)
        said.append(say("families.inside", family=family, at=at, option=f"--select {at.rstrip('.')}{option}"))
    return said


# What only holds data, as far as one can tell: a class by its name, and the two functions that NumPy's numbers need.
_CODE = {"builtins", "__builtin__", "os", "posix", "nt", "sys", "subprocess", "shutil", "runpy", "pickle", "ctypes",
         "socket"}  # fmt: skip
_NUMBERS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_DATA = {"numpy.dtype", *_NUMBERS}


def resume_line(names: Sequence[str]) -> str:
    """The line that lets `torch.load` take just the types `names` (`argparse.Namespace`), to resume a training.

    Empty where one of them is a function, or a part of a model: calling those is what safe loading is there to prevent.
    """
    if not names or not all(_harmless(name) for name in names):
        return ""
    kinds = [_allowed(name) for name in names]
    kinds += ["*(type(numpy.dtype(code)) for code in '?bBhHiIlLefd')"] if _NUMBERS & set(names) else []
    modules = dict.fromkeys(["torch", *(name.rpartition(".")[0] for name in names)])
    modules = dict.fromkeys("numpy" if name.startswith("numpy") else name for name in modules)
    return f"import {', '.join(modules)}; torch.serialization.add_safe_globals([{', '.join(kinds)}])"


def resume(names: Sequence[str]) -> str:
    """How to go on with a training whose file holds the types `names`: a sentence, empty if there is no safe way."""
    line = resume_line(names)
    return say("resume", line=line) if line else ""


def _harmless(name: str) -> bool:
    parts = name.split(".")
    a_class = len(parts) > 1 and parts[-1][:1].isupper() and all(part.isidentifier() for part in parts)
    return name in _DATA or (a_class and parts[0] not in _CODE and parts[:2] != ["torch", "nn"])


def _allowed(name: str) -> str:
    """As torch wants it: the type, and the name that the file has for it where NumPy 2 has moved it."""
    if name.startswith("numpy.core."):
        return f"(numpy._core.{name.removeprefix('numpy.core.')}, {name!r})"
    return name
