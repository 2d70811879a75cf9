"""What a latent's sample looks like, in a few numbers: they tell a surrogate more than the latent does.

A network stretches where its samples are busy, so the log-volume is a simpler function of the sample than of
the latent, and one forward pass costs little beside the products of a log-volume.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law

# Samples that the directions are found from, and how many directions are kept.
SAMPLES, DIRECTIONS = 256, 64
# Numbers of a sample that are looked at, evenly spread over it; a larger sample shows nothing new.
ENTRIES = 1 << 14
# A direction in which samples vary by less than this part of the leading one is rounding.
_NEGLIGIBLE = 1e-4
# Samples in memory at a time; fixed, so that no guess depends on a budget.
_CHUNK = 64
# A stream of its own, so that these latents are nobody's draws.
_SEED = 0x5EED_5A3B


@dataclass(frozen=True)
class Summary:
    """Principal coordinates of samples, each with mean 0 and spread 1 under the law they were found from."""

    generator: Generator
    stride: int
    mean: Tensor
    """float32 [D / stride]."""
    directions: Tensor
    """float32 [D / stride, m]."""

    @classmethod
    def of(cls, generator: Generator, law: Law) -> Summary:
        """The directions in which samples of latents drawn from `law` vary most; SAMPLES forward passes."""
        z = law.draw(_SEED, torch.arange(SAMPLES), generator.latent_dim)
        classes = generator.num_classes
        label = None if classes is None else torch.arange(SAMPLES) % classes
        stride = -(-generator(z[:1], None if label is None else label[:1]).numel() // ENTRIES)
        seen = torch.cat(list(_entries(generator, z, label, stride)))
        mean = seen.mean(0)
        centred = (seen - mean).double()
        values, vectors = torch.linalg.eigh(centred @ centred.mT / SAMPLES)
        kept = torch.arange(SAMPLES - 1, SAMPLES - 1 - DIRECTIONS, -1)
        kept = kept[values[kept] > _NEGLIGIBLE**2 * values[-1]]
        directions = centred.mT @ (vectors[:, kept] / (values[kept] * SAMPLES**0.5))
        return cls(generator, stride, mean, directions.float())

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Latents [n, K] and their labels [n] -> float32 [n, m], on the CPU; a forward pass for each."""
        parts = _entries(self.generator, z, label, self.stride)
        return torch.cat([(part - self.mean) @ self.directions for part in parts])


def _entries(generator: Generator, z: Tensor, label: Tensor | None, stride: int) -> Iterator[Tensor]:
    """Some numbers of each sample, float32 [b, D / stride], in batches."""
    for i in range(0, len(z), _CHUNK):
        rows = slice(i, i + _CHUNK)
        samples = generator(z[rows], None if label is None else label[rows], batch_size=_CHUNK)
        yield samples.reshape(len(samples), -1)[:, ::stride].float().cpu()
