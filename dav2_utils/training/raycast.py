"""A small ray caster: boxes, balls, one lamp or the sun, in numpy; a picture and its exact depth come out.

All arithmetic is + - * / and square roots on single elements, which IEEE 754 rounds alike everywhere, so that a scene
has the same bytes on any machine. Numbers are float32; maps are (H, W); rays are three maps (x, y, z).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Triple = tuple[float, float, float]
FOCAL = 0.65  #: focal length as a part of the picture's width: every scene is seen through the same lens
HAZE = (0.86, 0.8, 0.74)  #: the colour (BGR) that far things fade to outdoors


class Paint(NamedTuple):
    """A colour (BGR, 0 to 1), and a grid of tiles, bricks, planks or windows drawn on it."""

    colour: Triple
    cell: tuple[float, float] = (1.0, 1.0)  # metres
    gap: tuple[float, float] = (0.0, 0.0)  # the part of a cell that its seam takes
    seam: float = 1.0  # brightness of the seam
    vary: float = 0.0  # how much cells differ in brightness
    shift: float = 0.0  # by how much of a cell each second row is moved, as in a brick wall


class Solid(NamedTuple):
    """A box between two corners, the ball that fits it, or a room seen from within. Metres: x right, y up, z ahead."""

    low: Triple
    high: Triple
    side: Paint
    upward: Paint | None = None  # what looks up: a box's lid, a room's floor; `side` if none is given
    downward: Paint | None = None
    shape: str = "box"  # box, ball or room
    casts: bool = True  # a shadow


class View(NamedTuple):
    """Where the camera stands, and how it is turned (half-angle tangents, so that no sine is needed)."""

    eye: Triple
    yaw: float
    pitch: float


class Light(NamedTuple):
    """A lamp at a place (rooms), or the sun in a direction (streets)."""

    place: Triple
    is_sun: bool
    ambient: float


def render(solids: Sequence[Solid], view: View, light: Light, size: tuple[int, int], far: float) -> tuple[Array, Array]:
    """A picture, uint8 BGR (H, W, 3), and its depth along the optical axis, float32 (H, W), at most `far` metres."""
    rays = _rays(view, size)
    depth, owner, axis = _trace(solids, view, rays, size, far)
    points = [np.float32(view.eye[i]) + depth * rays[i] for i in range(3)]
    normal = _normals(solids, points, rays, owner, axis)
    colour = _paint(solids, points, normal, depth, owner, axis, FOCAL * size[1])
    with np.errstate(divide="ignore", invalid="ignore"):  # a ray along a plane meets it at infinity, or nowhere
        bright = _brightness(solids, light, points, normal, owner)
    image = np.empty((*size, 3), np.float32)
    for channel in range(3):
        image[..., channel] = colour[channel] * bright
        if light.is_sun:
            sky = HAZE[channel] + (1.0, 0.72, 0.55)[channel] * 0.5 * (0.3 - np.minimum(rays[1], 0.5))
            mist = depth * np.float32(0.6 / far)
            near = image[..., channel] * (1 - mist) + np.float32(HAZE[channel]) * mist
            image[..., channel] = np.where(owner < 0, sky, near)
    return (np.clip(image, 0, 1) * np.float32(255) + np.float32(0.5)).astype(np.uint8), depth


def _rays(view: View, size: tuple[int, int]) -> list[Array]:
    """Directions (x, y, z), each float32 (H, W); one metre along the optical axis each, so a ray's length is depth."""
    height, width = size
    focal = FOCAL * width
    x = ((np.arange(width) + (0.5 - width / 2)) / focal)[None, :]
    y = ((np.arange(height)[::-1] + (0.5 - height / 2)) / focal)[:, None]
    (cos_p, sin_p), (cos_y, sin_y) = _turn(view.pitch), _turn(view.yaw)
    up, ahead = y * cos_p - sin_p, y * sin_p + cos_p
    parts = x * cos_y + ahead * sin_y, up + 0 * x, ahead * cos_y - x * sin_y
    return [np.where(part == 0, 1e-6, part).astype(np.float32) for part in parts]


def _turn(t: float) -> tuple[float, float]:
    """Cosine and sine of the angle whose half has the tangent `t`."""
    return (1 - t * t) / (1 + t * t), 2 * t / (1 + t * t)


def _crossings(solid: Solid, start: Sequence[Any], rays: Sequence[Any]) -> tuple[list[Array], list[Array]]:
    """Where rays cross the three pairs of planes of a box: entries and exits, each (x, y, z)."""
    entries, exits = [], []
    for axis in range(3):
        one = (np.float32(solid.low[axis]) - start[axis]) / rays[axis]
        two = (np.float32(solid.high[axis]) - start[axis]) / rays[axis]
        entries.append(np.minimum(one, two))
        exits.append(np.maximum(one, two))
    return entries, exits


def _meets_ball(solid: Solid, start: Sequence[Any], rays: Sequence[Any]) -> tuple[Array, Array]:
    """Entry and exit of rays through a ball; infinity and minus infinity if they miss it."""
    a: Any = 0.0
    b: Any = 0.0
    c: Any = -(np.float32((solid.high[0] - solid.low[0]) / 2) ** 2)
    for axis in range(3):
        away = start[axis] - np.float32((solid.low[axis] + solid.high[axis]) / 2)
        a, b, c = a + rays[axis] * rays[axis], b + away * rays[axis], c + away * away
    inside = b * b - a * c
    root = np.sqrt(np.maximum(inside, 0))
    hit = inside > 0
    return np.where(hit, (-b - root) / a, np.inf), np.where(hit, (-b + root) / a, -np.inf)


def _frame(solid: Solid, view: View, size: tuple[int, int]) -> tuple[slice, slice] | None:
    """The rows and columns in which a solid can be seen; None if it is behind the camera."""
    height, width = size
    x, y, z = np.meshgrid(*zip(solid.low, solid.high, strict=True), indexing="ij")
    x, y, z = x.ravel() - view.eye[0], y.ravel() - view.eye[1], z.ravel() - view.eye[2]
    (cos_p, sin_p), (cos_y, sin_y) = _turn(view.pitch), _turn(view.yaw)
    right, ahead = x * cos_y - z * sin_y, x * sin_y + z * cos_y
    up, depth = y * cos_p + ahead * sin_p, ahead * cos_p - y * sin_p
    if (depth < 0.1).all():
        return None
    if (depth < 0.1).any():
        return slice(0, height), slice(0, width)
    columns = right / depth * (FOCAL * width) + width / 2
    rows = height / 2 - up / depth * (FOCAL * width)
    return _span(rows, height), _span(columns, width)


def _span(values: Array, end: int) -> slice:
    return slice(max(0, min(end, int(values.min()) - 1)), max(0, min(end, int(values.max()) + 2)))


def _trace(
    solids: Sequence[Solid], view: View, rays: Sequence[Array], size: tuple[int, int], far: float
) -> tuple[Array, Array, Array]:
    """For each pixel the depth, the solid seen (-1: none) and the axis its face is square to (3: a ball)."""
    depth = np.full(size, far, np.float32)
    owner, axis = np.full(size, -1, np.int64), np.zeros(size, np.int64)
    eye = [np.full(1, value, np.float32) for value in view.eye]
    for number, solid in enumerate(solids):
        frame = _frame(solid, view, size)
        if frame is None:
            continue
        hit, face = _first_hit(solid, eye, [ray[frame] for ray in rays])
        closer = (hit > 0) & (hit < depth[frame])
        np.copyto(depth[frame], hit, where=closer)
        np.copyto(owner[frame], number, where=closer)
        np.copyto(axis[frame], face, where=closer)
    return depth, owner, axis


def _first_hit(solid: Solid, start: Sequence[Array], rays: Sequence[Array]) -> tuple[Array, Any]:
    if solid.shape == "ball":
        return _meets_ball(solid, start, rays)[0], 3
    entries, exits = _crossings(solid, start, rays)
    if solid.shape == "room":  # seen from within: where the ray leaves
        out = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
        return out, np.where(out == exits[0], 0, np.where(out == exits[1], 1, 2))
    enter = np.maximum(np.maximum(entries[0], entries[1]), entries[2])
    leave = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
    face = np.where(enter == entries[0], 0, np.where(enter == entries[1], 1, 2))
    return np.where(enter < leave, enter, np.float32(np.inf)), face


def _normals(
    solids: Sequence[Solid], points: Sequence[Array], rays: Sequence[Array], owner: Array, axis: Array
) -> list[Array]:
    """Unit normals (x, y, z): a face looks against the ray that hits it, a ball away from its centre."""
    low, high = (np.array([getattr(s, end) for s in solids], np.float32) for end in ("low", "high"))
    normals = []
    for i in range(3):
        flat = np.where(axis == i, -np.sign(rays[i]), np.float32(0))
        middle, radius = (low[:, i] + high[:, i])[owner] / 2, (high[:, i] - low[:, i])[owner] / 2
        normals.append(np.where(axis == 3, (points[i] - middle) / radius, flat))
    return normals


def _paint(
    solids: Sequence[Solid], points: Sequence[Array], normal: Sequence[Array], depth: Array, owner: Array, axis: Array,
    focal: float,
) -> list[Array]:  # fmt: skip
    """The unlit colour of each pixel (B, G, R), with the grid of its paint; a grid too fine to see fades out."""
    paints = [paint for s in solids for paint in (s.side, s.upward or s.side, s.downward or s.side)]
    which = 3 * owner + np.where(axis == 1, np.where(normal[1] > 0, 1, 2), 0)
    table = np.array([(*p.colour, *p.cell, *p.gap, p.seam, p.vary, p.shift) for p in paints], np.float32)
    blue, green, red, cell_a, cell_b, gap_a, gap_b, seam, vary, shift = (column[which] for column in table.T)
    a = np.where(axis == 0, points[2], points[0]) / cell_a
    b = np.where(axis == 1, points[2], points[1]) / cell_b
    row = np.floor(b)
    a = a + shift * (row - 2 * np.floor(row / 2))
    in_seam = (a - np.floor(a) < gap_a) | (b - row < gap_b)
    chance = _hash(np.floor(a), row, which)
    value = np.where(in_seam, seam, 1 + vary * (2 * chance - 1))
    mean = 1 + (seam - 1) * (1 - (1 - gap_a) * (1 - gap_b))
    pixels = np.minimum(cell_a, cell_b) * np.float32(focal) / depth
    value = mean + (value - mean) * np.clip((pixels - 1) / 2, 0, 1)
    return [blue * value, green * value, red * value]


def _hash(a: Array, b: Array, c: Array) -> Array:
    """A number from 0 to 1 for each cell, always the same for the same cell."""
    words = [x.astype(np.int64).astype(np.uint32) for x in (a, b, c)]
    h = words[0] * np.uint32(73856093) ^ words[1] * np.uint32(19349663) ^ words[2] * np.uint32(83492791)
    h = (h ^ h >> np.uint32(13)) * np.uint32(0x5BD1E995)
    number: Array = ((h ^ h >> np.uint32(15)) & np.uint32(0xFFFF)).astype(np.float32) / np.float32(65535)
    return number


def _brightness(
    solids: Sequence[Solid], light: Light, points: Sequence[Array], normal: Sequence[Array], owner: Array
) -> Array:
    """Ambient light, and where neither angle nor a shadow forbids it the lamp's or the sun's."""
    to: list[Any] = [np.float32(light.place[i]) - (0 if light.is_sun else points[i]) for i in range(3)]
    square = to[0] * to[0] + to[1] * to[1] + to[2] * to[2]
    facing = (normal[0] * to[0] + normal[1] * to[1] + normal[2] * to[2]) / np.sqrt(square)
    lit = (facing > 0) & (owner >= 0)
    # Start a little off the surface, lest it shade itself.
    start = [points[i][lit] + np.float32(0.01) * normal[i][lit] for i in range(3)]
    rays = [np.full(1, to[i], np.float32) if light.is_sun else to[i][lit] for i in range(3)]
    strength = facing[lit] * ~_blocked(solids, start, rays, np.inf if light.is_sun else 1.0)
    if not light.is_sun:  # a lamp's light thins with distance
        strength = strength / (1 + square[lit] / np.float32(60))
    bright = np.full(owner.shape, light.ambient, np.float32)
    bright[lit] += np.float32(1.4 * (1 - light.ambient)) * strength
    return bright


def _blocked(solids: Sequence[Solid], start: Sequence[Array], rays: Sequence[Array], limit: float) -> Array:
    blocked = np.zeros(start[0].shape, bool)
    for solid in solids:
        if not solid.casts:
            continue
        if solid.shape == "ball":
            enter, leave = _meets_ball(solid, start, rays)
        else:
            entries, exits = _crossings(solid, start, rays)
            enter = np.maximum(np.maximum(entries[0], entries[1]), entries[2])
            leave = np.minimum(np.minimum(exits[0], exits[1]), exits[2])
        blocked |= (enter < leave) & (leave > 0) & (enter < limit)
    return blocked
