"""The interactive views of the lessons: each is a few controls around one function of `views`.

Only traits that ipywidgets 7.7 (Colab) and 8 share. One HTML widget is updated in place, so nothing jumps.
Every control has a label and works by keyboard. That rules out lists and radio buttons: JupyterLab takes the arrow keys
from them and moves to the next cell. Which of several buttons is pressed is also said in words.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from html import escape
from typing import Any

import ipywidgets
import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from ..diagnosis.diagnose import table_of
from ..encoders import get_encoder
from ..errors import CheckpointError
from ..files.checkpoint import inspect_file
from ..texts import say
from . import views
from .plots import COLOUR_MAPS, Picture

# ipywidgets has no picture to click on: the picture's own handler writes the place into a hidden text field.
_CLICK = """const box = this.getBoundingClientRect();
const field = this.closest('.widget-vbox').querySelector('.dav2-click input');
field.value = (event.clientX - box.left) / box.width + ' ' + (event.clientY - box.top) / box.height;
field.dispatchEvent(new Event('change', {bubbles: true}))"""
_BUTTONS = {"button_width": "max-content"}
# The label beside its buttons, not above them.
_ONE_ROW = {"display": "flex", "align_items": "center", "grid_gap": "6px", "margin": "0 12px 0 2px"}
_THIRD = {"continuous_update": False, "layout": {"width": "270px"}}  # three side by side, even on a projector


def key_explorer(file: Any, model: Any = None) -> ipywidgets.VBox:
    """The names of `file`, beside those of `model` (whatever `table_of` takes): search, fold, only the differences."""
    left, right = table_of(file), None if model is None else table_of(model)
    search = ipywidgets.Text(description=say("widgets.search"), placeholder="blocks.3 qkv", continuous_update=True)
    fold = ipywidgets.Checkbox(value=True, description=say("widgets.fold"), indent=False)
    different = ipywidgets.Checkbox(value=False, description=say("widgets.differs"), indent=False)
    out = ipywidgets.HTML()

    def show() -> None:
        out.value = _block(views.keys_html(left, right, search.value, fold.value, different.value))

    # A switch that would change nothing is left out.
    hiding = [different] if right is not None and views.some_are_the_same(left, right) else []
    return _around(show, [search, fold, *hiding], out)


def strip_playground(file: Any, model: nn.Module) -> ipywidgets.VBox:
    """Unwrap and strip, on and off, in either order, and see at once what loading `file` into `model` would meet."""
    opened = inspect_file(file)
    weights = list(opened.table)
    top = [*opened.container[:1], *opened.other_entries] if opened.container else weights
    unwrap = ipywidgets.Checkbox(value=False, description=say("widgets.unwrap"), indent=False)
    strip = ipywidgets.Checkbox(value=False, description=say("widgets.strip"), indent=False)
    swap = ipywidgets.Checkbox(value=False, description=say("widgets.swap"), indent=False)
    button = ipywidgets.Button(description=say("widgets.load"), tooltip=say("widgets.load_tip"))
    out, real = ipywidgets.HTML(), ipywidgets.HTML()

    def order() -> tuple[str, ...]:
        chosen = [step for step, box in (("unwrap", unwrap), ("strip", strip)) if box.value]
        return tuple(chosen[::-1] if swap.value else chosen)

    def show() -> None:
        out.value = _block(views.try_switches(top, weights, list(model.state_dict()), order()).to_html())
        real.value = ""

    def load(_: Any) -> None:
        real.value = _block(views.load_for_real(file, model, order()))

    button.on_click(load)
    box = _around(show, [unwrap, strip, swap], out)
    box.children = (*box.children, button, real)
    return box


def depth_viewer(models: Mapping[str, Any], pictures: Mapping[str, npt.NDArray[np.uint8]]) -> ipywidgets.VBox:
    """Depth maps of `pictures` (BGR uint8, by name) or an uploaded one, by each of `models`; the depth at a point.

    A click on the map sets the point, and so do two sliders.
    """
    seen = dict(pictures)
    shown: list[Picture] = []
    which, scene, cmap = (
        ipywidgets.ToggleButtons(options=options, description=say(f"widgets.{name}"), style=_BUTTONS, layout=_ONE_ROW)
        for name, options in (("weights", list(models)), ("picture", list(seen)), ("colours", list(COLOUR_MAPS[:3])))
    )
    usual = get_encoder(next(iter(models.values())).encoder).input_size
    size, across, down = (
        ipywidgets.IntSlider(value, least, most, step, description=say(f"widgets.{name}"), **_THIRD)
        for name, value, least, most, step in
        (("input_size", usual, 56, 518, 14), ("across", 50, 0, 100, 1), ("down", 50, 0, 100, 1)))  # fmt: skip
    point, picture = ipywidgets.HTML(), ipywidgets.HTML()  # the words come first, where the controls are

    def show() -> None:
        with torch.inference_mode():
            drawn, words = views.depth_view(
                models[which.value], seen[scene.value], cmap.value, size.value, across.value / 100, down.value / 100
            )
        shown[:] = [drawn]
        picture.value = drawn.to_html().replace("<img ", f'<img onclick="{escape(_CLICK)}" ', 1)
        said = say("widgets.point", weights=which.value, picture=scene.value, colours=cmap.value, words=words)
        point.value = escape(said)

    def move(change: Mapping[str, Any]) -> None:
        if place := views.clicked(change["new"], shown[0]):
            across.value, down.value = (round(100 * part) for part in place)

    click = ipywidgets.Text(layout={"display": "none"}, description=say("widgets.click")).add_class("dav2-click")
    click.observe(move, "value")  # _CLICK writes into it
    box = _around(show, [which, scene, cmap, size, across, down], point)
    # Few rows, so that the map stays on the screen while its sliders move.
    rows = (which, cmap), (scene, _upload(seen, scene, point, show)), (size, across, down)
    lines = (ipywidgets.HBox(row, layout={"flex_flow": "row wrap"}) for row in rows)
    box.children = (*lines, click, point, picture)
    return box


def _upload(seen: dict[str, npt.NDArray[np.uint8]], scene: Any, point: Any, show: Callable[[], None]) -> Any:
    """The button that takes an uploaded picture into `seen`, and chooses it in `scene`."""
    # Jupyter silently drops messages of more than 10 MB, so the label says so.
    upload = ipywidgets.FileUpload(accept="image/*", multiple=False, description=say("widgets.upload"))
    upload.layout.width = "max-content"

    def take(change: Mapping[str, Any]) -> None:
        try:
            if (content := views.uploaded(change["new"])) is not None:
                name = say("widgets.uploaded")
                seen[name] = views.decode(content)
                again = scene.value == name
                scene.options, scene.value = list(seen), name
                if again:  # in the place of the first, so no control has changed
                    show()
        except CheckpointError as error:
            point.value = f"✗ {escape(str(error))}"

    upload.observe(take, "value")
    return upload


def error_reader(text: str = "") -> ipywidgets.VBox:
    """A field for a pasted error, and the cause below it."""
    field = ipywidgets.Textarea(
        value=text,
        description=say("widgets.error"),
        placeholder=say("widgets.paste"),
        layout={"width": "95%", "height": "9em"},
    )
    out = ipywidgets.HTML()

    def show() -> None:
        out.value = _block(views.error_html(field.value))

    return _around(show, [field], out)


def _block(html: str) -> str:
    """HTML that looks as it does in an output; an HTML widget has no style, and lines as high as a button."""
    return f'<div class="jp-RenderedHTMLCommon" style="line-height:1.4">{html}</div>'


def _around(show: Callable[[], None], controls: list[Any], out: Any) -> ipywidgets.VBox:
    """The controls above what they steer; `show` runs now and whenever one of them changes."""
    for control in controls:
        control.style.description_width = "initial"
        control.observe(lambda _: show(), "value")
    show()
    return ipywidgets.VBox([*controls, out])
