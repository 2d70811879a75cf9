"""A reference set in feature space, and how far samples lie from it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Features = Callable[[Tensor], Tensor]
"""Samples [n, *] -> features [n, F]."""

_CHUNK = 1000


class Reference:
    """Features of real samples, each with the distance to its k-th nearest neighbour among them.

    Args:
        features: [m, F], m > neighbours.
        neighbours: k.

    Raises ValueError for another shape or too few samples.
    """

    def __init__(self, features: Tensor, neighbours: int) -> None:
        if features.ndim != 2 or not 1 <= neighbours < len(features):
            raise ValueError(
                f"reference of shape {list(features.shape)} with neighbours={neighbours}: expected features "
                "[m, F] of more samples than neighbours"
            )
        self.features = features.detach().cpu().float()
        nearest = [
            torch.cdist(part, self.features).topk(neighbours + 1, largest=False).values[:, -1]
            for part in self.features.split(_CHUNK)
        ]
        self.radius = torch.cat(nearest)
        """float32 [m]: distance to the k-th nearest other reference sample."""

    def distances(self, features: Tensor) -> Tensor:
        """Distance of samples to every reference sample: [n, F] -> [n, m]."""
        return torch.cdist(features.detach().cpu().float(), self.features)
