"""The Markov kernel: pCN proposals, screened by cheaper guesses, decided by the exact log-volume.

Three chains within each other. The innermost makes pCN moves that follow the surrogate's guess of the
density. Its end is a proposal to the middle one, which follows the rough log-volume and decides by what the
surrogate got wrong; the end of that is the proposal to the outer one, which decides by what the rough
log-volume got wrong. Each chain is reversible for the law that it follows, so each decision makes the whole
reversible for the next better one, and the last for the exact one (surrogate transitions: Liu, Monte Carlo
Strategies in Scientific Computing, 2001, section 9.4.3; with one inner move this is the delayed acceptance of
Christen & Fox, 2005). Where there is no rough log-volume the exact one takes its place; without a surrogate
it decides on every pCN move. Base densities never enter: the moves leave the base law invariant.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from polarity_sampling.samplers.smc.state import Points, State, Stream
from polarity_sampling.samplers.smc.surrogate import Surrogate
from polarity_sampling.samplers.smc.target import Evaluate, Target

# Moves of the middle chain. More would go farther for one exact log-volume, but a rough one costs products.
ROUGH_MOVES = 6
# Moves of the inner chain: the fewest for a rough log-volume, which is cheap. For an exact one as many as the
# latent has dimensions, since these forward passes cost what it does, but no more than make it forget.
FEWEST_MOVES, MOST_MOVES = 8, 32
# The least share of pCN moves that also draw a new class, where the target leaves the class free.
NEW_CLASS = 0.1


@dataclass(frozen=True)
class Sweep:
    """What one sweep did."""

    evaluations: int
    excluded: int
    acceptance: float
    """Of exact decisions, over the particles whose inner chain moved; 0 if none did."""
    rough_acceptance: float
    """Of decisions by the rough log-volume; 1 without one."""
    inner_acceptance: float
    """Of the surrogate's decisions; 1 without a surrogate."""
    accepted: int
    evaluated: Points
    """Every point whose exact log-volume was computed and is known."""


@dataclass(frozen=True)
class _Proposal:
    """Where chains end that follow a guess."""

    x: Tensor
    label: Tensor | None
    moved: Tensor
    """bool [n]: not where they began."""
    gain: Tensor
    """rho times the guess at the end, less that at the beginning."""
    stream: Stream
    inner_acceptance: float = 1.0
    rough_acceptance: float = 1.0
    screenings: int = 0


def sweep(target: Target, state: State) -> tuple[State, Sweep]:
    """One proposal for every particle: invariant for target.law · vol^state.rho."""
    old = state.points
    if state.surrogate is None:
        x, label, stream = _walk(target, old.x, old.label, state.size, state.stream)
        everyone, nothing = torch.ones(len(old), dtype=torch.bool), torch.zeros(len(old), dtype=torch.float64)
        end = _Proposal(x, label, everyone, nothing, stream)
    elif target.rough is None:
        end = _by_surrogate(target, state.surrogate, state, old.x, old.label, state.stream)
    else:
        end = _by_rough(target, target.rough, state.surrogate, state)
    moved = end.moved
    log_volume = old.log_volume.clone()
    if moved.any():
        label = None if end.label is None else end.label[moved]
        log_volume[moved] = target.log_volume(end.x[moved], label)
    uniform, stream = end.stream.uniform(len(old))
    # NaN, below the noise floor, compares false: rejected.
    accept = moved & (uniform.log() < state.rho * (log_volume - old.log_volume) - end.gain)
    proposed = Points(end.x, end.label, log_volume)
    points = _where(accept, proposed, old)
    known = moved & log_volume.isfinite()
    evaluations, accepted = int(moved.sum()), int(accept.sum())
    record = Sweep(
        evaluations=evaluations,
        excluded=evaluations - int(known.sum()),
        acceptance=accepted / max(1, evaluations),
        rough_acceptance=end.rough_acceptance,
        inner_acceptance=end.inner_acceptance,
        accepted=accepted,
        evaluated=proposed[known],
    )
    state = replace(
        state,
        stream=stream,
        points=points,
        sweeps=state.sweeps + 1,
        evaluations=state.evaluations + evaluations,
        screenings=state.screenings + end.screenings,
        excluded=state.excluded + record.excluded,
    )
    return state, record


def _by_rough(target: Target, rough: Evaluate, surrogate: Surrogate, state: State) -> _Proposal:
    """Chains that follow the rough log-volume."""
    x, label, stream = state.points.x, state.points.label, state.stream
    first = value = rough(target.latents(x), label)
    moved = torch.zeros(len(x), dtype=torch.bool)
    accepted, inner = 0, 0.0
    for _ in range(ROUGH_MOVES):
        end = _by_surrogate(target, surrogate, state, x, label, stream)
        # Of those that have not moved as well: batches of one size need no new preparation.
        new_value = rough(target.latents(end.x), end.label)
        uniform, stream = end.stream.uniform(len(x))
        accept = end.moved & (uniform.log() < state.rho * (new_value - value) - end.gain)
        x = torch.where(accept[:, None], end.x, x)
        label = None if label is None or end.label is None else torch.where(accept, end.label, label)
        value = torch.where(accept, new_value, value)
        moved |= accept
        accepted, inner = accepted + int(accept.sum()), inner + end.inner_acceptance
    return _Proposal(
        x=x,
        label=label,
        moved=moved,
        gain=state.rho * (value - first),
        stream=stream,
        inner_acceptance=inner / ROUGH_MOVES,
        rough_acceptance=accepted / (ROUGH_MOVES * len(x)),
        screenings=(ROUGH_MOVES + 1) * len(x),
    )


def _by_surrogate(
    target: Target, surrogate: Surrogate, state: State, x: Tensor, label: Tensor | None, stream: Stream
) -> _Proposal:
    """Chains from x that follow the surrogate."""
    first = guess = surrogate(target.features(x, label), label)
    moved = torch.zeros(len(x), dtype=torch.bool)
    moves = FEWEST_MOVES if target.rough else min(max(FEWEST_MOVES, target.dim), MOST_MOVES)
    accepted = 0
    for _ in range(moves):
        y, new_label, stream = _walk(target, x, label, state.size, stream)
        new_guess = surrogate(target.features(y, new_label), new_label)
        uniform, stream = stream.uniform(len(x))
        accept = uniform.log() < state.rho * (new_guess - guess)
        x = torch.where(accept[:, None], y, x)
        label = None if label is None or new_label is None else torch.where(accept, new_label, label)
        guess = torch.where(accept, new_guess, guess)
        moved |= accept
        accepted += int(accept.sum())
    return _Proposal(x, label, moved, state.rho * (guess - first), stream, accepted / (moves * len(x)))


def _walk(
    target: Target, x: Tensor, label: Tensor | None, size: float, stream: Stream
) -> tuple[Tensor, Tensor | None, Stream]:
    """One pCN move of every particle, and for some a new class: of as many as forget where they stood."""
    noise, stream = stream.normal(*x.shape)
    kept = (1.0 - size * size) ** 0.5
    y = kept * x + size * noise
    if label is None or target.classes is None or len(target.classes) == 1:
        return y, label, stream
    drawn, stream = target.draw_labels(len(x), stream)
    uniform, stream = stream.uniform(len(x))
    assert drawn is not None
    return y, torch.where(uniform < max(NEW_CLASS, 1.0 - kept), drawn, label), stream


def _where(condition: Tensor, yes: Points, no: Points) -> Points:
    label = None
    if yes.label is not None and no.label is not None:
        label = torch.where(condition, yes.label, no.label)
    return Points(
        torch.where(condition[:, None], yes.x, no.x),
        label,
        torch.where(condition, yes.log_volume, no.log_volume),
    )
