"""Latents drawn from a law, row by row, for samplers that keep no bank."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law
from polarity_sampling.samplers import selection
from polarity_sampling.samplers.arguments import checked_count, checked_seed
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.selection import Ints
from polarity_sampling.samplers.strata import requested_labels

LogWeight = Callable[[Tensor, Tensor | None], Tensor]
"""Latents [m, K] and labels [m] -> log-weights, float64 [m]; -inf means never, NaN unknown: left out."""


@dataclass(frozen=True)
class Proposals:
    """n slots to fill, each with candidates of its own: candidate t of slot i is row i + t·n of the law.

    So slots are independent of each other, and a slot's class is its candidates' class.
    """

    generator: Generator
    law: Law
    n: int
    seed: int
    labels: Ints | None
    """[n] classes asked for; None: each candidate draws one of its own."""

    @classmethod
    def of(cls, generator: Generator, law: Law, n: int, seed: int, label: Label) -> Proposals:
        """With the arguments of `sample` checked; raises TypeError or ValueError."""
        n, seed = checked_count("n", n), checked_seed(seed)
        return cls(generator, law, n, seed, requested_labels(label, n, generator.num_classes))

    def candidates(self, slots: Tensor, t: int) -> tuple[Tensor, Tensor | None, Tensor]:
        """Candidate t of each slot: latents float32 [s, K], labels [s] or None, row ids [s]."""
        rows = slots + t * self.n
        latents = self.law.draw(self.seed, rows, self.generator.latent_dim)
        return latents, self._labels(slots, t), rows

    def uniforms(self, slots: Tensor, t: int) -> Tensor:
        """A number in (0, 1) for each candidate, to decide on it."""
        numbers = selection.uniforms(self.seed, selection.DECISION + t * self.n, self.n)
        return torch.from_numpy(numbers)[slots]

    def _labels(self, slots: Tensor, t: int) -> Tensor | None:
        classes = self.generator.num_classes
        if classes is None:
            return None
        if self.labels is not None:
            return torch.from_numpy(self.labels)[slots]
        numbers = selection.uniforms(self.seed, selection.CLASS + t * self.n, self.n)
        return torch.from_numpy(np.minimum((numbers * classes).astype(np.int64), classes - 1))[slots]
