"""What a file holds, read without running it: formats, containers, sets of weights, names, shapes and dtypes.

No tensor is loaded and nothing in a pickle is executed, so it is safe to look into a file from a stranger, and a 4 GB
training file takes a fraction of a second. Standard library only.
"""

from __future__ import annotations

import functools
import math
import os
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from ..encoders import infer_encoder
from ..errors import NoWeights, TooMuch
from ..families import Contained, Recognised, recognise
from ..keys import Family, Table, families, human, totals
from ..texts import printable, say
from ..wrappers import WRAPPERS, wrappers_in
from .facts import Fact, facts_beside
from .formats import read_content
from .placeholders import Made
from .unreadable import damaged, foreign
from .weightsets import WeightSet, choose, find_sets, mapping, tensor_info

SCREENFUL = 28  # lines of families


@dataclass
class Checkpoint:
    """What `inspect_file` found. Prints as a screenful; `to_dict()` is what `dav2 inspect --json` prints."""

    file: Path
    format: str  # torch-zip, torch-legacy or safetensors
    bytes: int
    sets: list[WeightSet]
    other_entries: dict[str, Any] = field(default_factory=dict)  # numbers and text as they are, else the type's name
    globals: list[str] = field(default_factory=list)  # classes and functions that `weights_only=True` would refuse
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Fact] = field(default_factory=dict)  # what lies in the file and beside it says (see `facts`)
    cure: str = ""  # if the weights are in a form that nothing loads: the line that turns them into a state dict
    # how the tensors can be read: see `formats.Content`
    mark: int = field(default=0, repr=False)
    plain: bool = field(default=False, repr=False)
    beyond: bool = field(default=False, repr=False)

    @classmethod
    def in_memory(cls, sets: list[WeightSet], other_entries: dict[str, Any] | None = None) -> Checkpoint:
        """The same for weights that are in memory already."""
        return cls(Path(), "memory", sum(info.bytes for weights in sets for info in weights.table.values()), sets,
                   other_entries or {})  # fmt: skip

    @property
    def container(self) -> list[str]:
        """The way to the only set of weights; empty for several, and where the file is the state dict itself."""
        return list(self.sets[0].path) if len(self.sets) == 1 else []

    @property
    def table(self) -> Table:
        """Names, shapes and dtypes of the only set. Raises `AmbiguousSets` for several and `NoWeights` for none."""
        return select(self, None).table

    def at(self, path: tuple[str, ...]) -> WeightSet | None:
        """The set of weights that lies under `path`."""
        return next((weights for weights in self.sets if weights.path == path), None)

    @property
    def wrappers(self) -> list[str]:
        """The wrapper components in the names, from the outside in."""
        return list(dict.fromkeys(part for weights in self.sets for part in wrappers_in(weights.table)))

    @property
    def encoder(self) -> str | None:
        """The encoder that the shapes belong to; None for no Depth Anything, or for several sets that differ."""
        found = {infer_encoder(weights.table) for weights in self.sets}
        return found.pop() if len(found) == 1 else None

    @functools.cached_property
    def recognised(self) -> Recognised:
        """Which model the names and shapes are of; nothing for several sets that differ."""
        found = [recognise(weights.table) for weights in self.sets]
        return found[0] if found and all(other == found[0] for other in found) else Recognised([])

    @property
    def family(self) -> list[str]:
        """The families of models whose table this is; several that names cannot tell apart, or none."""
        return self.recognised.family

    @property
    def variant(self) -> str:
        return self.recognised.variant

    @property
    def contains(self) -> Contained | None:
        """A whole known model inside this one, and under which prefix."""
        return self.recognised.contains

    @property
    def tensors(self) -> int:
        """How many tensors there are, in all sets together; the next three count likewise."""
        return sum(len(weights.table) for weights in self.sets)

    @property
    def parameters(self) -> int:
        return sum(info.elements for weights in self.sets for info in weights.table.values())

    @property
    def weight_bytes(self) -> int:
        return sum(info.bytes for weights in self.sets for info in weights.table.values())

    @property
    def dtypes(self) -> dict[str, int]:
        return dict(Counter(info.dtype for weights in self.sets for info in weights.table.values()))

    def to_dict(self, keys: bool = False) -> dict[str, Any]:
        """Everything as JSON; with `keys` every tensor too, each with its set if there are several."""
        found: dict[str, Any] = {
            "file": str(self.file), "format": self.format, "bytes": self.bytes, "container": self.container,
            "sets": [_set_as_dict(weights) for weights in self.sets],
            "other_entries": {name: _json_safe(value) for name, value in self.other_entries.items()},
            "tensors": self.tensors, "parameters": self.parameters, "weight_bytes": self.weight_bytes,
            "dtypes": self.dtypes, "wrappers": self.wrappers, "encoder": self.encoder,
        }  # fmt: skip
        found |= self.recognised.to_dict() | {"facts": {name: fact.to_dict() for name, fact in self.facts.items()}}
        found |= {name: value for name in ("globals", "notes") if (value := getattr(self, name))}
        if keys:
            found["keys"] = [
                {"name": name, "shape": list(info.shape), "dtype": info.dtype}
                | ({"set": list(weights.path)} if len(self.sets) > 1 else {})
                for weights in self.sets
                for name, info in weights.table.items()
            ]
        return found

    def __str__(self) -> str:
        lines = [f"{printable(str(self.file))}   {self.format}, {human(self.bytes)}"]
        lines += [f"  {label:<10} {printable(text, 300)}" for label, text in self._facts()]
        room = max(8, SCREENFUL // max(1, len(self.sets)))
        for weights in self.sets:
            gathered = families(weights.table)
            lines += ["", *([f"{_place(weights)}:"] if len(self.sets) > 1 else [])]
            lines += [_family_line(family) for family in gathered[:room]]
            lines += [f"  ... and {len(gathered) - room} more families of names"] if len(gathered) > room else []
        return "\n".join(lines)

    __repr__ = __str__  # what a notebook keeps as text

    def _facts(self) -> list[tuple[str, str]]:
        """Label and text of each line above the tensors."""
        rows = [("weights", f"in {_place(weights)}: {totals(weights.table)}") for weights in self.sets]
        rows += [("note", f"{_place(weights)}: {weights.note}") for weights in self.sets if weights.note]
        rows = rows or [("weights", "none")]
        if self.wrappers:
            rows.append(("wrappers", ", ".join(f"{part}. ({WRAPPERS[part]})" for part in self.wrappers)))
        if self.encoder:
            rows.append(("encoder", self.encoder))
        if said := str(self.recognised):
            rows.append(("family", said))
        entries = [f"{name}: {_said(value)}" for name, value in islice(self.other_entries.items(), 12)]
        if entries:
            rows.append(("beside", ", ".join(entries) + ", ..." * (len(self.other_entries) > 12)))
        if self.facts:
            rows.append(("facts", ", ".join(f"{name}: {fact}" for name, fact in list(self.facts.items())[:12])))
        if self.globals:
            more = f" and {len(self.globals) - 6} more" if len(self.globals) > 6 else ""
            rows.append(("code", f"the pickle names {', '.join(self.globals[:6])}{more}; none of it was run"))
        return rows + [("note", note) for note in [*self.notes, self.cure] if note]

    def _repr_html_(self) -> str:
        left = 'style="text-align:left"'  # JupyterLab puts cells to the right, which is for numbers
        rows = "".join(
            f'<tr><th scope="row" {left}>{label}</th><td {left}>{_escaped(text)}</td></tr>'
            for label, text in self._facts()
        )
        parts = [f"<b>{_escaped(str(self.file))}</b> {self.format}, {human(self.bytes)}<table>{rows}</table>"]
        for weights in self.sets:
            folded = "".join(_family_html(family) for family in families(weights.table)[:500])
            title = _escaped(_place(weights)) + _escaped(f": {totals(weights.table)}")
            parts.append(f"<details><summary>{title}</summary>{folded}</details>")
        return f'<div class="dav2-checkpoint">{"".join(parts)}</div>'


def inspect_file(path: str | os.PathLike[str]) -> Checkpoint:
    """What the file at `path` holds. No tensor is read, nothing is executed, torch is not imported.

    Raises `NotACheckpoint` for anything that holds no readable weights (its `format` says what it is, its text what
    to do about it) and `PathError` when there is no such file.
    """
    file = Path(path)
    content = read_content(file)
    try:
        sets, others = find_sets(content.value)
    except TooMuch as error:
        raise damaged(file, f"It cannot be looked through: {error}", False, content.names) from error
    found = Checkpoint(file, content.format, file.stat().st_size, sets, others, foreign(content.names),
                       list(content.notes), {}, "" if sets else _cure(content.value),
                       content.mark, content.plain, content.beyond)  # fmt: skip
    header = content.facts if content.format == "safetensors" else None
    table = sets[0].table if sets else {}
    found.facts = facts_beside(file, table, found.encoder, size=found.bytes, header=header, content=content.value)
    return found


def select(checkpoint: Checkpoint, name: str | None = None) -> WeightSet:
    """The set of weights called `name` (see `weightsets.choose`), or the only one there is.

    Raises `AmbiguousSets`, naming them, and `NoWeights` when there are none.
    """
    if not checkpoint.sets:
        raise NoWeights(checkpoint.file, checkpoint.format, _holds(checkpoint), checkpoint.cure)
    return choose(checkpoint.sets, name, checkpoint.file.name)


def _holds(checkpoint: Checkpoint) -> str:
    """What a file without weights holds, in words."""
    shown = [f"{printable(name, 40)} ({_said(value)})" for name, value in islice(checkpoint.other_entries.items(), 6)]
    entries = ", ".join(shown) + ", ..." * (len(checkpoint.other_entries) > 6)
    other = f"an object of {printable(checkpoint.globals[0], 80)}" if checkpoint.globals else "no named tensors"
    return entries or other


def _cure(value: Any) -> str:
    """What to run if `value` has NumPy arrays in a dictionary, or pairs in a list, instead of a dictionary of
    tensors."""
    places = {"": value} | {f"[{name!r}]": one for name, one in islice((mapping(value) or {}).items(), 100)}
    for place, inside in places.items():
        first = list(islice((mapping(inside) or {}).values(), 20))
        if first and all(isinstance(one, Made) and one.kind in _ARRAYS for one in first):
            return say("files.arrays", code=f"torch.save({{name: torch.from_numpy(array) for name, array in "
                                            f"checkpoint{printable(place)}.items()}}, 'weights.pth')")  # fmt: skip
        if isinstance(inside, (list, tuple)) and inside and all(map(_pair, inside[:20])):
            return say("files.pairs", place=printable(place))
    return ""


_ARRAYS = {"numpy.ndarray", "numpy.core.multiarray._reconstruct", "numpy._core.multiarray._reconstruct"}


def _pair(value: Any) -> bool:
    return (
        isinstance(value, (list, tuple))
        and len(value) == 2
        and isinstance(value[0], str)
        and tensor_info(value[1]) is not None
    )


def _place(weights: WeightSet) -> str:
    return " > ".join(map(repr, weights.path)) or "the file itself"


def _family_line(family: Family) -> str:
    times = f"{family.count} x" if family.count > 1 else ""
    return f"  {times:>6} {printable(family.pattern, 70):<62} {family.info.shape!s:<20} {family.info.dtype}"


def _family_html(family: Family) -> str:
    what = f"{_escaped(family.pattern)} {family.info.shape} {_escaped(family.info.dtype)}"
    if family.count == 1:
        return f"<div><code>{what}</code></div>"
    names = "<br>".join(_escaped(name) for name in family.names[:100]) + "<br>..." * (family.count > 100)
    return f"<details><summary>{family.count} &times; <code>{what}</code></summary><code>{names}</code></details>"


def _escaped(text: str) -> str:
    from html import escape  # with the names of 2,000 characters, which only a notebook needs

    return escape(printable(text, 400))


def _said(value: Any) -> str:
    return printable(str(value), 60)


def _set_as_dict(weights: WeightSet) -> dict[str, Any]:
    found: dict[str, Any] = {"path": list(weights.path), "tensors": len(weights.table)}
    return found | ({"note": weights.note} if weights.note else {})


def _json_safe(value: Any) -> Any:
    """JSON has no NaN and no infinity: those as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
