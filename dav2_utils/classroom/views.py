"""What the widgets show, as plain functions: a state of the switches in, HTML or a picture out. No widget in here."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..depth.opencv import import_cv2
from ..depth.pictures import decoded, with_doubts
from ..diagnosis.explain import explain
from ..diagnosis.keytable import show_keys
from ..errors import CheckpointError
from ..files.checkpoint import inspect_file
from ..texts import printable, say
from .plots import Picture, show_depth

LONGEST_SIDE = 1024  # pixels; an uploaded picture is made smaller than this
_LEFT = "style='text-align:left;padding:.2em .6em'"
MOST_ROWS = 400  # lines of a table; more would make the page slow


def keys_html(file: Any, model: Any, search: str = "", fold: bool = True, only_differences: bool = False) -> str:
    """The names of `file` (beside those of `model`) as a table, families folded or every name on a line of its own.

    `search` keeps the lines in which all of its words occur, on either side. At most 400 lines are shown; the caption
    counts all.
    """
    shown = show_keys(file, model, limit=MOST_ROWS, fold=fold)
    words = search.lower().split()
    rows = [row for row in shown.rows if all(word in f"{row.file} {row.model}".lower() for word in words)]
    if only_differences:
        rows = [row for row in rows if row.verdict != "same"]
    caption = [shown.caption]
    if words or only_differences:
        caption.append(say("views.found", lines=len(rows), all=len(shown.rows)))
    if fold and words and not rows:
        caption.append(say("views.unfold"))
    table = replace(shown, rows=rows, caption=" ".join(caption))._repr_html_()
    # A window on the table, so that the controls above it stay in sight; with the focus, PageDown moves it.
    style = "max-height:22em;overflow:auto"
    return f'<div style="{style}" tabindex="0" role="region" aria-label="{escape(say("views.names"))}">{table}</div>'


@dataclass(frozen=True)
class Trial:
    """What loading would meet for one position of the switches."""

    matched: int
    missing: list[str]
    unexpected: list[str]

    @property
    def loads(self) -> bool:
        return bool(self.matched) and not self.missing and not self.unexpected

    def to_html(self) -> str:
        verdict = say("views.loads" if self.loads else "views.does_not_load")
        rows = ("matched", str(self.matched)), ("missing", _some(self.missing)), ("unexpected", _some(self.unexpected))
        table = "".join(
            f"<tr><th scope='row' {_LEFT}>{say(f'views.{label}')}</th><td {_LEFT}>{value}</td></tr>"
            for label, value in rows
        )
        return f"<p><b>{verdict}</b></p><table style='margin-left:0'>{table}</table>"


def _some(names: list[str]) -> str:
    first = ", ".join(f"<code>{escape(printable(name, None))}</code>" for name in names[:2])
    return say("views.such_as", count=len(names), names=first) if names else "0"


def try_switches(top: list[str], weights: list[str], model: list[str], order: tuple[str, ...]) -> Trial:
    """The names that loading meets after the steps in `order` (`unwrap`, `strip`), compared with those of the model.

    `top`: the names at the top of the file; `weights`: those inside its container; for a file without one they are
    the same. Stripping is `removeprefix`: at the front, once.
    """
    names = top
    for step in order:
        names = weights if step == "unwrap" else [name.removeprefix("module.") for name in names]
    return Trial(
        len(set(names) & set(model)),
        [name for name in model if name not in set(names)],
        [name for name in names if name not in set(model)],
    )


def load_for_real(file: Any, model: nn.Module, order: tuple[str, ...]) -> str:
    """Carry the steps out with torch on a copy of `model`, and show what torch says, as HTML."""
    state = torch.load(file, map_location="cpu", weights_only=True)
    for step in order:
        if step == "unwrap":
            path = inspect_file(file).container
            for part in path:
                state = state[part]
        else:
            state = {name.removeprefix("module."): value for name, value in state.items()}
    try:
        said = str(copy.deepcopy(model).load_state_dict(state))
    except (RuntimeError, TypeError, AttributeError) as error:
        text = "\n".join(printable(line, None) for line in f"{type(error).__name__}: {error}".split("\n"))
        return f"<pre>{escape(text[:300])}{' ...' if len(text) > 300 else ''}</pre>{explain(text)._repr_html_()}"
    return f"<p><b>{say('views.torch_says')}</b> {escape(said)}</p>"


def depth_view(
    model: Any, picture: npt.NDArray[np.uint8], cmap: str, input_size: int, across: float, down: float
) -> tuple[Picture, str]:
    """The depth map of a BGR picture, and the depth at one point in words. The point (`across` and `down` from 0 to 1)
    has a cross on the map."""
    depth, doubtful = with_doubts(model, picture, input_size)
    row, column = (min(int(part * side), side - 1) for part, side in zip((down, across), depth.shape, strict=True))
    value = float(depth[row, column])
    text = "views.relative" if model.max_depth is None else "views.metres"
    point = (across, down)
    shown = show_depth(depth, max_depth=model.max_depth, image=picture, title=say("views.depth"), cmap=cmap, mark=point)
    words = say(text, column=column, row=row, value=f"{value:.2f}")
    return shown, " ".join([words, *(f"⚠ {each}." for each in doubtful)])


def clicked(value: str, picture: Picture) -> tuple[float, float] | None:
    """Where on the map a click on its picture is, across and down from 0 to 1; None outside the map.

    `value`: the click, across and down from 0 to 1 of the whole picture, as text with a space between.
    """
    try:
        across, down = map(float, value.split())
    except ValueError:
        return None
    for left, top, right, bottom in picture.panels:
        if left <= across <= right and top <= down <= bottom:
            return (across - left) / (right - left), (down - top) / (bottom - top)
    return None


def some_are_the_same(file: Any, model: Any) -> bool:
    """Whether the names of `file` and `model` are partly the same, so that hiding those changes something."""
    verdicts = {row.verdict for row in show_keys(file, model, limit=MOST_ROWS).rows}
    return "same" in verdicts and len(verdicts) > 1


def uploaded(value: Any) -> bytes | None:
    """The bytes of the newest file in a FileUpload's value: a dictionary in ipywidgets 7, a tuple in 8."""
    files = list(value.values()) if isinstance(value, Mapping) else list(value)
    return bytes(files[-1]["content"]) if files else None


def decode(content: bytes) -> npt.NDArray[np.uint8]:
    """An uploaded picture as BGR uint8, at most 1024 pixels on its longer side. Raises `CheckpointError` for others."""
    cv2 = import_cv2()
    picture = decoded(np.frombuffer(content, dtype=np.uint8))
    if picture is None:
        raise CheckpointError(
            "This does not decode as a picture", "JPEG or PNG", "Choose another file", kind="not a picture"
        )
    shrink = LONGEST_SIDE / max(picture.shape[:2])
    if shrink < 1:
        height, width = (max(1, round(shrink * side)) for side in picture.shape[:2])
        picture = cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(picture, dtype=np.uint8)


def error_html(text: str) -> str:
    """What `explain` makes of a pasted error, as HTML; a hint as long as nothing is pasted."""
    if not text.strip():
        return f"<p>{say('views.paste')}</p>"
    return explain(text)._repr_html_()
