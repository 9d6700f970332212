"""How good a depth map is, in the measures that the field reports."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import CheckpointError


def depth_scores(prediction: npt.ArrayLike, truth: npt.ArrayLike) -> dict[str, float]:
    """AbsRel mean(|p - t| / t), delta1 (the part with max(p/t, t/p) < 1.25) and RMSE in metres, over depths t > 0.

    The measures of Eigen, Puhrsch and Fergus, NIPS 2014 (arXiv:1406.2283), in which Depth Anything V2 reports too.
    Both arguments have the same shape and are in metres. For many pictures, average the scores of each.
    """
    p, t = np.asarray(prediction, dtype=np.float64), np.asarray(truth, dtype=np.float64)
    if p.shape != t.shape or not (t > 0).any():
        raise CheckpointError(f"A prediction {p.shape} cannot be scored against a truth {t.shape}",
                              "two maps of one shape, some depth in the truth above 0")  # fmt: skip
    p, t = p[t > 0], t[t > 0]
    close = (p < 1.25 * t) & (t < 1.25 * p)
    return {
        "abs_rel": float(np.mean(np.abs(p - t) / t)),
        "delta1": float(np.mean(close)),
        "rmse": float(np.sqrt(np.mean((p - t) ** 2))),
    }
