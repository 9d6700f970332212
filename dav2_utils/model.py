"""Depth Anything V2, to be read from top to bottom: a DINOv2 encoder, a DPT head, and a picture in, a depth map out.

Every parameter has the name and the shape that it has in the official code, so official files load as they are.
Sources: Depth Anything V2 (arXiv:2406.09414), DINOv2 (arXiv:2304.07193), DPT (arXiv:2103.13413).

Shapes in the comments: B pictures, N patches of 14 x 14 pixels, C channels of a token, h x w patches in a picture.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from .architecture import ENCODERS, PATCH, Encoder, get_encoder
from .keys import CheckpointError

#: The arguments of the official examples: `DepthAnythingV2(**model_configs["vits"])`.
model_configs: dict[str, dict[str, Any]] = {
    e.name: {"encoder": e.name, "features": e.features, "out_channels": list(e.out_channels)}
    for e in ENCODERS.values()
}  # fmt: skip

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pictures, RGB, values in 0..1
IMAGE_LIMIT = 64_000_000  # pixels of a picture; preparing it takes 48 bytes for each
NETWORK_LIMIT = 4_200_000  # pixels that go into the network, about 2,050 x 2,050


class InputError(CheckpointError, ValueError):
    """A picture or a size that the model cannot take."""

    kind = "input"


# ---- The encoder: DINOv2 ---------------------------------------------------------------------------------------------


class PatchEmbed(nn.Module):
    """Cut the picture into patches and make each one a token: (B, 3, H, W) -> (B, N, C)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, kernel_size=PATCH, stride=PATCH)

    def forward(self, image: Tensor) -> Tensor:
        return self.proj(image).flatten(2).transpose(1, 2)


class Attention(nn.Module):
    """Every token looks at every other: (B, N, C) -> (B, N, C)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)  # query, key and value in one matrix, in this order
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(query, key, value)  # never holds the whole N x N matrix
        return self.proj(seen.transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """The feed-forward of every encoder but vitg."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    """The feed-forward of vitg: one half of the hidden channels is a gate for the other (arXiv:2002.05202)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.w12 = nn.Linear(width, 2 * hidden)
        self.w3 = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        gate, hidden = self.w12(x).chunk(2, dim=-1)
        return self.w3(F.silu(gate) * hidden)


class LayerScale(nn.Module):
    """One learned factor for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Attention, then feed-forward, each added to what came in."""

    def __init__(self, e: Encoder) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(e.width, eps=1e-6)
        self.attn = Attention(e.width, e.heads)
        self.ls1 = LayerScale(e.width)
        self.norm2 = nn.LayerNorm(e.width, eps=1e-6)
        self.mlp = SwiGLU(e.width, e.hidden) if e.swiglu else Mlp(e.width, e.hidden)
        self.ls2 = LayerScale(e.width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        return x + self.ls2(self.mlp(self.norm2(x)))


class DinoVisionTransformer(nn.Module):
    """The encoder. Takes (B, 3, H, W) and gives, for each of four layers, the patches (B, N, C) and the class token (B, C)."""

    def __init__(self, e: Encoder) -> None:
        super().__init__()
        self.layers, self.grid = e.layers, e.image_size // PATCH
        self.cls_token = nn.Parameter(torch.zeros(1, 1, e.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, self.grid**2 + 1, e.width))
        self.mask_token = nn.Parameter(torch.zeros(1, e.width))  # from DINOv2's own training; changes no output here
        self.patch_embed = PatchEmbed(e.width)
        self.blocks = nn.ModuleList(Block(e) for _ in range(e.depth))
        self.norm = nn.LayerNorm(e.width, eps=1e-6)
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def positions(self, h: int, w: int) -> Tensor:
        """The position table for h x w patches: (1, 1 + h*w, C).

        Official weights were made with the 0.1 below. transformers resizes to the exact size instead, so the same
        weights give another depth there at every size but 518 x 518.
        """
        if h == w == self.grid:
            return self.pos_embed
        cls, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:].float()
        patches = patches.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        scale = ((h + 0.1) / self.grid, (w + 0.1) / self.grid)
        patches = F.interpolate(patches, scale_factor=scale, mode="bicubic")
        return torch.cat((cls, patches.flatten(2).transpose(1, 2).to(cls.dtype)), dim=1)

    def forward(self, image: Tensor) -> list[tuple[Tensor, Tensor]]:
        h, w = image.shape[-2] // PATCH, image.shape[-1] // PATCH
        x = self.patch_embed(image)
        x = torch.cat((self.cls_token.expand(len(x), -1, -1), x), dim=1) + self.positions(h, w)
        taken = []
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self.layers:
                normed = self.norm(x)
                taken.append((normed[:, 1:], normed[:, 0]))
        return taken


# ---- The head: DPT ---------------------------------------------------------------------------------------------------


class ResidualConvUnit(nn.Module):
    """Two convolutions, added to what came in."""

    def __init__(self, features: int, use_bn: bool) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(features, features, 3, padding=1)
        self.conv2 = nn.Conv2d(features, features, 3, padding=1)
        if use_bn:
            self.bn1, self.bn2 = nn.BatchNorm2d(features), nn.BatchNorm2d(features)
        self.use_bn = use_bn

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
        # changes nothing but the work: this one convolves a quarter of the pixels.
        return _resize(self.out_conv(self.resConfUnit2(coarse)), size)


class Scratch(nn.Module):
    """The part of the head that DPT trained from scratch; the name is official, and so is the order."""

    def __init__(self, features: int, out_channels: Sequence[int], use_bn: bool, last: nn.Module) -> None:
        super().__init__()
        for i, channels in enumerate(out_channels, start=1):
            self.add_module(f"layer{i}_rn", nn.Conv2d(channels, features, 3, padding=1, bias=False))
        self.refinenet1 = FeatureFusionBlock(features, use_bn)
        self.refinenet2 = FeatureFusionBlock(features, use_bn)
        self.refinenet3 = FeatureFusionBlock(features, use_bn)
        self.refinenet4 = FeatureFusionBlock(features, use_bn)  # nothing finer comes in: its resConfUnit1 never runs
        self.output_conv1 = nn.Conv2d(features, features // 2, 3, padding=1)
        self.output_conv2 = nn.Sequential(
            nn.Conv2d(features // 2, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 1), last
        )  # fmt: skip


class DPTHead(nn.Module):
    """Four layers of tokens become four maps, fused from coarse to fine: -> (B, 1, 14 h, 14 w)."""

    def __init__(
        self, width: int, features: int, out: Sequence[int], use_bn: bool, use_clstoken: bool, last: nn.Module
    ) -> None:  # fmt: skip
        super().__init__()
        self.projects = nn.ModuleList(nn.Conv2d(width, channels, 1) for channels in out)
        self.resize_layers = nn.ModuleList((
            nn.ConvTranspose2d(out[0], out[0], 4, stride=4),  # four times as fine as the patches
            nn.ConvTranspose2d(out[1], out[1], 2, stride=2),  # twice
            nn.Identity(),
            nn.Conv2d(out[3], out[3], 3, stride=2, padding=1),  # half
        ))  # fmt: skip
        self.use_clstoken = use_clstoken
        if use_clstoken:
            readouts = (nn.Sequential(nn.Linear(2 * width, width), nn.GELU()) for _ in out)
            self.readout_projects = nn.ModuleList(readouts)
        self.scratch = Scratch(features, out, use_bn, last)

    def forward(self, layers: Sequence[tuple[Tensor, Tensor]], h: int, w: int) -> Tensor:
        s = self.scratch
        one, two, three, four = (getattr(s, f"layer{i + 1}_rn")(self.reassemble(i, *layers[i], h, w)) for i in range(4))
        path = s.refinenet4(four, None, three.shape[-2:])
        path = s.refinenet3(path, three, two.shape[-2:])
        path = s.refinenet2(path, two, one.shape[-2:])
        path = s.refinenet1(path, one, (8 * h, 8 * w))
        return s.output_conv2(_resize(s.output_conv1(path), (PATCH * h, PATCH * w)))

    def reassemble(self, i: int, patches: Tensor, cls: Tensor, h: int, w: int) -> Tensor:
        """The tokens of layer i as a map (B, out_channels[i], ...), at that layer's own fineness."""
        if self.use_clstoken:
            patches = self.readout_projects[i](torch.cat((patches, cls.unsqueeze(1).expand_as(patches)), dim=-1))
        image = patches.transpose(1, 2).unflatten(2, (h, w)).contiguous(memory_format=torch.channels_last)
        return self.resize_layers[i](self.projects[i](image))


def _resize(x: Tensor, size: Sequence[int]) -> Tensor:
    return F.interpolate(x, tuple(size), mode="bilinear", align_corners=True)


# ---- The whole model -------------------------------------------------------------------------------------------------


class DepthAnythingV2(nn.Module):
    """Depth from one picture. `DepthAnythingV2("vits")` is relative, `DepthAnythingV2("vits", max_depth=20)` metric.

    A relative model gives disparity, larger is nearer, zero or more, in no unit. A metric one gives metres between 0
    and `max_depth`. The weights do not tell which of the two they are, and `max_depth` stands in no file: it is yours to
    know (20 for the official indoor weights, 80 for outdoor). `features` and `out_channels` follow from the encoder
    unless given. Raises `CheckpointError` for an unknown encoder.
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
        self.encoder, self.max_depth = encoder, max_depth
        last = nn.ReLU() if max_depth is None else nn.Sigmoid()
        self.pretrained = DinoVisionTransformer(e)
        self.depth_head = DPTHead(
            e.width, features or e.features, out_channels or e.out_channels, use_bn, use_clstoken, last
        )  # fmt: skip

    def forward(self, image: Tensor) -> Tensor:
        """Normalised RGB (B, 3, H, W), H and W multiples of 14, to depth (B, H, W). Raises `InputError` otherwise."""
        if image.ndim != 4 or image.shape[1] != 3 or image.shape[2] % PATCH or image.shape[3] % PATCH:
            raise InputError(
                f"The model got a tensor of shape {tuple(image.shape)}", f"(B, 3, H, W), H and W multiples of {PATCH}",
                "infer_image takes a picture of any size and prepares it",
            )  # fmt: skip
        depth = self.depth_head(self.pretrained(image), image.shape[2] // PATCH, image.shape[3] // PATCH).squeeze(1)
        return depth if self.max_depth is None else depth * self.max_depth

    @torch.inference_mode()
    def infer_image(self, raw_image: NDArray[np.uint8], input_size: int = 518) -> NDArray[np.float32]:
        """Depth (H, W), float32, of a picture as `cv2.imread` gives it: (H, W, 3), uint8, BGR. See `image2tensor`."""
        image, size = self.image2tensor(raw_image, input_size)
        depth = self(image.to(next(self.parameters()).dtype))
        return _resize(depth[:, None].float(), size)[0, 0].cpu().numpy()

    def image2tensor(self, raw_image: NDArray[np.uint8], input_size: int = 518) -> tuple[Tensor, tuple[int, int]]:
        """A BGR picture as the network wants it, (1, 3, h, w) on the model's device, and the picture's own (H, W).

        The shorter side becomes `input_size`, the longer one keeps the ratio, to the nearest multiple of 14. The resize
        works in float64, as the official one does; in float32 it would differ by 3e-5. Raises `InputError` for
        anything that is no such picture or would need gigabytes, `CheckpointError` where OpenCV cannot be loaded.
        """
        h, w = _network_size(raw_image, input_size)
        cv2 = opencv()
        rgb = cv2.resize(raw_image[..., ::-1] / 255.0, (w, h), interpolation=cv2.INTER_CUBIC)
        image = torch.from_numpy(((rgb - MEAN) / STD).astype(np.float32)).permute(2, 0, 1)[None].contiguous()
        return image.to(next(self.parameters()).device), (raw_image.shape[0], raw_image.shape[1])


def opencv() -> ModuleType:
    """The module cv2, or one `CheckpointError` that says what to install."""
    try:
        import cv2
    except ImportError as error:
        raise CheckpointError(
            f"OpenCV does not load ({error})", "the module cv2, which reads and resizes pictures",
            "On Debian or Ubuntu: apt-get install libgl1 libglib2.0-0. Without a screen: "
            "pip uninstall opencv-python, then pip install opencv-python-headless", kind="opencv",
        ) from error  # fmt: skip
    return cv2  # type: ignore[no-any-return]


def _network_size(image: NDArray[np.uint8], input_size: int) -> tuple[int, int]:
    """The height and width at which the network sees `image`, or `InputError`."""
    found = f"an array of shape {image.shape} and dtype {image.dtype}" if isinstance(image, np.ndarray) else repr(image)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise InputError(
            f"Not a picture: {found:.200}", "a NumPy array (H, W, 3), uint8 from 0 to 255, in the order BGR",
            "cv2.imread(path) gives that (and None when it cannot read the file); "
            "a float picture from 0 to 1 becomes one by (255 * image).round().astype('uint8')",
        )  # fmt: skip
    if not isinstance(input_size, int) or input_size < PATCH or input_size % PATCH:
        near = max(1, round(input_size / PATCH)) * PATCH if isinstance(input_size, (int, float)) else 518
        raise InputError(f"input_size is {input_size!r}", f"a multiple of {PATCH}, at least {PATCH}", f"Try {near}")
    height, width = image.shape[:2]
    if not 0 < height * width <= IMAGE_LIMIT:
        raise InputError(
            f"The picture has {height} x {width} pixels", f"1 to {IMAGE_LIMIT:,} pixels", "Resize it first"
        )
    scale = max(input_size / height, input_size / width)
    h, w = round(scale * height / PATCH) * PATCH, round(scale * width / PATCH) * PATCH
    if h * w > NETWORK_LIMIT:
        raise InputError(
            f"A picture of {height} x {width} at input_size {input_size} means {h} x {w} pixels in the network",
            f"at most {NETWORK_LIMIT:,} pixels, or it takes gigabytes", "Cut it into parts, or take a smaller input_size",
        )  # fmt: skip
    return h, w
