"""What to do with a network recognised by its table: what loads it, and whether a Depth Anything can be taken out.

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


def about(family: str) -> Rule:
    """What loads a network of `family`, and how its names become ours. Raises `KeyError` for an unknown family."""
    rule = next((rule for rule in rules() if family in rule.family), None)
    if rule is None:
        raise KeyError(f"there is no family {family!r} in families.json")
    return rule


def advice(found: Recognised, encoder: str | None = None, taken: bool = False) -> list[str]:
    """Sentences on what to do with what was recognised, in the reader's language; none if nothing was.

    Only a Depth Anything is offered for taking out, with its `encoder`, unless it is `taken` anyway.
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


# Types that only hold data, each tried on a real file. Of any other type, also of one's own, a name alone doesn't tell
# what its constructor does: logging.FileHandler empties a file, and torch would call it once it is allowed.
_NUMBERS = {"numpy.core.multiarray.scalar", "numpy._core.multiarray.scalar"}
_PATHS = ("Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath")
_DATA = {
    "argparse.Namespace", "types.SimpleNamespace", "datetime.date", "datetime.datetime", "datetime.timedelta",
    "ml_collections.config_dict.config_dict.ConfigDict", "numpy.dtype", *_NUMBERS,
    *(f"{module}.{name}" for module in ("pathlib", "pathlib._local") for name in _PATHS),
}  # fmt: skip


def resume_line(names: Sequence[str]) -> str:
    """The line that lets `torch.load` take just the types `names` (`argparse.Namespace`), to resume training.

    Empty unless each of them is known to hold data and do nothing: torch calls what is allowed.
    """
    if not names or not set(names) <= _DATA:
        return ""
    kinds = [_allowed(name) for name in names]
    kinds += ["*(type(numpy.dtype(code)) for code in '?bBhHiIlLefd')"] if _NUMBERS & set(names) else []
    own = (name.rpartition(".")[0] for name in names)
    modules = dict.fromkeys(["torch", *(_MOVED.get(module, module) for module in own)])
    return f"import {', '.join(modules)}; torch.serialization.add_safe_globals([{', '.join(kinds)}])"


def resume(names: Sequence[str]) -> str:
    """How to resume training from a file that holds the types `names`: a sentence, empty if there is no safe way."""
    line = resume_line(names)
    return say("resume", line=line) if line else ""


_MOVED = {"numpy._core.multiarray": "numpy", "numpy.core.multiarray": "numpy", "pathlib._local": "pathlib"}


def _allowed(name: str) -> str:
    """As torch wants it: the type, and the name that the file has for it if another version has moved it."""
    module, _, kind = name.rpartition(".")
    if module == "pathlib._local":  # where Python 3.13 had it
        return f"(pathlib.{kind}, {name!r})"
    if name.startswith("numpy.core."):
        return f"(numpy._core.{name.removeprefix('numpy.core.')}, {name!r})"
    return name
