"""Operators with known singular values: every kind of spectrum that the routes must cope with."""

from collections.abc import Callable

import torch
from torch import Tensor


def power_law(size: int, condition: float) -> Tensor:
    exponent = torch.log(torch.tensor(condition)) / torch.log(torch.tensor(float(max(size, 2))))
    return torch.arange(1, size + 1, dtype=torch.float64) ** -exponent.double()


def exponential(size: int, condition: float) -> Tensor:
    return torch.logspace(0, -float(torch.log10(torch.tensor(condition))), size, dtype=torch.float64)


def stepped(size: int, condition: float) -> Tensor:
    """Four plateaus of exactly equal values."""
    return exponential(4, condition).repeat_interleave(-(-size // 4))[:size]


def clustered(size: int, condition: float) -> Tensor:
    """Tight clusters of five, each member 1e-7 from the next."""
    centres = exponential(-(-size // 5), condition).repeat_interleave(5)[:size]
    return (centres * (1.0 - 1e-7 * (torch.arange(size) % 5))).sort(descending=True).values


def rank_deficient(size: int, condition: float) -> Tensor:
    """The last quarter is exactly zero."""
    rank = max(1, 3 * size // 4)
    return torch.cat([exponential(rank, condition), torch.zeros(size - rank, dtype=torch.float64)])


SPECTRA: dict[str, Callable[[int, float], Tensor]] = {
    "power law": power_law,
    "exponential": exponential,
    "stepped": stepped,
    "clustered": clustered,
    "rank-deficient": rank_deficient,
}


def planted(sigma: Tensor, batch: int, dim_out: int, seed: int) -> Tensor:
    """[B, D, K] float64 with singular values sigma [K] and random singular vectors of its own each."""
    gen = torch.Generator().manual_seed(seed)
    size = sigma.numel()
    left = torch.linalg.qr(torch.randn(batch, dim_out, size, generator=gen, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(batch, size, size, generator=gen, dtype=torch.float64))[0]
    return (left * sigma) @ right.mT
