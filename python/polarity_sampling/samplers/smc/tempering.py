"""Tempered sequential Monte Carlo as two pure functions: `init` makes a state, `step` takes it to the next.

Particles start as draws of the base law (rho = 0) and climb a ladder of rho to the target (Del Moral, Doucet
& Jasra, Sequential Monte Carlo Samplers, 2006). At each rung they are resampled by how much the next rho
favours them, then moved until they have forgotten where they stood. The ladder, the size of the moves and the
surrogate adapt on the way and while the particles settle at the target; then all three are frozen, and from
there on every step leaves the target invariant.

Islands resample among themselves only: apart from the shared tuning they are independent runs, whose
agreement says how far to trust them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch

from polarity_sampling.samplers import selection
from polarity_sampling.samplers.smc.kernel import Sweep, sweep
from polarity_sampling.samplers.smc.state import Points, Rung, State, Stream
from polarity_sampling.samplers.smc.surrogate import fit
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.weights import effective_size, logsumexp, require_few_excluded

FIRST_SIZE = 0.3
# Acceptance aimed at: of exact and of rough decisions (0.234 is best for a random walk in many dimensions;
# the optimum is flat, and lower where proposals lead far away), and of the surrogate's, which are cheap.
ACCEPTANCE, INNER_ACCEPTANCE = 0.2, 0.25
# The surrogate learns anew once there are GROWTH times the points that it has learned from, and of the latest
# MOST_POINTS, each of which it sees about three times.
GROWTH, MOST_POINTS = 1.5, 1 << 15


@dataclass(frozen=True)
class Settings:
    """Constants of a run."""

    particles: int = 1024
    islands: int = 4
    """Groups that resample among themselves; a divisor of `particles`."""
    surrogate: bool = True
    rung_ess: float = 0.5
    """Share of an island that the weights of one rung must keep effective."""
    rung_correlation: float = 0.5
    """A rung ends when the log-volumes have at most this correlation with those it began with."""
    correlation: float = 0.1
    """The same at the target and between blocks of draws, for log-volumes, latents and classes alike."""
    rung_sweeps: int = 20
    sweeps: int = 200
    """The most sweeps to wait for either."""


def init(target: Target, seed: int, settings: Settings) -> State:
    """Particles drawn from target.law.

    Raises SamplingError where clearly more than 1% of them lie below the noise floor.
    """
    stream, n = Stream(seed), settings.particles
    points, evaluations, excluded = None, 0, 0
    while points is None or len(points) < n:
        missing = n if points is None else n - len(points)
        x, stream = stream.normal(missing, target.reference_dim)
        label, stream = target.draw_labels(missing, stream)
        drawn = Points(x, label, target.log_volume(x, label))
        known = drawn.log_volume.isfinite()
        evaluations, excluded = evaluations + missing, excluded + int((~known).sum())
        require_few_excluded(excluded, evaluations)
        points = drawn[known] if points is None else points.followed_by(drawn[known])
    state = State(
        stream=stream,
        points=points,
        ancestor=torch.arange(n),
        rho=0.0,
        anchor=points,
        sweeps=0,
        size=FIRST_SIZE,
        surrogate=None,
        seen=points if settings.surrogate else None,
        evaluations=evaluations,
        excluded=excluded,
    )
    return _next_rung(target, _learn(target, state), settings)


def step(target: Target, state: State, settings: Settings) -> State:
    """One sweep, and what it brings to an end: a rung, the adaptation, the settling."""
    state, done = sweep(target, state)
    if state.frozen:
        state = replace(state, moves=state.moves + done.evaluations, accepted=state.accepted + done.accepted)
        return state if state.thin else _settle(state, settings)
    state = _adapt(state, done)
    arrived = state.rho == target.rho
    if arrived:
        found, wanted, most = _memory(state), settings.correlation, settings.sweeps
    else:
        found = correlation(state.anchor.log_volume, state.points.log_volume)
        wanted, most = settings.rung_correlation, settings.rung_sweeps
    if found > wanted and state.sweeps < most:
        return _learn(target, state, GROWTH)
    rung = Rung(
        rho=state.rho,
        sweeps=state.sweeps,
        acceptance=done.acceptance,
        correlation=found,
        unique_ancestors=len(state.ancestor.unique()),
    )
    state = _learn(target, state)
    state = replace(state, ladder=(*state.ladder, rung), anchor=state.points, sweeps=0)
    return replace(state, frozen=True, seen=None) if arrived else _next_rung(target, state, settings)


def take(target: Target, state: State, settings: Settings, n: int) -> tuple[Points, torch.Tensor, State]:
    """The next n draws of a settled state, one island after the other: points, particles, state.

    Every block of draws is the whole population, `state.thin` sweeps after the block before.
    """
    size = len(state.points)
    order = torch.arange(size).reshape(settings.islands, -1).T.flatten()
    taken, particles = None, []
    while n > 0:
        if state.cursor == size:
            for _ in range(state.thin):
                state = step(target, state, settings)
            state = replace(state, cursor=0)
        chosen = order[state.cursor : state.cursor + n]
        points = state.points[chosen]
        taken = points if taken is None else taken.followed_by(points)
        particles.append(chosen)
        state = replace(state, cursor=state.cursor + len(chosen))
        n -= len(chosen)
    assert taken is not None
    return taken, torch.cat(particles), state


def correlation(before: torch.Tensor, now: torch.Tensor) -> float:
    """Correlation over particles of a quantity [N] or of vectors [N, R]; 0 where it does not vary."""
    before, now = before - before.mean(0), now - now.mean(0)
    scale = math.sqrt(float(before.square().sum()) * float(now.square().sum()))
    return float((before * now).sum()) / scale if scale > 0.0 else 0.0


def _settle(state: State, settings: Settings) -> State:
    """Wait, twice, until nothing of the particles remembers where they stood: blocks lie that far apart.

    Once would do between blocks. But what is left of where the ladder and the adaptation put the particles
    is a bias of all of them, and the square of a small correlation leaves too little of it to be seen in a
    block.
    """
    found = _memory(state)
    if found > settings.correlation and state.sweeps < settings.sweeps:
        return state
    thin = 0 if math.isnan(state.correlation) else state.sweeps
    return replace(state, thin=thin, correlation=max(0.0, found), sweeps=0, anchor=state.points)


def _memory(state: State) -> float:
    """Correlation with where the particles stood, the largest of log-volumes', latents' and classes'."""
    before, now = state.anchor, state.points
    found = max(correlation(before.log_volume, now.log_volume), correlation(before.x, now.x))
    if before.label is not None and now.label is not None:
        classes = torch.nn.functional.one_hot(torch.stack([before.label, now.label])).double()
        found = max(found, correlation(classes[0], classes[1]))
    return found


def _adapt(state: State, done: Sweep) -> State:
    """Make the moves larger while both kinds of decision accept more than they should, else smaller."""
    excess = min(
        min(done.acceptance, done.rough_acceptance) - ACCEPTANCE, done.inner_acceptance - INNER_ACCEPTANCE
    )
    seen = state.seen.followed_by(done.evaluated)[-MOST_POINTS:] if state.seen is not None else None
    return replace(state, size=min(1.0, state.size * math.exp(excess)), seen=seen)


def _learn(target: Target, state: State, growth: float = 1.0) -> State:
    """Let the surrogate learn, where points have grown by so much since it last did."""
    seen, known = state.seen, 0 if state.surrogate is None else state.surrogate.points
    if seen is None or len(seen) < growth * known:
        return state
    surrogate = fit(
        target.features(seen.x, seen.label),
        seen.label,
        seen.log_volume,
        target.label_count,
        state.stream.seed,
        state.surrogate,
    )
    return replace(state, surrogate=surrogate)


def _next_rung(target: Target, state: State, settings: Settings) -> State:
    """Go on to the largest rho that keeps every island's effective sample size, and resample."""
    islands = state.points.log_volume.numpy().reshape(settings.islands, -1)
    wanted = settings.rung_ess * islands.shape[1]

    def suffices(delta: float) -> bool:
        for log_volume in islands:
            log_weights = delta * (log_volume - log_volume.mean())
            if effective_size(log_weights - logsumexp(log_weights)) < wanted:
                return False
        return True

    delta = target.rho - state.rho
    arrives = suffices(delta)
    if not arrives:
        low, high = 0.0, delta
        while abs(high - low) > 1e-3 * abs(high):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if suffices(middle) else (low, middle)
        delta = low
    size, stream = islands.shape[1], state.stream
    chosen = []
    for island, log_volume in enumerate(islands):
        numbers, stream = stream.uniform(1 + size)
        start, shuffle = float(numbers[0]), numbers[1:].numpy()
        log_weights = delta * (log_volume - log_volume.mean())
        chosen.append(island * size + torch.from_numpy(selection.systematic(log_weights, start, shuffle)))
    index = torch.cat(chosen)
    return replace(
        state,
        stream=stream,
        points=state.points[index],
        anchor=state.points[index],
        ancestor=state.ancestor[index],
        rho=target.rho if arrives else state.rho + delta,
        sweeps=0,
    )
