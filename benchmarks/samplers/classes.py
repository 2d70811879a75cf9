"""Ten classes of samples, for histograms: digits, as a pretrained classifier sees them, or clusters."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polarity_sampling as ps
import torch
from safetensors.torch import load_file
from scipy.cluster.vq import kmeans2
from torch import Tensor, nn

from tests.shared_models import FOLDER

CLASSES = 10
Classifier = Callable[[Tensor, Tensor | None], Tensor]
"""Latents [n, K] and labels [n] -> classes of their samples, int64 [n]."""

SIZE = 32  # pixels along an edge that the classifier of digits looks at
SAMPLES = 1024  # of the base law, that clusters are found from
_SEED, _BATCH = 41, 256


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


class Digits:
    """Which digit a generator of digits draws at a latent."""

    def __init__(self, generator: ps.Generator, low: float) -> None:
        """``low`` is the background of its samples, whose foreground is 1."""
        self._generator, self._low = generator, low
        self._network = _LeNet().eval()
        self._network.load_state_dict(load_file(FOLDER / "mnist_lenet_classifier.safetensors"))

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        found = []
        for i in range(0, len(z), _BATCH):
            rows = slice(i, i + _BATCH)
            samples = self._generator(z[rows], None if label is None else label[rows], batch_size=_BATCH)
            image = (samples - self._low) / (1.0 - self._low)
            margin = (SIZE - image.shape[-1]) // 2
            with torch.no_grad():
                found.append(self._network(nn.functional.pad(image, (margin,) * 4)).argmax(1))
        return torch.cat(found)


class Clusters:
    """Which of ten clusters of the generator's own samples a sample belongs to: k-means, Euclidean."""

    def __init__(self, generator: ps.Generator) -> None:
        self._generator = generator
        z = generator.base.draw(_SEED, torch.arange(SAMPLES), generator.latent_dim)
        classes = generator.num_classes
        label = None if classes is None else torch.arange(SAMPLES) % classes
        samples = torch.cat(self._samples(z, label)).double().numpy()
        centres, _ = kmeans2(samples, CLASSES, minit="++", rng=np.random.default_rng(_SEED))
        self._centres = torch.from_numpy(centres).float()

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        return torch.cat([torch.cdist(part, self._centres).argmin(1) for part in self._samples(z, label)])

    def _samples(self, z: Tensor, label: Tensor | None) -> list[Tensor]:
        return [
            self._generator(z[i : i + _BATCH], None if label is None else label[i : i + _BATCH]).flatten(1)
            for i in range(0, len(z), _BATCH)
        ]
