"""The state of a population of particles: everything that a step reads or changes, and nothing else."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.samplers.smc.surrogate import Surrogate


@dataclass(frozen=True)
class Stream:
    """A place in a stream of random numbers. Reading returns the numbers and the place behind them."""

    seed: int
    normals: int = 0
    uniforms: int = 0

    def normal(self, *shape: int) -> tuple[Tensor, Stream]:
        """Standard normals, float64."""
        numbers = polarity_ext.gaussian(self.seed, self.normals, shape).double()
        return numbers, replace(self, normals=self.normals + numbers.numel())

    def uniform(self, *shape: int) -> tuple[Tensor, Stream]:
        """Numbers in the open interval (0, 1), float64."""
        numbers = polarity_ext.uniform(self.seed, self.uniforms, shape, dtype=torch.float64)
        return numbers, replace(self, uniforms=self.uniforms + numbers.numel())


@dataclass(frozen=True)
class Points:
    """n points with their exact log-volumes."""

    x: Tensor
    """float64 [n, R], the standard normals that latents are made of."""
    label: Tensor | None
    """int64 [n]."""
    log_volume: Tensor
    """float64 [n]."""

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, index: Tensor | slice) -> Points:
        label = None if self.label is None else self.label[index]
        return Points(self.x[index], label, self.log_volume[index])

    def followed_by(self, other: Points) -> Points:
        label = None
        if self.label is not None and other.label is not None:
            label = torch.cat([self.label, other.label])
        return Points(torch.cat([self.x, other.x]), label, torch.cat([self.log_volume, other.log_volume]))


@dataclass(frozen=True)
class Rung:
    """What happened at one rho of the ladder."""

    rho: float
    sweeps: int
    acceptance: float
    """Of exact decisions, in the last sweep."""
    correlation: float
    """Of the particles with where they stood when the rung began."""
    unique_ancestors: int
    """Initial particles that still have descendants."""


@dataclass(frozen=True)
class State:
    """N particles at one rho. `tempering.step` takes one state to the next; nothing else is remembered."""

    stream: Stream
    points: Points
    """[N]: the particles, island after island."""
    ancestor: Tensor
    """int64 [N]: the initial particle that each descends from."""
    rho: float
    """Where on the way from 0 to the target."""
    anchor: Points
    """The particles as the rung began."""
    sweeps: int
    """Since then."""
    size: float
    """b of the pCN move, in (0, 1]."""
    surrogate: Surrogate | None
    seen: Points | None
    """Every point evaluated so far, for the surrogate to learn from; dropped once the kernel is frozen."""
    frozen: bool = False
    """The kernel is no longer adapted: the target is invariant from here on."""
    thin: int = 0
    """Sweeps between blocks of draws; 0 until the particles have settled."""
    correlation: float = math.nan
    """Between particles `thin` sweeps apart: the largest of log-volumes', latents' and classes'. Nan until
    they have forgotten where the ladder left them."""
    moves: int = 0
    """Exact decisions since the kernel was frozen, and how many of them accepted."""
    accepted: int = 0
    evaluations: int = 0
    """Exact log-volumes computed."""
    screenings: int = 0
    """Rough log-volumes computed."""
    excluded: int = 0
    """Of those, how many lay below the noise floor: such latents have no density under the target."""
    ladder: tuple[Rung, ...] = ()
    cursor: int = 0
    """Particles already handed out as draws since they last moved."""
