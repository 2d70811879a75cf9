"""What a latent's forward pass shows, in a few numbers: they tell a surrogate more than the latent does."""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law
from polarity_sampling.samplers.smc.slopes import Key, forward

# Latents that the directions are found from, and how many directions are kept.
SAMPLES, DIRECTIONS = 512, 256
# What differs between latents by less than this part of its size, or of the leading direction, is rounding.
_NEGLIGIBLE = 1e-4
# Latents in memory at a time; fixed, so that no guess depends on a budget.
_CHUNK = 64
# A stream of its own, so that these latents are nobody's draws.
_SEED = 0x5EED_5A3B


@dataclass(frozen=True)
class Summary:
    """Principal coordinates of samples and slopes, of mean 0 and spread 1 under the law they are from."""

    generator: Generator
    means: dict[Key, Tensor]
    """float32 [E_i], of what is looked at."""
    directions: Tensor
    """float32 [E, m], E being the sum of the E_i."""

    @classmethod
    def of(cls, generator: Generator, law: Law) -> Summary:
        """The directions in which latents drawn from `law` differ most; SAMPLES forward passes and a chunk.

        The samples and the slopes of every operator have equal shares in the variance.
        """
        z = law.draw(_SEED, torch.arange(SAMPLES), generator.latent_dim)
        classes = generator.num_classes
        label = None if classes is None else torch.arange(SAMPLES) % classes
        parts = list(_in_chunks(generator, z, label))
        turned = forward(generator, z[:_CHUNK].flip(0), None if label is None else label[:_CHUNK].flip(0))
        means, scales, seen = {}, [torch.empty(0)], [torch.empty(SAMPLES, 0)]
        for key, first in parts[0].items():
            if not all(key in part for part in parts):
                continue
            block = torch.cat([part[key] for part in parts])
            mean = block.mean(0)
            spread = float((block - mean).square().sum(1).mean().sqrt())
            varies = spread > _NEGLIGIBLE * float(block.square().sum(1).mean().sqrt())
            # Weights that have by chance as many rows as a chunk do not turn with the latents.
            if varies and torch.allclose(turned[key].flip(0), first, atol=1e-3 * spread):
                means[key] = mean
                scales.append(torch.full_like(mean, 1.0 / spread))
                seen.append((block - mean) / spread)
        differences = torch.cat(seen, 1).double()
        values, vectors = torch.linalg.eigh(differences @ differences.mT / SAMPLES)
        kept = torch.arange(SAMPLES - 1, SAMPLES - 1 - DIRECTIONS, -1)
        kept = kept[(values[kept] > _NEGLIGIBLE**2 * values[-1]) & (values[kept] > 0.0)]
        directions = differences.mT @ (vectors[:, kept] / (values[kept] * SAMPLES**0.5))
        return cls(generator, means, torch.cat(scales)[:, None] * directions.float())

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Latents [n, K] and their labels [n] -> float32 [n, m], on the CPU; a forward pass for each."""
        parts = _in_chunks(self.generator, z, label, self.means)
        return torch.cat([self._coordinates(part) for part in parts])

    def _coordinates(self, part: dict[Key, Tensor]) -> Tensor:
        n = len(next(iter(part.values())))
        # Where a forward pass branches, what is missing counts as average.
        seen = [
            part[key] - mean if key in part else torch.zeros(n, len(mean)) for key, mean in self.means.items()
        ]
        return torch.cat([torch.empty(n, 0), *seen], 1) @ self.directions


def _in_chunks(
    generator: Generator, z: Tensor, label: Tensor | None, wanted: Container[Key] | None = None
) -> Iterator[dict[Key, Tensor]]:
    for i in range(0, len(z), _CHUNK):
        rows = slice(i, i + _CHUNK)
        yield forward(generator, z[rows], None if label is None else label[rows], wanted)
