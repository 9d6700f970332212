"""What all training here shares: scenes as tensors, the loss, and the scores of a model."""

# Calling an nn.Module gives Any in torch's own types, hence:
# mypy: disable-error-code="no-any-return, no-untyped-call"

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from ..depth.model import MEAN, STD
from ..depth.scores import depth_scores
from .scenes import make_scene


class SceneDataset(Dataset[tuple[Tensor, Tensor]]):
    """Scenes by their seeds, each made when it is asked for: normalised RGB (3, H, W) and depth (H, W) in metres."""

    def __init__(self, domain: str, seeds: Sequence[int]) -> None:
        self.domain, self.seeds = domain, seeds

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, i: int) -> tuple[Tensor, Tensor]:
        scene = make_scene(self.domain, self.seeds[i])
        return normalise(scene.image), torch.from_numpy(scene.depth)


def normalise(image: NDArray[np.uint8]) -> Tensor:
    """A BGR picture, uint8 (H, W, 3), as the network takes it: float32 (3, H, W), RGB by ImageNet's mean and std."""
    rgb = (image[..., ::-1].astype(np.float32) / 255 - np.array(MEAN, np.float32)) / np.array(STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


def depth_loss(prediction: Tensor, truth: Tensor) -> Tensor:
    """The scale-invariant log error of Eigen et al. 2014 (arXiv:1406.2283) with lambda 0.5, the loss of the official
    metric training, plus the mean absolute log error, which keeps edges sharp. Both maps in metres, of one shape."""
    d = torch.log(prediction.clamp(min=1e-3)) - torch.log(truth)
    return torch.sqrt((d * d).mean() - 0.5 * d.mean() ** 2 + 1e-8) + d.abs().mean()


@torch.no_grad()
def evaluate(model: nn.Module, domain: str, seeds: Sequence[int]) -> dict[str, float]:
    """The scores of `depth_scores`, averaged over scenes. Leaves the model in evaluation mode."""
    model.eval()
    device = next(model.parameters()).device
    scores = []
    for seed in seeds:
        scene = make_scene(domain, seed)
        prediction = model(normalise(scene.image)[None].to(device))[0].float().cpu()
        scores.append(depth_scores(prediction.numpy(), scene.depth))
    return {name: sum(s[name] for s in scores) / len(scores) for name in scores[0]}
