"""Synthetic scenes with exact depth: rooms to 20 m and streets to 80 m, drawn ray by ray in numpy. No download, no GPU.

Depth is what Hypersim's planar depth and Virtual KITTI 2 mean by it, and what the metric models of Depth Anything V2
predict: metres along the camera's optical axis (z), not the length of the ray. Sky, and all beyond 80 m, counts as 80.

A scene is a function of its domain, seed and size. Random numbers are raw words of PCG64, whose stream numpy guarantees
(the methods of `Generator` may change), and the pictures are made of + - * / and square roots alone, which IEEE 754
rounds alike everywhere: the same seed gives the same bytes on any machine. A test holds a few digests.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import CheckpointError
from .raycast import Array, Light, Paint, Solid, Triple, View, render

#: The domains, and how far each one reaches in metres (the `max_depth` of a metric model for it).
DOMAINS: dict[str, float] = {"rooms": 20.0, "streets": 80.0}
HELD_OUT = 1_000_000_000  #: seeds from here on are for measuring only; training takes seeds below


@dataclass(frozen=True)
class Scene:
    """A picture, uint8 (H, W, 3) in OpenCV's order BGR, and its depth, float32 (H, W) in metres."""

    image: Array
    depth: Array


class Dice:
    """Random numbers from PCG64's raw words."""

    def __init__(self, *words: int) -> None:
        self._words = np.random.PCG64(list(words))

    def __call__(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * ((int(self._words.random_raw()) >> 11) * 2.0**-53)

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return low + int(self() * (high - low + 1))

    def colour(self, dark: float, bright: float, tint: float) -> Triple:
        level = self(dark, bright)
        return level * self(1 - tint, 1), level * self(1 - tint * 0.7, 1), level * self(1 - tint * 0.5, 1)


def make_scene(domain: str, seed: int, size: tuple[int, int] = (112, 154)) -> Scene:
    """The scene number `seed` of a domain (`rooms` or `streets`) at `size` = (height, width) in pixels.

    Raises `CheckpointError` for an unknown domain, a negative seed or a size below 1.
    """
    if domain not in DOMAINS:
        raise CheckpointError(f"There is no domain {domain!r}", f"one of {', '.join(DOMAINS)}")
    if seed < 0 or min(size) < 1:
        raise CheckpointError(f"No scene has seed {seed} and size {size}", "a seed of 0 or more, a size from (1, 1)")
    dice = Dice(seed, list(DOMAINS).index(domain))
    solids, view, light = (_room if domain == "rooms" else _street)(dice)
    return Scene(*render(solids, view, light, size, DOMAINS[domain]))


def held_out(domain: str, count: int = 200) -> range:
    """The first `count` seeds for measuring. No training here uses a seed from `HELD_OUT` on."""
    return range(HELD_OUT, HELD_OUT + count)


# What is in a room, and in a street --------------------------------------------------------------------------------


def _room(dice: Dice) -> tuple[list[Solid], View, Light]:
    half, length, height = dice(1.7, 4.2), dice(4.5, 17.0), dice(2.4, 3.4)
    wall = dice.colour(0.55, 0.95, 0.35)
    floors = (
        Paint(dice.colour(0.4, 0.85, 0.2), (0.5, 0.5), (0.06, 0.06), 0.45, 0.15),  # tiles of half a metre
        Paint((0.28, 0.46, 0.66), (0.2, 1.6), (0.06, 0.01), 0.5, 0.35, 0.5),  # planks
        Paint(dice.colour(0.3, 0.7, 0.6), (0.25, 0.25), vary=0.12),  # carpet
    )
    walls = (
        Paint(wall, (0.6, 9.0), (0.5, 0.0), 0.9),
        Paint(wall, (0.25, 0.08), (0.06, 0.15), 0.75, 0.12, 0.5),
        Paint(wall),
    )
    ceiling = Paint((0.85, 0.87, 0.88), (0.6, 0.6), (0.05, 0.05), 0.75)
    solids = [Solid((-half, 0, 0), (half, height, length), walls[dice.integer(0, 2)], floors[dice.integer(0, 2)],
                    ceiling, "room", casts=False)]  # fmt: skip
    view = View((dice(-0.5, 0.5) * half, dice(1.35, 1.65), dice(0.4, 1.0)), dice(-0.22, 0.22), dice(-0.02, 0.09))
    for _ in range(dice.integer(1, 3)):
        solids.append(_on_wall(dice, half, length))
    taken: list[tuple[float, float]] = []
    for _ in range(dice.integer(4, 9)):
        x, z = dice(-0.85, 0.85) * half, dice(2.0, length - 0.6)
        if all(abs(x - a) > 1.6 or abs(z - b) > 1.0 for a, b in taken):
            taken.append((x, z))
            solids.extend(_furniture(dice, x, z, half, height))
    return solids, view, Light((dice(-0.5, 0.5) * half, height - 0.4, dice(0.2, 0.6) * length), False, 0.5)


def _on_wall(dice: Dice, half: float, length: float) -> Solid:
    """A door, always 0.9 by 2.05 m, or a picture; on the left, the right or the far wall."""
    bottom, width, tall = (0.0, 0.9, 2.05) if dice() < 0.6 else (dice(1.0, 1.3), dice(0.5, 1.4), dice(0.5, 0.8))
    paint = Paint(dice.colour(0.15, 0.9, 0.5), (width * 2, tall * 2), vary=0.2)
    if dice() < 0.4:
        x = dice(-0.7, 0.7) * half
        return Solid((x - width / 2, bottom, length - 0.05), (x + width / 2, bottom + tall, length), paint)
    z, near, far = dice(2.0, length - 1.0), *((-half, -half + 0.05) if dice() < 0.5 else (half - 0.05, half))
    return Solid((near, bottom, z - width / 2), (far, bottom + tall, z + width / 2), paint)


def _furniture(dice: Dice, x: float, z: float, half: float, height: float) -> list[Solid]:
    paint = Paint(dice.colour(0.25, 0.95, 0.8), (0.3, 0.05), vary=0.08)
    kind = dice.integer(0, 4)
    if kind == 0:  # a cupboard against a wall
        depth, tall, wide = dice(0.4, 0.6), dice(1.6, min(2.2, height - 0.1)), dice(0.8, 1.8)
        doors = paint._replace(cell=(0.45, tall), gap=(0.08, 0.0), seam=0.5)
        left = -half if x < 0 else half - depth
        return [Solid((left, 0, z - wide / 2), (left + depth, tall, z + wide / 2), doors)]
    if kind == 1:  # a table
        wide, deep, leg = dice(0.5, 0.9), dice(0.35, 0.5), 0.05
        legs = [Solid((x + a - leg, 0, z + b - leg), (x + a + leg, 0.7, z + b + leg), paint)
                for a in (-wide + leg, wide - leg) for b in (-deep + leg, deep - leg)]  # fmt: skip
        return [*legs, Solid((x - wide, 0.7, z - deep), (x + wide, 0.76, z + deep), paint)]
    if kind == 2:  # a sofa that looks at the camera
        wide = dice(0.6, 1.0)
        return [Solid((x - wide, 0, z - 0.4), (x + wide, 0.45, z + 0.4), paint),
                Solid((x - wide, 0.45, z + 0.2), (x + wide, 0.85, z + 0.4), paint)]  # fmt: skip
    if kind == 3:  # a ball on the floor
        r = dice(0.15, 0.45)
        return [Solid((x - r, 0, z - r), (x + r, 2 * r, z + r), paint._replace(cell=(0.3, 0.15)), shape="ball")]
    w, tall = dice(0.2, 0.5), dice(0.3, 1.1)  # a crate
    return [Solid((x - w, 0, z - w), (x + w, tall, z + w), paint._replace(cell=(5.0, 0.2), gap=(0.0, 0.12), seam=0.5))]


def _street(dice: Dice) -> tuple[list[Solid], View, Light]:
    road, walk = dice(3.0, 5.5), dice(1.5, 4.0)  # half the road's width, the pavement's width
    slabs = Paint(dice.colour(0.5, 0.65, 0.1), (0.75, 0.75), (0.08, 0.08), 0.7, 0.08)
    asphalt = Paint(dice.colour(0.2, 0.34, 0.1), (0.5, 0.5), vary=0.06)
    lawn = Paint((0.2, 0.45, 0.3), (0.7, 0.7), vary=0.2)
    far = 200.0
    line = Paint(tuple(2.2 * c for c in asphalt.colour), (9.0, 6.0), (0.0, 0.5), 0.45)  # type: ignore[arg-type]
    solids = [
        Solid((-far, -1, -20), (far, -0.01, far), lawn, lawn, casts=False),
        Solid((-road, -1, -20), (road, 0, far), asphalt, asphalt, casts=False),
        Solid((-0.08, -1, -20), (0.08, 0.005, far), line, line, casts=False),
    ]
    for sign in (-1, 1):
        solids.append(_between(sign, road, road + walk, (0.0, 0.15), (-20, far), slabs)._replace(casts=False))
        z = dice(-12, 0)
        while z < 78:
            long = dice(9, 22)
            if dice() < 0.8:
                solids.append(_building(dice, sign, road + walk + dice(0, 1.5), z, long))
            z += long + (dice(3, 9) if dice() < 0.25 else 0.0)
        for _ in range(dice.integer(1, 4)):
            lane = road - 1.0 if dice() < 0.7 else 1.6
            solids.extend(_car(dice, sign * lane, dice(6, 50)))
        for _ in range(dice.integer(0, 4)):
            solids.extend(_tree_or_lamp(dice, sign * (road + 0.6), dice(5, 60)))
    if dice() < 0.4:  # the street ends
        solids.append(_building(dice, 1, -25.0, dice(45, 78), 12.0, wide=50.0))
    view = View((dice(-0.6, 0.6) * (road - 1.5), dice(1.4, 1.7), 0.0), dice(-0.11, 0.11), dice(-0.02, 0.03))
    return solids, view, Light((dice(-0.8, 0.8), dice(0.5, 1.0), dice(-0.8, 0.3)), True, 0.5)


def _between(sign: int, near: float, far: float, y: tuple[float, float], z: tuple[float, float], paint: Paint) -> Solid:
    """A box beside the road, on the left (`sign` -1) or the right (1)."""
    a, b = sorted((sign * near, sign * far))
    return Solid((a, y[0], z[0]), (b, y[1], z[1]), paint, paint)


def _building(dice: Dice, sign: int, near: float, z: float, long: float, wide: float = 12.0) -> Solid:
    """Storeys of 3 m with windows: `colour` is the glass, the seam between the panes is the wall."""
    glass = dice(0.12, 0.3)
    wall = dice.colour(0.35, 0.85, 0.45)
    paint = Paint(tuple(glass * c for c in wall), (dice(2.0, 3.0), 3.0), (0.5, 0.45), 1 / glass, 0.5)  # type: ignore[arg-type]
    return _between(sign, near, near + wide, (0.0, 3.0 * dice.integer(2, 6) + 0.6), (z, z + long), paint)


def _car(dice: Dice, x: float, z: float) -> list[Solid]:
    body, glass, tyre = Paint(dice.colour(0.15, 0.9, 0.7)), Paint((0.22, 0.2, 0.18)), Paint((0.06, 0.06, 0.06))
    return [
        Solid((x - 0.85, 0.3, z), (x + 0.85, 0.85, z + 4.2), body),
        Solid((x - 0.7, 0.85, z + 0.5), (x + 0.7, 1.4, z + 2.9), glass, body),
        Solid((x - 0.8, 0, z + 0.4), (x + 0.8, 0.3, z + 1.0), tyre),
        Solid((x - 0.8, 0, z + 3.1), (x + 0.8, 0.3, z + 3.7), tyre),
    ]


def _tree_or_lamp(dice: Dice, x: float, z: float) -> list[Solid]:
    if dice() < 0.4:
        grey = Paint((0.3, 0.3, 0.3))
        return [Solid((x - 0.07, 0, z - 0.07), (x + 0.07, 5.0, z + 0.07), grey)]
    r, trunk = dice(0.9, 1.6), Paint((0.15, 0.2, 0.28))
    crown = Paint((0.12, dice(0.3, 0.45), 0.2), (0.3, 0.3), vary=0.4)
    return [Solid((x - 0.13, 0, z - 0.13), (x + 0.13, 2.6, z + 0.13), trunk),
            Solid((x - r, 2.2, z - r), (x + r, 2.2 + 2 * r, z + r), crown, shape="ball")]  # fmt: skip
