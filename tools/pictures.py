"""The pictures of README, slides and the printed sheet: `python tools/pictures.py`, into docs/pictures.

All of it is made by the package: real names, the real error, a real fine-tune. There are two of each drawing, for light
and for dark pages. Lesson 04's picture of four maps is kept by tools/lessons.py.
"""

from __future__ import annotations

import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lesson_runs import trained
from torch import nn

import dav2_utils
from dav2_utils.classroom.drawings import Sheet
from dav2_utils.classroom.plots import Picture, plainly

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "pictures"
WAYS = {"replace": lambda name: name.replace("module.", ""), "removeprefix": lambda name: name.removeprefix("module.")}
RED = {False: ("#a11414", "#fdecec"), True: ("#ff9d9d", "#3a1717")}


def drawings(dark: bool) -> dict[str, Picture]:
    """The ideas of the lessons, from a model and its wrapper; nothing is trained for them."""
    torch.manual_seed(0)
    model = dav2_utils.DepthAnythingV2("tiny", max_depth=80)
    wrapped = nn.DataParallel(model)
    state: dict[str, Any] = {"model": wrapped.state_dict(), "optimizer": {}, "epoch": 39, "previous_best": {}}
    return {
        "tables": dav2_utils.draw_tables(wrapped, model, dark=dark),
        "paths": dav2_utils.draw_paths({"at home": model, "in training": wrapped}, dark=dark),
        "box": dav2_utils.draw_box(state, dark=dark),
        "cuts": dav2_utils.draw_cuts("module.se_module.fc1.weight", WAYS, dark=dark),
    }


def depth_maps(latest: Path) -> tuple[Any, dict[str, Any]]:
    """A street, and what the base, a careless load and the fixed fine-tune see in it, as in lesson 04."""
    street = dav2_utils.make_scene("streets", dav2_utils.held_out("streets")[3])
    torch.manual_seed(0)
    careless = dav2_utils.DepthAnythingV2("tiny", max_depth=80).eval()
    models = {"base": dav2_utils.load_model("tiny"), "strict=False": careless}
    models["fixed"] = dav2_utils.load_model(latest, max_depth=80)
    return street, {name: model.infer_image(street.image, input_size=112) for name, model in models.items()}


def wall(latest: Path) -> str:
    """What torch says when the file is loaded as it is."""
    try:
        dav2_utils.DepthAnythingV2("tiny").load_state_dict(torch.load(latest, map_location="cpu", weights_only=True))
    except RuntimeError as error:
        return f"RuntimeError: {error}"
    raise AssertionError("the file loads as it is")


@plainly
def taste(error: str, street: Any, depth: Any, dark: bool) -> Picture:
    """README's beginning as three panels: the red wall, the five lines, the map."""
    lines = textwrap.wrap(re.sub(r"\s+", " ", error), 47)[:12]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    code = re.sub(r"\s+#.*$", "", re.findall(r"```python\n(.*?)```", readme, re.S)[0], flags=re.M).strip()
    code = code.replace(", map_location", ",\n           map_location").replace(": tensor for", ": tensor\n  for")
    sheet = Sheet(10.9, 3.0, dark)
    for left, width, title in ((0.15, 4.0, "1  torch says"), (4.35, 4.2, "2  five lines"), (8.75, 2.0, "3  it sees")):
        sheet.text(left, 0.22, title, size=13, weight="bold")
        sheet.box(left, 0.45, width, 2.4)
    sheet.theme = sheet.theme | {"added": RED[dark]}
    sheet.box(0.15, 0.45, 4.0, 2.4, "added")
    for at, line in enumerate(lines):
        sheet.text(0.3, 0.62 + 0.185 * at, line + " ..." * (at == len(lines) - 1), "added", 8.6, family="monospace")
    for at, line in enumerate(code.splitlines()):
        sheet.text(4.5, 0.72 + 0.27 * at, line, "ink", 9.2, family="monospace")
    colours = {"cmap": "cividis_r", "vmin": np.log(street.depth.min()), "vmax": np.log(80)}
    for at, pixels in enumerate((street.image[..., ::-1], np.log(depth))):
        inside = sheet.figure.add_axes((8.9 / 10.9, (0.22 + 1.12 * (1 - at)) / 3.0, 1.7 / 10.9, 1.05 / 3.0))
        inside.imshow(pixels, interpolation="nearest", **(colours if at else {}))
        inside.set_axis_off()
    return sheet.done("Three panels: torch's long red error, the five lines that fix it, a street with its depth map.")


def main() -> int:
    FOLDER.mkdir(exist_ok=True)
    latest = trained()
    street, maps = depth_maps(latest)
    riddle = {name: maps[name] for name in ("base", "strict=False", "fixed")} | {"truth": street.depth}
    made = {"which_one": dav2_utils.compare_depths(street.depth, riddle, max_depth=80, image=street.image, names=False)}
    for dark in (False, True):
        drawn = drawings(dark) | {"taste": taste(wall(latest), street, maps["fixed"], dark)}
        made |= {name + "_dark" * dark: picture for name, picture in drawn.items()}
    for name, picture in made.items():
        picture.save(FOLDER / f"{name}.png")
        print(f"{name:14} {len(picture.png) / 1000:5.0f} kB  {picture.alt}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
