"""What makes a depth map doubtful although nothing failed, in words; and how light each of its pixels is painted.

Metric weights load into a relative model without a word, and so do weights that nobody trained: only the map shows it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..encoders import get_encoder
from ..texts import say

Map = npt.NDArray[np.floating]
ZEROS = 1 / 3  # of a relative map that are exactly 0
NARROW = 0.05  # of the middle between nearest and farthest


class DepthWarning(UserWarning):
    """A depth map, or weights, that mean something other than they seem to."""


def doubts(depth: Map, max_depth: float | None, encoder: str, size: int) -> list[str]:
    """What to say about a map (H, W) that `encoder` made with its shorter side at `size` pixels; usually nothing."""
    found, low, high = [], float(depth.min()), float(depth.max())
    trained = get_encoder(encoder).only_size
    if trained not in (None, size):
        found.append(say("doubts.size", encoder=encoder, trained=trained, size=size))
    zero = depth == 0
    # Right weights give zeros too, in the sky; these give them to what is near, at the bottom of the picture.
    below, above = (zero[rows].mean() for rows in (slice(len(zero) // 2, None), slice((len(zero) + 1) // 2)))
    if max_depth is None and zero.mean() >= ZEROS and below >= above:
        found.append(say("doubts.zeros", share=f"{zero.mean():.0%}"))
    elif high - low <= NARROW * (high + low) / 2:
        found.append(say("doubts.flat" if low == high else "doubts.narrow"))
    return found


def ends(depth: Map, max_depth: float | None) -> tuple[float, float]:
    """Where the scale of colours begins and ends for this map: metres, or relative numbers."""
    low, high = float(depth.min()), float(depth.max())
    if max_depth is None:
        return low, high
    low = max(low, 0.1)
    return low, max(high, 1.01 * low)


def lightness(depth: Map, max_depth: float | None, scale: tuple[float, float]) -> Map:
    """Each pixel from 0 (far) to 1 (near): metres by their logarithm, so that twice as far is the same step
    everywhere, relative depth as it is. Every picture of depth here, file or figure, is painted by this."""
    low, high = scale
    if max_depth is None:
        return np.asarray(np.clip((depth - low) / ((high - low) or 1.0), 0, 1))
    return np.asarray(1 - np.log(np.clip(depth, low, high) / low) / np.log(high / low))
