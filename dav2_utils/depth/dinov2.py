"""DINOv2, the encoder of Depth Anything V2: a picture in, the tokens of four layers out. Read it from top to bottom.

Source: DINOv2 (arXiv:2304.07193), a vision transformer (arXiv:2010.11929). Shapes in the comments: B pictures,
N patches of 14 x 14 pixels (h x w of them), C channels of a token.
"""

# Calling an nn.Module gives Any in torch's own types, hence:
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..encoders import PATCH, Encoder


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
    """The feed-forward of every encoder but vitg: each token for itself, (B, N, C) -> (B, N, C)."""

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
    """The encoder. From (B, 3, H, W) it gives, for each of four layers, patches (B, N, C) and class token (B, C)."""

    def __init__(self, e: Encoder) -> None:
        super().__init__()
        self.layers, self.grid = e.layers, e.image_size // PATCH
        self.cls_token = nn.Parameter(torch.zeros(1, 1, e.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + self.grid**2, e.width))
        self.mask_token = nn.Parameter(torch.zeros(1, e.width))  # from DINOv2's own training; changes no output here
        self.patch_embed = PatchEmbed(e.width)
        self.blocks = nn.ModuleList(Block(e) for _ in range(e.depth))
        self.norm = nn.LayerNorm(e.width, eps=1e-6)
        if not self.cls_token.is_meta:  # shapes alone need no noise, and drawing it there imports torch's compiler
            self.start_from_noise()

    def start_from_noise(self) -> None:
        """The values before any training, as DINOv2 draws them."""
        nn.init.normal_(self.cls_token, std=1e-6)
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        for module in self.blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def positions(self, h: int, w: int) -> Tensor:
        """The position table for h x w patches: (1, 1 + h*w, C).

        The official code stretches it by (h + 0.1) / 37, and so do we. transformers resizes to h x w exactly, so there
        the same weights give another depth at every size but 518 x 518.
        """
        if h == w == self.grid:
            return self.pos_embed
        cls, patches = self.pos_embed[:, :1], self.pos_embed[:, 1:].float()
        patches = patches.unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        # float(): under torch.jit.trace, and so in an export to ONNX, both are tensors
        scale = ((float(h) + 0.1) / self.grid, (float(w) + 0.1) / self.grid)
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
