"""The generator as it is."""

from __future__ import annotations

import torch
from torch import nn

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law
from polarity_sampling.samplers.draw import Diagnostics, Draw
from polarity_sampling.samplers.proposals import Proposals
from polarity_sampling.samplers.protocol import Label


class BaseSampler:
    """Independent draws of a law, by default the generator's base law; rho = 0 without a bank.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        law: what to draw instead.
    """

    def __init__(self, generator: Generator | nn.Module, law: Law | None = None) -> None:
        self.generator = Generator.of(generator)
        self.law = self.generator.base if law is None else Law.of(law)

    def sample(self, n: int, seed: int = 0, label: Label = None) -> Draw:
        """Draw n latents: rows 0 .. n - 1 of the law's stream `seed`. Labels as in PolaritySampler.sample.

        Raises TypeError, ValueError: an argument of the wrong kind or out of range.
        """
        proposals = Proposals.of(self.generator, self.law, n, seed, label)
        latents, labels, rows = proposals.candidates(torch.arange(n), 0)
        return Draw(latents, labels, torch.zeros(n, dtype=torch.float64), rows, Diagnostics(n, float(n), 0))
