"""Depth maps and comparisons as pictures, each with its alt text.

Every function returns an object that a notebook shows when it is the last line of a cell. Pictures are PNGs with an
opaque background, the same bytes for the same input, and their alt text travels with them: in HTML, since JupyterLab
shows a bare PNG without one; as `text/plain`; and in the output's metadata, where nbconvert looks for it. matplotlib
is imported when the first picture is drawn; its global state (pyplot) is not touched.

Colour maps are those whose lightness rises evenly (cividis, viridis, magma), so that a picture survives a grey printer
and colour-blind eyes. Nearer is always brighter, whichever way the numbers run: metric depth grows with distance,
relative depth is inverse depth up to an unknown scale and shift (arXiv:1907.01341), so it shrinks.
"""

from __future__ import annotations

import base64
import functools
import io
import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec

import numpy as np
import numpy.typing as npt

from ..depth.doubts import ends, lightness
from ..depth.scores import depth_scores
from ..errors import CheckpointError
from ..texts import say

if TYPE_CHECKING:
    import os

    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
#: Colour maps whose lightness rises from one end to the other. `Spectral_r` is what the official code paints with.
COLOUR_MAPS = ("cividis", "viridis", "magma", "Spectral_r")
DPI = 100
METRES = (0.5, 1, 2, 5, 10, 20, 40, 80)  # where a scale of distances has its ticks


@dataclass(frozen=True)
class Picture:
    """A PNG and a sentence that says what it shows.

    `panels`: where its maps are, each as left, top, right and bottom, from 0 to 1 of the whole picture.
    """

    png: bytes = field(repr=False)
    alt: str
    panels: tuple[tuple[float, float, float, float], ...] = field(default=(), repr=False)

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, dict[str, str]]]:
        data = {"text/html": self.to_html(), "image/png": self._base64(), "text/plain": self.alt}
        return data, {"image/png": {"alt": self.alt}}

    def to_html(self) -> str:
        """The picture and its alt text as one element, with nothing to fetch."""
        source = f"data:image/png;base64,{self._base64()}"
        return f'<img style="max-width:100%" alt="{escape(self.alt)}" src="{source}">'

    def _base64(self) -> str:
        return base64.b64encode(self.png).decode("ascii")

    def __str__(self) -> str:
        return self.alt

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the PNG to `path` and return it."""
        Path(path).write_bytes(self.png)
        return Path(path)


Arguments = ParamSpec("Arguments")


def plainly(draw: Callable[Arguments, Picture]) -> Callable[Arguments, Picture]:
    """Draw in matplotlib's own style, whatever the reader has set; the reader's settings come back afterwards."""

    @functools.wraps(draw)
    def drawn(*args: Arguments.args, **options: Arguments.kwargs) -> Picture:
        matplotlib = _matplotlib()
        with matplotlib.rc_context():
            matplotlib.rcdefaults()
            return draw(*args, **options)

    return drawn


@plainly
def show_depth(
    depth: npt.ArrayLike, *, max_depth: float | None = None, image: npt.ArrayLike | None = None,
    title: str = "", cmap: str = "cividis", mark: tuple[float, float] | None = None,
) -> Picture:  # fmt: skip
    """One depth map (H, W), beside the picture that it belongs to when `image` (uint8 BGR) is given.

    With `max_depth` (metres, as the model has it) the map is metric and its colour bar is in metres. Without, it is
    relative: larger is nearer, and the bar has no numbers, because they would mean nothing. `mark` puts a cross at a
    point, given across and down from 0 to 1.
    """
    values = _map(depth)
    figure = _figure(9.0 if image is not None else 5.8, 3.4)
    axes = figure.subplots(1, 2 if image is not None else 1, squeeze=False)[0]
    if image is not None:
        _paint(axes[0], _bgr(image)[..., ::-1], say("plots.picture"))
    scale = ends(values, max_depth)
    shown = _paint_depth(axes[-1], values, title, cmap, max_depth, scale)
    _depth_bar(figure, shown, axes[-1:], max_depth, scale)
    across, down = mark or (0, 0)
    for axis in axes if mark else ():
        for width, colour in ((5, "white"), (2, "black")):  # one of the two stands out from whatever is below
            style = {"color": colour, "mew": width, "ms": 16, "clip_on": False}
            axis.plot(across, 1 - down, "+", transform=axis.transAxes, **style)
    return finish(figure, say("plots.map", title=title or say("plots.depth_map"), depths=_in_words(values, max_depth)))


@plainly
def compare_depths(
    truth: npt.ArrayLike, maps: Mapping[str, npt.ArrayLike], *, max_depth: float,
    image: npt.ArrayLike | None = None, cmap: str = "cividis", names: bool = True,
) -> Picture:  # fmt: skip
    """The true depth and several predicted ones (all (H, W), metres) under one colour bar; below, how wrong each is.

    Colours and scales go by the logarithm of the distance, so that twice as far is the same step everywhere. Below each
    map, what it says (upwards) is drawn against what is true (to the right), over all its pixels: right answers lie on
    the slanted line, and a map that says 40 m everywhere is a level line, which crosses it by accident in one place.
    Without `names` the maps are called A, B, C, and nothing below gives them away: a riddle for a class. Raises
    `CheckpointError` for maps that differ in size. Give it metric maps: relative ones have no metres.
    """
    true = _map(truth)
    predicted = {name: _map(depth) for name, depth in maps.items()}
    scores = {name: depth_scores(depth, true) for name, depth in predicted.items()}
    shown = (
        {say("plots.truth"): true, **predicted} if names else dict(zip("ABCDEFGH", predicted.values(), strict=False))
    )
    wide = 1 + (len(maps) if names else -(-len(maps) // 2))  # a riddle has two rows, to be seen from the back of a room
    figure = _figure(2.3 * wide + 0.9, 4.3)
    axes = figure.subplots(2, wide, squeeze=False)
    scale, pixels = ends(true, max_depth), None if image is None else _bgr(image)[..., ::-1]
    spare = axes[1][0] if names else axes[0][0]
    for axis in (spare,) if names else (spare, axes[1][0], axes[1][-1]):
        axis.set_axis_off()
    if pixels is not None:
        _paint(spare, pixels, say("plots.picture"))
    row = list(axes[0] if names else axes[:, 1:].flat)
    for axis, (name, depth) in zip(row[: len(shown)], shown.items(), strict=True):
        last = _paint_depth(axis, depth, name, cmap, max_depth, scale)
    _depth_bar(figure, last, axes[0] if names else axes.flat, max_depth, scale)
    if not names:
        return finish(figure, say("plots.riddle", maps=", ".join(shown)))
    for axis, (name, depth) in zip(axes[1][1:], predicted.items(), strict=True):
        _against(axis, depth[true > 0], true[true > 0], scores[name])
    listed = ", ".join(f"{name} {score['abs_rel']:.2f}" for name, score in scores.items())
    return finish(figure, say("plots.compared", truth=_in_words(true, max_depth), maps=", ".join(maps), scores=listed))


def _against(axis: Any, said: Array, true: Array, scores: dict[str, float]) -> None:
    """What a map says against what is true: the median of all pixels of one true distance, and the 80 % around it."""
    low, high = max(float(true.min()), 0.1), float(true.max())
    edges = np.geomspace(low, 1.001 * high, 25)
    groups = [(true >= a) & (true < b) for a, b in itertools.pairwise(edges)]
    found = [np.percentile(said[group], (10, 50, 90)) for group in groups if group.any()]
    middles = [float(np.median(true[group])) for group in groups if group.any()]
    worst, middle, best = np.maximum(np.array(found).T, 0.1)
    axis.plot([low, high], [low, high], color="#767676", lw=1)
    axis.fill_between(middles, worst, best, color="#9ecae1", lw=0)
    axis.plot(middles, middle, color="#08306b", lw=2)
    axis.set(xscale="log", yscale="log", xlim=(low, high))
    axis.set_ylim(min(low / 2.5, 0.9 * float(worst.min())), max(1.2 * high, 1.1 * float(best.max())))
    for side in (axis.xaxis, axis.yaxis):
        side.set_ticks([], minor=True)
        side.set_ticks(
            [t for t in METRES if low < t <= high], [f"{t:g}" for t in METRES if low < t <= high], fontsize=7
        )
    off = float(np.median(said / true))
    words = "plots.spot_on" if 0.95 < off < 1.05 else "plots.too_far" if off > 1 else "plots.too_near"
    axis.text(0.8, 0.87, say("plots.right"), transform=axis.transAxes, ha="right", fontsize=8, color="#5c5c5c")
    axis.set_title(f"AbsRel {scores['abs_rel']:.2f}\n{say(words, times=f'{max(off, 1 / off):.1f}')}", fontsize=9)
    axis.set_xlabel(say("plots.true"), fontsize=8)
    axis.set_ylabel(say("plots.said"), fontsize=8)


# The parts that the pictures share -------------------------------------------------------------------------------


def _matplotlib() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise CheckpointError(f"matplotlib cannot be imported ({error})", "the extra for the lessons",
                              "pip install 'dav2_utils[lessons]'") from error  # fmt: skip
    return matplotlib


def _figure(width: float, height: float) -> Figure:
    """An empty figure of its own, in inches, without pyplot."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=DPI, facecolor="white", layout="constrained")


def blank(width: float, height: float, paper: str) -> tuple[Figure, Any]:
    """A figure and one area that fills it, measured in inches from the upper left corner: a sheet to draw on."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=1.3 * DPI, facecolor=paper)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()
    return figure, axes


def _paint(axis: Any, pixels: Array, title: str, **options: Any) -> Any:
    """Pixels without axes; small ones as the squares that they are, which also keeps the file small."""
    axis.set_title(title, fontsize=10, parse_math=False)  # a name with a dollar in it is a name
    axis.set_axis_off()
    return axis.imshow(pixels, interpolation="nearest" if max(pixels.shape) < 400 else None, **options)


def _paint_depth(
    axis: Any, depth: Array, title: str, cmap: str, max_depth: float | None, scale: tuple[float, float]
) -> Any:
    """A depth map, nearer brighter."""
    if cmap not in COLOUR_MAPS:
        raise CheckpointError(f"There is no colour map {cmap!r} here", f"one of {', '.join(COLOUR_MAPS)}")
    return _paint(axis, lightness(depth, max_depth, scale), title, cmap=cmap, vmin=0, vmax=1)


def _depth_bar(figure: Figure, shown: Any, axes: Any, max_depth: float | None, scale: tuple[float, float]) -> None:
    """The colour bar: says nearer and farther, and metres if the depth has them."""
    bar = figure.colorbar(shown, ax=list(axes), pad=0.02)
    low, high = scale
    if max_depth is None:
        labels = [say("plots.farther"), say("plots.nearer")]
        bar.set_ticks([0, 1] if high > low else [0], labels=labels[: 2 if high > low else 1])
        bar.set_label(say("plots.relative"), fontsize=9)
        return
    ticks = [t for t in METRES if 1.15 * low < t < high / 1.15]
    places = lightness(np.array([low, *ticks, high]), max_depth, scale).tolist()
    first, last = say("plots.nearest", metres=f"{low:.1f}"), say("plots.farthest", metres=f"{high:.1f}")
    bar.set_ticks(places, labels=[first, *(f"{t:g} m" for t in ticks), last], fontsize=9)


def _in_words(depth: Array, max_depth: float | None) -> str:
    low, high = float(depth.min()), float(depth.max())
    if low == high:
        return say("doubts.flat")
    if max_depth is None:
        return say("plots.in_words_relative")
    return say("plots.in_words", low=f"{low:.1f}", high=f"{high:.1f}")


def finish(figure: Figure, alt: str) -> Picture:
    """Drawn without date or version, so the same input gives the same bytes; in 256 colours, a third of the size."""
    from PIL import Image  # a dependency of matplotlib's

    drawn, small = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    image = Image.open(drawn).convert("RGB").quantize(256, kmeans=1, dither=Image.Dither.NONE)
    image.save(small, format="png", optimize=True)
    places = [axis.get_position() for axis in figure.axes if axis.images]
    return Picture(small.getvalue(), alt, tuple((each.x0, 1 - each.y1, each.x1, 1 - each.y0) for each in places))


def _bgr(image: npt.ArrayLike) -> Array:
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise CheckpointError(f"This is not a picture: shape {pixels.shape}, {pixels.dtype}", "uint8 (H, W, 3) in BGR",
                              "Read it with cv2.imread, which returns that")  # fmt: skip
    return pixels


def _map(depth: npt.ArrayLike) -> Array:
    values = np.asarray(depth, dtype=np.float32)
    if values.ndim != 2 or not values.size:
        raise CheckpointError(f"This is not a depth map: shape {values.shape}", "two dimensions (H, W)")
    if not np.isfinite(values).all():
        raise CheckpointError(f"{np.count_nonzero(~np.isfinite(values))} of {values.size} depths are NaN or infinite",
                              "finite numbers", "Check the weights: a file cut short reads as NaN")  # fmt: skip
    return values
