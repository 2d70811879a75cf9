"""Hubness: latents that are neighbours of many others (Liang, Wu, Lai & Qin, ICML 2022, arXiv 2206.06014)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polarity_sampling.errors import SamplingError
from polarity_sampling.generator import Generator
from polarity_sampling.samplers.arguments import checked_count
from polarity_sampling.samplers.draw import AcceptanceDiagnostics, AcceptanceDraw
from polarity_sampling.samplers.proposals import Proposals
from polarity_sampling.samplers.protocol import Label

_CHUNK = 1000
_EMPTY_POOLS = 20


def hub_values(z: Tensor, neighbours: int) -> Tensor:
    """How often each latent [n, K] is among the nearest neighbours of another one, int64 [n]."""
    counts = torch.zeros(len(z), dtype=torch.int64)
    for start in range(0, len(z), _CHUNK):
        distance = torch.cdist(z[start : start + _CHUNK], z)
        own = torch.arange(len(distance))
        distance[own, start + own] = torch.inf
        nearest = distance.topk(neighbours, largest=False).indices
        counts += torch.bincount(nearest.flatten(), minlength=len(z))
    return counts


class HubnessSampler:
    """Keeps those draws of the base law that are hubs within their pool. Defaults are the paper's.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        threshold: smallest hub value kept.
        neighbours: k of the k nearest neighbours.
        pool: latents drawn at a time. Hubs exist in many dimensions only.

    Raises ValueError: an argument out of range.
    """

    def __init__(
        self, generator: Generator | nn.Module, threshold: int = 50, neighbours: int = 5, pool: int = 10_000
    ) -> None:
        self.generator = Generator.of(generator)
        self.threshold = checked_count("threshold", threshold)
        self.neighbours = checked_count("neighbours", neighbours)
        self.pool = checked_count("pool", pool)
        if neighbours >= pool:
            raise ValueError(f"neighbours={neighbours}, pool={pool}: expected fewer neighbours than latents")

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """The first n hubs. Hubs are a matter of latents, so any label goes with any of them.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: 20 pools in a row hold no hub.
        """
        proposals = Proposals.of(self.generator, self.generator.base, n, seed, label)
        hubs: list[Tensor] = []
        most, pools, empty = 0, 0, 0
        while sum(map(len, hubs)) < n:
            if empty == _EMPTY_POOLS:
                raise SamplingError(
                    f"{sum(map(len, hubs))} of {n} hubs in {pools} pools of {self.pool}: the largest hub "
                    f"value is {most}, threshold={self.threshold}. Choose a smaller threshold"
                )
            rows = torch.arange(pools * self.pool, (pools + 1) * self.pool)
            values = hub_values(
                self.generator.base.draw(proposals.seed, rows, self.generator.latent_dim), self.neighbours
            )
            hubs.append(rows[values >= self.threshold])
            most, pools = max(most, int(values.max())), pools + 1
            empty = 0 if len(hubs[-1]) else empty + 1
        found = torch.cat(hubs)
        rows = found[:n]
        _, labels, _ = proposals.candidates(torch.arange(n), 0)
        return AcceptanceDraw(
            latents=self.generator.base.draw(proposals.seed, rows, self.generator.latent_dim),
            labels=labels,
            log_weights=torch.zeros(n, dtype=torch.float64),
            row_ids=rows,
            diagnostics=AcceptanceDiagnostics(n, float(n), 0, len(found) / (pools * self.pool)),
        )
