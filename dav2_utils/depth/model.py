"""Depth Anything V2: the DINOv2 encoder of `dinov2.py`, a DPT head, and a picture in, a depth map out.

Every parameter has the name and the shape that it has in the official code, so official files load as they are.
Sources: Depth Anything V2 (arXiv:2406.09414), DPT (arXiv:2103.13413). Shapes in the comments: B pictures, each of
h x w patches of 14 x 14 pixels.
"""

# Calling an nn.Module gives Any in torch's own types, hence:
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

import warnings
from collections.abc import Sequence
from numbers import Integral
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from ..encoders import ENCODERS, PATCH, check_max_depth, get_encoder
from ..errors import CheckpointError
from .dinov2 import DinoVisionTransformer
from .doubts import DepthWarning, doubts
from .opencv import import_cv2

#: The arguments of the official examples: `DepthAnythingV2(**model_configs["vits"])`.
model_configs: dict[str, dict[str, Any]] = {
    e.name: {"encoder": e.name, "features": e.features, "out_channels": list(e.out_channels)} for e in ENCODERS.values()
}

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures: RGB, values from 0 to 1
PICTURE_LIMIT = 64_000_000  # pixels of a picture; preparing it takes 24 bytes for each, 1.5 GB
NETWORK_LIMIT = 4_200_000  # pixels in the network, about 2,050 x 2,050; vits takes 2.6 GB for that


class InputError(CheckpointError, ValueError):
    """A picture or a size that the model cannot take."""

    kind = "input"


class ResidualConvUnit(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, features: int, use_bn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        self.use_bn = use_bn
        if use_bn:
            self.bn1 = nn.BatchNorm2d(features)
            self.bn2 = nn.BatchNorm2d(features)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(x))
        y = self.bn1(y) if self.use_bn else y
        y = self.conv2(F.relu(y))
        y = self.bn2(y) if self.use_bn else y
        return x + y


class FeatureFusionBlock(nn.Module):
    """Add a finer map to the coarse one, and enlarge the sum to `size`."""

    def __init__(self, features: int, use_bn: bool) -> None:
        super().__init__()
        self.out_conv = nn.Conv2d(features, features, 1)
        self.resConfUnit1 = ResidualConvUnit(features, use_bn)
        self.resConfUnit2 = ResidualConvUnit(features, use_bn)

    def forward(self, coarse: Tensor, fine: Tensor | None, size: Sequence[int]) -> Tensor:
        if fine is not None:
            coarse = coarse + self.resConfUnit1(fine)
        # The official code enlarges first. A 1x1 convolution mixes channels and a resize mixes pixels, so the order
        # changes nothing but the work: this way round the convolution has a quarter of the pixels.
        return resize(self.out_conv(self.resConfUnit2(coarse)), size)


class Scratch(nn.Module):
    """The part of the head without an encoder's shape in it; this name and this order are DPT's."""

    def __init__(self, features: int, out: Sequence[int], use_bn: bool, last: nn.Module) -> None:
        super().__init__()
        self.layer1_rn = nn.Conv2d(out[0], features, 3, padding=1, bias=False)
        self.layer2_rn = nn.Conv2d(out[1], features, 3, padding=1, bias=False)
        self.layer3_rn = nn.Conv2d(out[2], features, 3, padding=1, bias=False)
        self.layer4_rn = nn.Conv2d(out[3], features, 3, padding=1, bias=False)
        self.refinenet1 = FeatureFusionBlock(features, use_bn)
        self.refinenet2 = FeatureFusionBlock(features, use_bn)
        self.refinenet3 = FeatureFusionBlock(features, use_bn)
        self.refinenet4 = FeatureFusionBlock(features, use_bn)  # nothing comes before it: its resConfUnit1 never runs
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), last
        )  # fmt: skip


class DPTHead(nn.Module):
    """The tokens of four layers become four maps, and these one: (B, 1, 14 h, 14 w)."""

    def __init__(
        self, width: int, features: int, out: Sequence[int], use_bn: bool, use_clstoken: bool, last: nn.Module
    ) -> None:
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in out)
        four_times = nn.ConvTranspose2d(out[0], out[0], 4, stride=4)
        twice = nn.ConvTranspose2d(out[1], out[1], 2, stride=2)
        half = nn.Conv2d(out[3], out[3], 3, stride=2, padding=1)
        self.resize_layers = nn.ModuleList((four_times, twice, nn.Identity(), half))
        self.use_clstoken = use_clstoken
        if use_clstoken:
            readouts = (nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in out)
            self.readout_projects = nn.ModuleList(readouts)
        self.scratch = Scratch(features, out, use_bn, last)

    def forward(self, layers: Sequence[tuple[Tensor, Tensor]], h: int, w: int) -> Tensor:
        s, maps = self.scratch, [self.reassemble(i, *layer, h, w) for i, layer in enumerate(layers)]
        one, two, three, four = s.layer1_rn(maps[0]), s.layer2_rn(maps[1]), s.layer3_rn(maps[2]), s.layer4_rn(maps[3])
        path = s.refinenet4(four, None, three.shape[-2:])
        path = s.refinenet3(path, three, two.shape[-2:])
        path = s.refinenet2(path, two, one.shape[-2:])
        path = s.refinenet1(path, one, (8 * h, 8 * w))
        return s.output_conv2(resize(s.output_conv1(path), (PATCH * h, PATCH * w)))

    def reassemble(self, i: int, patches: Tensor, cls: Tensor, h: int, w: int) -> Tensor:
        """The tokens (B, N, C) of layer i laid out as a map, at that layer's own fineness."""
        if self.use_clstoken:
            patches = self.readout_projects[i](torch.cat((patches, cls.unsqueeze(1).expand_as(patches)), dim=-1))
        # In memory the channels of a token lie side by side, and in this view they still do ("channels last"), so every
        # convolution from here on works that way, which is faster on a CPU. transpose before unflatten would lose it.
        grid = patches.unflatten(1, (h, w)).permute(0, 3, 1, 2)
        return self.resize_layers[i](self.projects[i](grid))


def resize(x: Tensor, size: Sequence[int]) -> Tensor:
    """(B, C, ...) to (B, C, *size), corner on corner."""
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


class DepthAnythingV2(nn.Module):
    """Depth from one picture. `DepthAnythingV2("vits")` is relative, `DepthAnythingV2("vits", max_depth=20)` metric.

    A relative model gives disparity: zero or more, larger is nearer, without a unit. A metric one gives metres between
    0 and `max_depth`. The weights do not show which of the two they are, and no official file records its `max_depth`:
    you have to know it (20 for the official indoor weights, 80 for outdoor). `features` and `out_channels` follow from
    the encoder unless given. Raises `CheckpointError` for an unknown encoder and for an impossible range.
    """

    def __init__(
        self,
        encoder: str = "vitl",
        features: int | None = None,
        out_channels: Sequence[int] | None = None,
        use_bn: bool = False,
        use_clstoken: bool = False,
        max_depth: float | None = None,
    ) -> None:
        super().__init__()
        e = get_encoder(encoder)
        check_max_depth(max_depth)
        self.encoder, self.max_depth = encoder, max_depth
        last = nn.ReLU() if max_depth is None else nn.Sigmoid()
        features, out = features or e.features, out_channels or e.out_channels
        self.pretrained = DinoVisionTransformer(e)
        self.depth_head = DPTHead(e.width, features, out, use_bn, use_clstoken, last)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W), H and W multiples of 14, to depth (B, H, W). Raises `InputError` otherwise."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % PATCH or image.shape[3] % PATCH:
            raise InputError(
                f"The model got a tensor of shape {tuple(image.shape)}",
                f"(B, 3, H, W), H and W multiples of {PATCH}",
                "infer_image takes a picture of any size and prepares it",
            )
        h, w = image.shape[2] // PATCH, image.shape[3] // PATCH
        depth = self.depth_head(self.pretrained(image), h, w).squeeze(1)
        return depth if self.max_depth is None else depth * self.max_depth

    @torch.inference_mode()
    def infer_image(self, raw_image: NDArray[np.uint8], input_size: int | None = None) -> NDArray[np.float32]:
        """Depth (H, W), float32, of a picture as `cv2.imread` gives it: (H, W, 3), uint8, BGR. See `image2tensor`.

        Warns (`DepthWarning`) when the map shows that these can hardly be the right weights, range or size.
        """
        image, size = self.image2tensor(raw_image, input_size)
        depth = self(image.to(next(self.parameters()).dtype))
        found: NDArray[np.float32] = resize(depth[:, None].float(), size)[0, 0].cpu().numpy()
        for doubt in doubts(found, self.max_depth, self.encoder, min(image.shape[-2:])):
            warnings.warn(doubt, DepthWarning, stacklevel=3)  # past torch's decorator
        return found

    def image2tensor(
        self, raw_image: NDArray[np.uint8], input_size: int | None = None
    ) -> tuple[Tensor, tuple[int, int]]:
        """A BGR picture as the network wants it, (1, 3, h, w) on the model's device, and the picture's own (H, W).

        The shorter side becomes `input_size`, by default the one that the encoder was trained at (518, `tiny` 112);
        the longer keeps the ratio, to the nearest multiple of 14. The resize works in float64, as the official one
        does; float32 would differ by 3e-5. Raises `InputError` for anything that isn't such a picture or would take
        gigabytes, `CheckpointError` if OpenCV cannot be imported.
        """
        h, w = _network_size(raw_image, get_encoder(self.encoder).input_size if input_size is None else input_size)
        cv2 = import_cv2()
        rgb = cv2.resize(raw_image[..., ::-1] / 255.0, (w, h), interpolation=cv2.INTER_CUBIC)
        image = torch.from_numpy(((rgb - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None].contiguous()
        return image.to(next(self.parameters()).device), (raw_image.shape[0], raw_image.shape[1])


def _network_size(image: NDArray[np.uint8], input_size: int) -> tuple[int, int]:
    """The height and width at which the network sees `image`. Raises `InputError` for what it must not see."""
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        what = f"an array of shape {image.shape}, {image.dtype}" if isinstance(image, np.ndarray) else repr(image)
        raise InputError(
            f"Not a picture that the model takes: {what:.100}",
            "a NumPy array (H, W, 3), uint8 from 0 to 255, in the order BGR",
            "cv2.imread(path) gives that, or None when it cannot read the file; a float picture from 0 to 1 becomes "
            "one by (255 * picture).round().astype('uint8')",
        )
    if not isinstance(input_size, Integral) or input_size < PATCH or input_size % PATCH:
        wanted = max(1, round(input_size / PATCH)) * PATCH if isinstance(input_size, Integral) else 518
        raise InputError(f"input_size is {input_size!r}", f"a multiple of {PATCH}, {PATCH} or more", f"Try {wanted}")
    height, width = image.shape[:2]
    if not 0 < height * width <= PICTURE_LIMIT:
        do = "Make it smaller first (cv2.resize); the network sees it at input_size anyway"
        raise InputError(f"The picture has {height} x {width} pixels", f"1 to {PICTURE_LIMIT:,}", do)
    scale = max(input_size / height, input_size / width)
    h, w = (round(scale * side / PATCH) * PATCH for side in (height, width))
    if h * w > NETWORK_LIMIT:
        raise InputError(
            f"A picture of {height} x {width} is {h} x {w} in the network at input_size {input_size}",
            f"at most {NETWORK_LIMIT:,} pixels there, since more take gigabytes",
            "Cut the picture into parts, or take a smaller input_size",
        )
    return h, w
