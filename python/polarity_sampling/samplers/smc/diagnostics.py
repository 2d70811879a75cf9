"""Figures that tell whether draws of an SMC run can be trusted."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from polarity_sampling.samplers.draw import Diagnostics, Draw
from polarity_sampling.samplers.smc.state import Rung

_MIN_DRAWS = 4  # of an island: split R-hat halves them


@dataclass(frozen=True)
class Agreement:
    """How far independent islands agree on the mean of one quantity (Vehtari et al., arXiv 1903.08008)."""

    r_hat: float
    """Rank-normalised split R-hat over islands, near 1; above 1.01 they do not agree yet. nan: fewer than
    four draws of an island."""
    ess: float
    """Effective number of draws for the mean, autocorrelation of particles included. nan: as above."""


@dataclass(frozen=True)
class SMCDiagnostics(Diagnostics):
    """Figures of a run. `ess` is n · (1 - r) / (1 + r) with r = `correlation`."""

    screenings: int
    """Rough log-volumes spent beside the exact ones, each a third of their products at most."""
    correlation: float
    """Between a particle's successive draws, the largest of log-volumes', latents' and classes'."""
    acceptance: float
    """Of the exact decisions since the kernel was frozen; nan before the first."""
    ladder: tuple[Rung, ...]
    """The rungs climbed, class after class with `label=`."""
    unique_ancestors: int
    """Initial particles with descendants among the draws."""
    thin: int
    """Sweeps between a particle's successive draws, at most over classes."""
    excluded: int
    """Latents met that lie below the noise floor: they have no density under the target."""
    agreement: Mapping[str, Agreement]
    """Of islands on the log-volume and on the norm of the latent; the worst class with `label=`."""


@dataclass(frozen=True, eq=False)
class SMCDraw(Draw):
    """n draws of an SMC run. `log_weights` are rho · log_volume."""

    diagnostics: SMCDiagnostics
    log_volume: Tensor
    """float64 [n], exact, nats."""
    island: Tensor
    """int64 [n]: islands are independent runs; with `label=`, each class has its own."""
    particle: Tensor
    """int64 [n]: draws of one particle are successive states of one Markov chain."""


def agreement(values: Tensor, island: Tensor, particle: Tensor) -> Agreement:
    """Agreement of islands on the mean of a quantity.

    Args:
        values: [n], one of each draw, such as a classifier's verdict on its image.
        island, particle: int64 [n], as in an SMCDraw.

    Raises ValueError where lengths differ.
    """
    from arviz_stats.base.array import array_stats

    if not len(values) == len(island) == len(particle):
        raise ValueError(
            f"values, island, particle have {len(values)}, {len(island)}, {len(particle)} entries: expected "
            "one of each draw"
        )
    names, counts = island.unique(return_counts=True)
    length = int(counts.min())
    if length < _MIN_DRAWS:
        return Agreement(math.nan, math.nan)
    # A particle's draws stand together, in order, so that their autocorrelation is seen.
    order = torch.argsort(particle, stable=True)
    values, island = values[order].double(), island[order]
    chains = torch.stack([values[island == name][:length] for name in names]).numpy()
    if chains.min() == chains.max():
        return Agreement(1.0, float(chains.size))
    r_hat: Callable[..., float] = array_stats.rhat
    ess: Callable[..., float] = array_stats.ess
    return Agreement(
        float(r_hat(chains, chain_axis=0, draw_axis=1)), float(ess(chains, chain_axis=0, draw_axis=1))
    )


def worst(found: list[Agreement]) -> Agreement:
    """The larger R-hat and the smaller ESS, over classes; NaN where any is."""
    r_hats, sizes = torch.tensor([[a.r_hat, a.ess] for a in found], dtype=torch.float64).T
    return Agreement(float(r_hats.max()), float(sizes.min()))
