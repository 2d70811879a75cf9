"""The Markov kernel: pCN proposals, screened by the surrogate, decided by the exact log-volume.

One sweep takes every particle through a chain of pCN moves that follows the *guessed* density, then accepts
or rejects the end of that chain by what the guess got wrong. The inner chain is reversible for the guessed
law, so the outer decision makes the whole reversible for the exact one (surrogate transitions: Liu, Monte
Carlo Strategies in Scientific Computing, 2001, section 9.4.3; with one inner move this is the delayed
acceptance of Christen & Fox, 2005). Base densities never enter: the moves leave the base law invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polarity_sampling.samplers.smc.state import Points, State, Stream
from polarity_sampling.samplers.smc.target import Target

INNER_MOVES = 32
# Share of inner moves that also draw a new class, where the target leaves the class free.
NEW_CLASS = 0.1


@dataclass(frozen=True)
class Sweep:
    """What one sweep did."""

    evaluations: int
    excluded: int
    acceptance: float
    """Of exact decisions, over the particles whose inner chain moved; 0 if none did."""
    inner_acceptance: float
    """Of the surrogate's decisions; 1 without a surrogate."""
    accepted: int
    evaluated: Points
    """Every point whose exact log-volume was computed and is known."""


def sweep(target: Target, state: State) -> tuple[State, Sweep]:
    """One proposal for every particle: invariant for target.law · vol^state.rho."""
    old = state.points
    x, label, gain, inner_acceptance, stream = _propose(target, state)
    moved = (x != old.x).any(1)
    if label is not None and old.label is not None:
        moved |= label != old.label
    log_volume = old.log_volume.clone()
    if moved.any():
        log_volume[moved] = target.log_volume(x[moved], None if label is None else label[moved])
    uniform, stream = stream.uniform(len(old))
    # NaN, below the noise floor, compares false: rejected.
    accept = moved & (uniform.log() < state.rho * (log_volume - old.log_volume) - gain)
    proposed = Points(x, label, log_volume)
    points = _where(accept, proposed, old)
    known = moved & log_volume.isfinite()
    evaluations, accepted = int(moved.sum()), int(accept.sum())
    record = Sweep(
        evaluations=evaluations,
        excluded=evaluations - int(known.sum()),
        acceptance=accepted / max(1, evaluations),
        inner_acceptance=inner_acceptance,
        accepted=accepted,
        evaluated=proposed[known],
    )
    state = replace(
        state,
        stream=stream,
        points=points,
        sweeps=state.sweeps + 1,
        evaluations=state.evaluations + evaluations,
        excluded=state.excluded + record.excluded,
    )
    return state, record


def _propose(target: Target, state: State) -> tuple[Tensor, Tensor | None, Tensor, float, Stream]:
    """The ends of the inner chains: x, label, the guessed gain in log-density, acceptance, stream."""
    stream, x, label = state.stream, state.points.x, state.points.label
    if state.surrogate is None:
        x, label, stream = _walk(target, x, label, state.size, stream)
        return x, label, torch.zeros(len(x), dtype=torch.float64), 1.0, stream
    first = guess = state.surrogate(target.latents(x), label)
    accepted = 0
    for _ in range(INNER_MOVES):
        y, new_label, stream = _walk(target, x, label, state.size, stream)
        new_guess = state.surrogate(target.latents(y), new_label)
        uniform, stream = stream.uniform(len(x))
        accept = uniform.log() < state.rho * (new_guess - guess)
        x = torch.where(accept[:, None], y, x)
        label = None if label is None or new_label is None else torch.where(accept, new_label, label)
        guess = torch.where(accept, new_guess, guess)
        accepted += int(accept.sum())
    return x, label, state.rho * (guess - first), accepted / (INNER_MOVES * len(x)), stream


def _walk(
    target: Target, x: Tensor, label: Tensor | None, size: float, stream: Stream
) -> tuple[Tensor, Tensor | None, Stream]:
    """One pCN move of every particle, and for some a new class."""
    noise, stream = stream.normal(*x.shape)
    y = (1.0 - size * size) ** 0.5 * x + size * noise
    if label is None or target.classes is None or len(target.classes) == 1:
        return y, label, stream
    drawn, stream = target.draw_labels(len(x), stream)
    uniform, stream = stream.uniform(len(x))
    assert drawn is not None
    return y, torch.where(uniform < NEW_CLASS, drawn, label), stream


def _where(condition: Tensor, yes: Points, no: Points) -> Points:
    label = None
    if yes.label is not None and no.label is not None:
        label = torch.where(condition, yes.label, no.label)
    return Points(
        torch.where(condition[:, None], yes.x, no.x),
        label,
        torch.where(condition, yes.log_volume, no.log_volume),
    )
