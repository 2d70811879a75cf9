"""A rough log-volume for a fraction of the products: the Jacobian along directions that latents share.

What it misses is nearly the same for all latents, and only differences count where proposals are screened.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import jacobian
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume import dense
from polarity_sampling.volume.calibration import MOST_DIRECTIONS, calibration_grams
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.latents import Jacobians, directions, in_coordinates, input_basis, restricted
from polarity_sampling.volume.log_volume import batch_size
from polarity_sampling.volume.plan import ADAPTIVE_LATENTS, shared_directions

# Standard deviation over latents of rho times what is missed, nats; decisions above 1 would be poor ones.
SPREAD = 0.5
# A rough log-volume of more than this part of all products would not be worth its price.
WORTH = 1 / 3
# Singular values below this part of the largest count as that: the sum stays finite.
_FLOOR = 1e-6


@dataclass(frozen=True)
class RoughLogVolume:
    """Latents float32 [n, K] and labels [n] -> log-volumes float64 [n] up to an error, never NaN."""

    generator: Generator
    top_k: int
    start: Tensor
    """float64 [K, l]: the directions; l products for each latent."""
    memory: str | int

    @classmethod
    def of(
        cls, generator: Generator, top_k: int | None, rho: float, memory: str | int
    ) -> RoughLogVolume | None:
        """The fewest directions that are good enough on some calibration latents; None if they are many, or
        there are too many to choose from."""
        size = directions(generator)
        top_k = size if top_k is None else top_k
        if top_k > WORTH * size or size > MOST_DIRECTIONS:
            return None
        grams = calibration_grams(generator, ADAPTIVE_LATENTS, memory)[ADAPTIVE_LATENTS // 2 :]
        shared = shared_directions(generator, size, memory)
        truth = _log_volume(dense.eigenvalues(grams), top_k)
        for count in range(top_k, int(WORTH * size) + 1, max(1, size // 25)):
            start = shared[:, :count]
            missed = truth - _log_volume(dense.eigenvalues(start.mT @ grams @ start), top_k)
            if abs(rho) * float(missed.std()) <= SPREAD:
                return cls(generator, top_k, start, memory)
        return None

    @property
    def products(self) -> int:
        """Jacobian products of one latent."""
        return self.start.shape[1]

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        z, label = self.generator.inputs(z, label)
        budget = parse_memory(self.memory)
        dim_out = jacobian(self.generator, z[:1], _rows(label, slice(1)), memory=budget).shape[1]
        batch = batch_size(dim_out, z.shape[1], budget, z.device)
        parts = []
        for i in range(0, len(z), batch):
            rows = slice(i, i + batch)
            basis = input_basis(self.generator, z[rows])
            latents = Jacobians.at(self.generator, z[rows], _rows(label, rows), budget)
            start = in_coordinates(self.start.to(z.device), basis)
            found = fixed_krylov(restricted(latents, basis), start, 1)
            parts.append(_log_volume(found.eigenvalues, self.top_k))
        return torch.cat(parts).cpu()


def _rows(label: Tensor | None, rows: slice) -> Tensor | None:
    return None if label is None else label[rows]


def _log_volume(eigenvalues: Tensor, top_k: int) -> Tensor:
    """[B] from eigenvalues of J^T J [B, l], descending."""
    largest = eigenvalues[:, :1].clamp(min=torch.finfo(torch.float64).tiny)
    return 0.5 * torch.maximum(eigenvalues[:, :top_k], _FLOOR**2 * largest).log().sum(1)
