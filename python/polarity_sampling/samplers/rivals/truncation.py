"""Truncation: latents nearer to the centre, for quality at the price of diversity."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Normal, TruncatedNormal
from polarity_sampling.samplers.draw import Draw
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.rivals.base import BaseSampler

_CENTRE_SEED, _CENTRE_ROWS, _CHUNK = 0x5EED_CE17, 10_000, 1000


class TruncationSampler(BaseSampler):
    """Independent draws of the normal law conditioned on every coordinate in [-c, c] (Brock et al., 2019).

    Args:
        generator: with a standard normal base law.
        c: where to cut, in standard deviations; BigGAN's usual choice is 2, its sharpest about 0.1.

    Raises ValueError for another base law, or c that is not positive.
    """

    def __init__(self, generator: Generator | nn.Module, c: float) -> None:
        generator = Generator.of(generator)
        if generator.base != Normal():
            raise ValueError(
                f"the base law is {generator.base!r}: expected a standard normal law to truncate"
            )
        super().__init__(generator, TruncatedNormal(c))


class StyleTruncationSampler(BaseSampler):
    """Truncation in the intermediate latent space of a style-based generator (Karras et al., 2019).

    w = centre + psi · (mapping(z) - centre), with z of the base law and the centre the mean of 10,000 w.
    `draw.latents` are w, float32 [n, W]: input of the generator's synthesis network, not of the generator.

    Args:
        generator: whose module has an attribute `mapping` from z [n, K] to w [n, W].
        psi: 1 keeps w as it is, 0 makes all draws the centre.

    Raises ValueError where there is no mapping, or psi lies outside [0, 1].
    """

    def __init__(self, generator: Generator | nn.Module, psi: float) -> None:
        super().__init__(generator)
        mapping = getattr(self.generator.module, "mapping", None)
        if not isinstance(mapping, nn.Module):
            raise ValueError(
                f"{self.generator.name} has no attribute `mapping` that is a module: truncation in w needs "
                "the mapping network; TruncationSampler truncates z"
            )
        if not 0.0 <= psi <= 1.0:
            raise ValueError(f"psi={psi}: expected a number from 0 (the centre) to 1 (no truncation)")
        self.psi = psi
        rows = torch.arange(_CENTRE_ROWS)
        z = self.law.draw(_CENTRE_SEED, rows, self.generator.latent_dim)
        self.centre = self._map(z).double().mean(0).float()

    def sample(self, n: int, seed: int = 0, label: Label = None) -> Draw:
        """Draw n intermediate latents w."""
        draw = super().sample(n, seed, label)
        w = self.centre + self.psi * (self._map(draw.latents) - self.centre)
        return Draw(w, draw.labels, draw.log_weights, draw.row_ids, draw.diagnostics)

    def _map(self, z: Tensor) -> Tensor:
        mapping = cast(nn.Module, self.generator.module.mapping)
        with torch.no_grad():
            parts = [
                mapping(part.to(self.generator.device, self.generator.dtype)) for part in z.split(_CHUNK)
            ]
        return torch.cat(parts).cpu().float()
