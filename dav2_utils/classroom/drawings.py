"""The ideas of the lessons as drawings: two tables, one step longer, a box with labels, letters that are cut.

Each takes what a lesson has at hand (a file, a model, a checkpoint, a name) and draws what is really in it, with its
alt text. One style: orange for what a wrapper or a tool added, blue for what belongs to the model; nothing is shown by
colour alone. `dark` draws the same on a dark background, for pages that follow the reader's theme.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from ..diagnosis.keytable import SIGNS, compared, show_keys
from ..texts import printable, say
from ..wrappers import WRAPPERS
from .plots import Picture, blank, finish, plainly

# Ink on paper, a softer ink, and for each role the ink and the background of its boxes.
_THEMES: dict[bool, dict[str, Any]] = {
    False: {"paper": "#ffffff", "ink": "#1b2430", "soft": "#6b7683", "line": "#c3cbd4", "ground": "#f6f8fa",
            "added": ("#9a4a00", "#fdebd6"), "model": ("#154a86", "#e4eefa")},
    True: {"paper": "#0d1117", "ink": "#e8edf2", "soft": "#98a3af", "line": "#3a4552", "ground": "#151c25",
           "added": ("#ffb968", "#3b2710"), "model": ("#93c7ff", "#11304f")},
}  # fmt: skip
_MONO = 0.602 / 72  # the width of a letter of DejaVu Sans Mono, in inches for each point of its size
_SIZE = 9.5  # points


@dataclass
class Sheet:
    """A drawing measured in inches from its upper left corner."""

    width: float
    height: float
    dark: bool
    axes: Any = field(init=False)
    figure: Any = field(init=False)

    def __post_init__(self) -> None:
        self.theme = _THEMES[self.dark]
        self.figure, self.axes = blank(self.width, self.height, self.theme["paper"])

    def colours(self, role: str) -> tuple[str, str]:
        """The ink and the background of a role (`added`, `model`), or of a plain box."""
        return self.theme[role] if role in ("added", "model") else (self.theme["ink"], self.theme["ground"])

    def text(self, x: float, y: float, text: str, role: str = "ink", size: float = _SIZE, **style: Any) -> None:
        ink = self.theme[role] if role in ("ink", "soft") else self.theme[role][0]
        style = {"va": "center", "parse_math": False} | style
        self.axes.text(x, y, text, color=ink, fontsize=size, **style)

    def box(self, x: float, y: float, width: float, height: float, role: str = "plain") -> None:
        from matplotlib.patches import FancyBboxPatch

        ink, ground = self.colours(role)
        edge = self.theme["line"] if role == "plain" else ink
        style: dict[str, Any] = {"fc": ground, "ec": edge, "lw": 1.1}
        self.axes.add_patch(
            FancyBboxPatch((x, y), width, height, "round,pad=0,rounding_size=0.07", zorder=0.2, **style)
        )

    def line(self, x: float, y: float, to_x: float, to_y: float, role: str = "soft", width: float = 1.1) -> None:
        ink = self.theme[role] if role in ("soft", "line") else self.theme[role][0]
        self.axes.plot([x, to_x], [y, to_y], color=ink, lw=width, solid_capstyle="butt")

    def parts(self, x: float, y: float, parts: list[tuple[str, str]], size: float = _SIZE, **style: Any) -> float:
        """Pieces of one name after another, each with its role; where the name ends."""
        for text, role in parts:
            if role == "added" and text:
                self.axes.barh(y, len(text) * size * _MONO, 0.2, x, color=self.theme["added"][1], zorder=0.5)
            weight = {"weight": "bold"} if role == "added" else {}
            self.text(x, y, text, role, size, family="monospace", **weight, **style)
            x += len(text) * size * _MONO
        return x

    def done(self, alt: str) -> Picture:
        return finish(self.figure, alt)


def _in_parts(name: str) -> list[tuple[str, str]]:
    """A name cut into steps; those of wrappers are `added`."""
    steps = name.split(".")
    return [
        (step + "." * (at < len(steps) - 1), "added" if step in WRAPPERS and at < len(steps) - 1 else "ink")
        for at, step in enumerate(steps)
    ]


@plainly
def draw_tables(file: Any, model: Any, *, rows: int = 5, dark: bool = False) -> Picture:
    """The first `rows` lines of two tables side by side, wrapper's steps marked: what a file has, what a model wants.

    Both may be whatever `show_keys` takes. Raises what `show_keys` raises.
    """
    keys = show_keys(file, model)
    shown = [(printable(r.file, 48), r.verdict, printable(r.model, 48), r.shape) for r in keys.rows[:rows]]
    wide = [max((len(row[column]) for row in shown), default=0) * _SIZE * _MONO + 0.3 for column in (0, 2)]
    shape = max((len(row[3]) for row in shown), default=0) * _SIZE * _MONO + 0.2
    left, middle = 0.15, 0.15 + wide[0]
    right, tall = middle + 1.35, 0.3 * len(shown) + 0.16
    sheet = Sheet(right + wide[1] + shape + 0.25, tall + 0.85, dark)
    for x, width, role, title in ((left, wide[0], "added", "file"), (right, wide[1], "model", "model")):
        sheet.text(x + 0.05, 0.22, say(f"drawings.tables.{title}"), role, 11, weight="bold")
        sheet.box(x, 0.42, width, tall)
    sheet.text(right + wide[1] + 0.15, 0.22, say("drawings.tables.shape"), "soft", 10)
    for at, (there, verdict, here, form) in enumerate(shown):
        y = 0.42 + 0.23 + 0.3 * at
        sheet.parts(left + 0.13, y, _in_parts(there))
        sheet.text((middle + right) / 2, y, compared(verdict), "soft", 9, ha="center")
        sheet.parts(right + 0.13, y, _in_parts(here))
        sheet.text(right + wide[1] + 0.15, y, form, "soft", 9, family="monospace")
    sheet.text(left + 0.05, tall + 0.64, keys.caption, "soft", 9.5)
    listed = "; ".join(f"{there or '-'} {SIGNS[verdict]} {here or '-'}" for there, verdict, here, _ in shown)
    return sheet.done(say("drawings.tables.alt", caption=keys.caption, rows=listed))


@plainly
def draw_paths(models: Mapping[str, nn.Module], *, dark: bool = False) -> Picture:
    """Each model as boxes in boxes, down to its first tensor, below it that tensor's name: a box more, a step more.

    `models`: a title and a module each; three fit well. Raises `CheckpointError` for a module without tensors.
    """
    paths = {title: _levels(model) for title, model in models.items()}
    deepest = max(map(len, paths.values()))
    longest = max(len(".".join(step for step, _ in path)) for path in paths.values())
    width = max(2.9 + 0.24 * deepest, longest * _SIZE * _MONO + 0.3)
    tall = 0.47 * deepest - 0.06
    sheet = Sheet((width + 0.25) * len(paths) + 0.05, tall + 0.95, dark)
    for at, (title, path) in enumerate(paths.items()):
        left = 0.15 + at * (width + 0.25)
        sheet.text(left, 0.2, title, "ink", 11, weight="bold")
        for level, (step, kind) in enumerate(path):
            # The model has the same size in every drawing, so that what a wrapper adds visibly lies around it.
            out = deepest - len(path) + level
            x, y = left + 0.12 * out, 0.42 + 0.36 * out
            role = "added" if level + 1 < len(path) and path[level + 1][0] in WRAPPERS else "model"
            sheet.box(x, y, width - 0.24 * out, tall - 0.47 * out, role)
            step_role = "added" if step in WRAPPERS else role
            place = sheet.parts(x + 0.1, y + 0.19, [(step, step_role)])
            sheet.text(place + 0.12 * bool(step), y + 0.19, kind, "soft" if step else role, family="monospace")
        sheet.parts(left, tall + 0.7, _in_parts(".".join(step for step, _ in path[1:])))
    said = "; ".join(f"{title}: {'.'.join(step for step, _ in path[1:])}" for title, path in paths.items())
    return sheet.done(say("drawings.paths.alt", paths=said))


def _levels(model: nn.Module) -> list[tuple[str, str]]:
    """From a model down to its first parameter: the step that leads there, and the class found there."""
    name = next(iter(dict(model.named_parameters())), "")
    found: list[tuple[str, str]] = [("", type(model).__name__)]
    inner: Any = model
    for step in name.split("."):
        inner = inner._modules.get(step) if isinstance(inner, nn.Module) else None
        found.append((step, type(inner).__name__ if inner is not None else ""))
    return found


@plainly
def draw_box(checkpoint: Mapping[str, Any], *, title: str = "latest.pth", dark: bool = False) -> Picture:
    """What `torch.load` gave, as a box with a label on each entry; the one that holds tensors is opened."""
    entries = {str(label): _contents(value) for label, value in list(checkpoint.items())[:6]}
    opened = {label: names for label, names in entries.items() if isinstance(names, list)}
    widths = {
        label: max([len(label), *map(len, names if isinstance(names, list) else [names])]) * _SIZE * _MONO + 0.3
        for label, names in entries.items()
    }
    tall = 1.35 if opened else 0.75
    sheet = Sheet(sum(widths.values()) + 0.15 * len(widths) + 0.5, tall + 0.95, dark)
    sheet.box(0.12, 0.4, sheet.width - 0.24, tall + 0.43, "added")
    sheet.text(0.17, 0.2, title, "added", 11, weight="bold", family="monospace")
    x = 0.3
    for label, names in entries.items():
        role = "model" if label in opened else "plain"
        sheet.box(x, 0.83, widths[label], tall - 0.15, role)
        sheet.text(x + 0.05, 0.63, f'"{label}"', "added", 10, weight="bold", family="monospace")
        for at, name in enumerate(names if isinstance(names, list) else [names]):
            sheet.parts(x + 0.13, 1.02 + 0.25 * at, _in_parts(name) if label in opened else [(name, "soft")])
        x += widths[label] + 0.15
    listed = "; ".join(f"{label}: {', '.join(n) if isinstance(n, list) else n}" for label, n in entries.items())
    return sheet.done(say("drawings.box.alt", title=title, entries=listed))


def _contents(value: Any) -> list[str] | str:
    """The first names of a state dict, with how many more there are; of anything else, one word on what it is."""
    if isinstance(value, Mapping) and value and all(hasattr(each, "shape") for each in value.values()):
        names = [printable(str(name), 40) for name in list(value)[:3]]
        return [*names, say("drawings.box.more", count=len(value) - len(names))] if len(value) > 3 else names
    return repr(value) if isinstance(value, int | float) else type(value).__name__


@plainly
def draw_cuts(name: str, ways: Mapping[str, Callable[[str], str]], *, dark: bool = False) -> Picture:
    """What each of several functions takes off a `name`, letter by letter, and what it leaves."""
    results = {way: function(name) for way, function in ways.items()}
    size = 11.0
    side = max(map(len, results)) * _SIZE * _MONO + 0.35
    middle = side + len(name) * size * _MONO + 0.75
    sheet = Sheet(middle + max(map(len, results.values())) * size * _MONO + 0.2, 0.42 * len(ways) + 0.2, dark)
    for at, (way, result) in enumerate(results.items()):
        y = 0.3 + 0.42 * at
        sheet.text(0.15, y, way, "soft", _SIZE, family="monospace")
        x = side
        for text, role in _cut(name, result):
            end = sheet.parts(x, y, [(text, role)], size)
            if role == "added":
                sheet.line(x, y, end, y, "added", 1.4)
            x = end
        sheet.text(middle - 0.4, y, "→", "soft", 12, ha="center")
        sheet.parts(middle, y, [(result, "model")], size)
    listed = "; ".join(f"{way}: {result}" for way, result in results.items())
    return sheet.done(say("drawings.cuts.alt", name=name, results=listed))


def _cut(name: str, result: str) -> list[tuple[str, str]]:
    """`name` in pieces: those that are in `result`, and those that were taken off (`added`)."""
    blocks = difflib.SequenceMatcher(None, name, result, autojunk=False).get_opcodes()
    return [(name[a:b], "ink" if kind == "equal" else "added") for kind, a, b, _, _ in blocks if b > a]
