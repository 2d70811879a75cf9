"""What the particles are to follow: p(z) · vol(z)^rho."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from polarity_sampling.laws import Law
from polarity_sampling.samplers.smc.reference import latents_from, reference_dim
from polarity_sampling.samplers.smc.state import Stream

Evaluate = Callable[[Tensor, Tensor | None], Tensor]
"""Latents float32 [n, K] and labels [n] -> exact log-volumes float64 [n], NaN below the noise floor."""


@dataclass(frozen=True)
class Target:
    """The law p(z) · vol(z)^rho over latents, or over latents and classes."""

    law: Law
    """p."""
    dim: int
    """K."""
    rho: float
    evaluate: Evaluate
    classes: tuple[int, ...] | None = None
    """Classes that a latent may have, all equally likely under p; None for an unconditional generator."""
    summary: Callable[[Tensor, Tensor | None], Tensor] | None = None
    """Latents and labels -> float32 [n, m]: what else a surrogate is told of them; None: nothing."""
    rough: Evaluate | None = None
    """A log-volume up to a small error at a fraction of the price, finite everywhere; None: there is none."""

    @property
    def reference_dim(self) -> int:
        """R, the number of standard normals that make a latent."""
        return reference_dim(self.law, self.dim)

    @property
    def label_count(self) -> int:
        """One more than the largest class."""
        return 0 if self.classes is None else 1 + max(self.classes)

    def latents(self, x: Tensor) -> Tensor:
        return latents_from(self.law, x)

    def features(self, x: Tensor, label: Tensor | None) -> Tensor:
        """What a surrogate sees of points, float32 [n, F]."""
        z = self.latents(x)
        return z if self.summary is None else torch.cat([z, self.summary(z, label)], 1)

    def log_volume(self, x: Tensor, label: Tensor | None) -> Tensor:
        return self.evaluate(self.latents(x), label)

    def draw_labels(self, n: int, stream: Stream) -> tuple[Tensor | None, Stream]:
        """Classes of n points under p, and the stream behind what was read."""
        if self.classes is None:
            return None, stream
        numbers, stream = stream.uniform(n)
        choice = (numbers * len(self.classes)).long().clamp(max=len(self.classes) - 1)
        return torch.tensor(self.classes)[choice], stream
