"""Shares of the ten digits among samples, as a pretrained classifier sees them."""

from __future__ import annotations

import polarity_sampling as ps
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.shared_models import FOLDER

SIZE = 32  # pixels along an edge that the classifier looks at


class _LeNet(nn.Module):
    """Three convolutions and two layers on top: samples [B, 1, 32, 32] in [0, 1] to ten scores."""

    def __init__(self) -> None:
        super().__init__()
        self.convnet = nn.ModuleDict(
            {"c1": nn.Conv2d(1, 6, 5), "c3": nn.Conv2d(6, 16, 5), "c5": nn.Conv2d(16, 120, 5)}
        )
        self.fc = nn.ModuleDict({"f6": nn.Linear(120, 84), "f7": nn.Linear(84, 10)})

    def forward(self, x: Tensor) -> Tensor:
        for name in ("c1", "c3"):
            x = nn.functional.max_pool2d(self.convnet[name](x).relu(), 2)
        x = self.convnet["c5"](x).relu().flatten(1)
        scores: Tensor = self.fc["f7"](self.fc["f6"](x).relu())
        return scores


class DigitClassifier:
    """Which digit a generator of digits draws at a latent."""

    def __init__(self, generator: ps.Generator, low: float) -> None:
        """``low`` is the background of its samples, whose foreground is 1."""
        self._generator, self._low = generator, low
        self._network = _LeNet().eval()
        self._network.load_state_dict(load_file(FOLDER / "mnist_lenet_classifier.safetensors"))

    def shares(self, z: Tensor, weights: Tensor | None = None) -> Tensor:
        """Float64 [10], of sum 1, over latents z [n, K] with weights [n] (default: equal ones)."""
        weights = torch.ones(len(z), dtype=torch.float64) if weights is None else weights
        total = torch.zeros(10, dtype=torch.float64)
        for part, weight in zip(z.split(512), weights.split(512), strict=True):
            image = (self._generator(part, batch_size=512) - self._low) / (1.0 - self._low)
            margin = (SIZE - image.shape[-1]) // 2
            with torch.no_grad():
                digit = self._network(nn.functional.pad(image, (margin,) * 4)).argmax(1)
            total.index_add_(0, digit, weight)
        return total / total.sum()
