"""Weights and inputs that come out the same to the bit on every machine, for comparing with the official code.

Everything is made of raw 64-bit words of NumPy's PCG64, seeded by a name, and of single float32 operations.
`data/digests.json` proves it; `data/out_vits_*.npz` hold what the official code gave for them.
"""

from __future__ import annotations

import hashlib
import math
import re
import zlib
from collections.abc import Mapping

import numpy as np

LAST_BIAS = {"vits": 0.5, "vitb": 1.75, "vitl": -0.25, "vitg": 1.0}

# (pattern in the name, standard deviation, divide it by sqrt(fan_in)?, offset); the first that matches counts
RULES = (
    (r"\.gamma$", 0.1, False, 0.5),
    (r"(^|\.)norm\d?\.weight$", 0.1, False, 1.0),
    (r"(^|\.)norm\d?\.bias$", 0.1, False, None),
    (r"\.(cls|mask)_token$", 0.5, False, None),
    (r"\.pos_embed$", 0.5, False, None),
    (r"\.attn\.qkv\.weight$", 1.5, True, None),
    (r"\.weight$", 1.0, True, None),
    (r"\.bias$", 0.1, False, None),
)


def words(name: str, count: int) -> np.ndarray:
    """`count` integers from 0 to 2**24 - 1, the same for ever for the same name."""
    return np.random.PCG64(zlib.crc32(name.encode())).random_raw(count) >> np.uint64(40)


def tensor(name: str, shape: tuple[int, ...], encoder: str = "vits") -> np.ndarray:
    """The float32 tensor called `name`."""
    if name == "depth_head.scratch.output_conv2.2.bias":
        return np.array([LAST_BIAS.get(encoder, 0.5)], np.float32)
    std, scaled, offset = next(rule[1:] for rule in RULES if re.search(rule[0], name))
    if scaled:
        transposed = re.search(r"resize_layers\.[01]\.weight$", name)
        std /= math.sqrt(shape[0] if transposed else math.prod(shape[1:]))
    k = words(name, math.prod(shape)).astype(np.int32) - np.int32(2**23)
    t = (k.astype(np.float32) * np.float32(2**-23)).reshape(shape) * np.float32(std * math.sqrt(3.0))
    return t if offset is None else t + np.float32(offset)


def weights(shapes: Mapping[str, tuple[int, ...]], encoder: str = "vits") -> dict[str, np.ndarray]:
    return {name: tensor(name, shape, encoder) for name, shape in shapes.items()}


def fingerprint(arrays: Mapping[str, np.ndarray]) -> str:
    """sha256 over the little-endian bytes, names in sorted order."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(np.ascontiguousarray(arrays[name]).astype(arrays[name].dtype.newbyteorder("<")).tobytes())
    return digest.hexdigest()


def make_image(height: int, width: int, item: int = 0) -> np.ndarray:
    """A BGR picture, uint8: ramps, a disk, a box, stripes and noise; odd items are mirrored."""
    y, x = np.mgrid[:height, :width]
    small = min(height, width)
    image = np.stack([255 * x // (width - 1), 255 * y // (height - 1), 255 * (x + y) // (width + height - 2)], axis=-1)
    image[(y - height // 3) ** 2 + (x - width // 3) ** 2 <= (small // 5) ** 2] = (30, 200, 90)
    box = (y >= height // 2) & (y < height // 2 + small // 3) & (x >= width // 2) & (x < width // 2 + small // 4)
    image[box] = (220, 40, 160)
    image[(y >= 7 * height // 8) & ((x // max(1, small // 20)) % 2 == 0)] = (10, 10, 10)
    noise = words(f"image {height}x{width} #{item}", image.size).astype(np.int64) % 41 - 20
    image = np.clip(image + noise.reshape(image.shape), 0, 255).astype(np.uint8)
    return image[:, ::-1].copy() if item % 2 else image


def make_input(batch: int, height: int, width: int) -> np.ndarray:
    """Normalised RGB, float32 (batch, 3, height, width)."""
    images = np.stack([make_image(height, width, item)[..., ::-1] for item in range(batch)])
    normal = (images / 255 - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    return np.ascontiguousarray(normal.transpose(0, 3, 1, 2).astype(np.float32))
