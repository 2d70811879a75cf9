"""One sweep leaves the target invariant, whatever the surrogate says.

Particles start as exact draws of the target and must still be such after some sweeps. LEVEL: one seed in 10^5
fails a correct kernel.
"""

import dataclasses

import numpy as np
import pytest
import torch
from polarity_sampling.laws import Ball, Sphere, TruncatedNormal, Uniform
from polarity_sampling.samplers.smc.kernel import ROUGH_MOVES, sweep
from polarity_sampling.samplers.smc.state import Points, State, Stream
from scipy.stats import chi2_contingency, chisquare, ks_2samp, kstest

from .toys import by_class, ignorant_surrogate, linear, normal_cdf, rough, square, target

LEVEL = 1e-5
N = 2000


def state_at(wanted, x, label=None, *, seed, surrogate=None, size=0.4):
    points = Points(x, label, wanted.log_volume(x, label))
    return State(
        stream=Stream(seed), points=points, ancestor=torch.arange(len(x)), rho=wanted.rho, anchor=points,
        sweeps=0, size=size, surrogate=surrogate, seen=None,
    )  # fmt: skip


def swept(wanted, state, times=4):
    records = []
    for _ in range(times):
        state, record = sweep(wanted, state)
        records.append(record)
    return state, records


def halves(z, label):
    """A summary: something that is known of a latent, and no help."""
    return 0.5 * z[:, :2]


SCREENS = [None, {}, {"rough": rough}, {"rough": rough, "summary": halves}]


@pytest.mark.parametrize("screens", SCREENS, ids=["none", "surrogate", "rough", "rough and summary"])
@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.0, 0.5, 1.0, 2.0])
def test_a_shifted_normal_stays_one(rho, screens, seed):
    wanted = target(linear, rho, **(screens or {}))
    mean = rho * torch.tensor([1.5, -1.0, 0.0])
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed)).double() + mean
    surrogate = None if screens is None else ignorant_surrogate(wanted, seed)
    state, records = swept(wanted, state_at(wanted, x, seed=seed, surrogate=surrogate))
    assert ((state.points.x != x).any(1)).double().mean() > 0.3
    for i in range(3):
        assert kstest(normal_cdf(state.points.x[:, i], float(mean[i])), "uniform").pvalue > LEVEL
    if screens is not None:
        assert all(0 < record.inner_acceptance <= 1 for record in records)
    if wanted.rough is not None:
        assert all(0 < record.rough_acceptance <= 1 for record in records)
        assert state.screenings == len(records) * (1 + ROUGH_MOVES) * N


def test_without_the_exact_decision_the_surrogate_would_be_believed(seed):
    """The same particles follow another law if the exact log-volume is replaced by the guess."""
    honest = target(square, 1.0)
    surrogate = ignorant_surrogate(target(linear, 1.0), seed)
    misled = dataclasses.replace(honest, evaluate=surrogate)
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed)).double() / 3**0.5
    pvalues = []
    for wanted in (honest, misled):
        state, _ = swept(wanted, state_at(wanted, x, seed=seed, surrogate=surrogate), times=6)
        pvalues.append(kstest(normal_cdf(state.points.x[:, 0], std=3**-0.5), "uniform").pvalue)
    assert pvalues[0] > LEVEL
    assert pvalues[1] < LEVEL


@pytest.mark.parametrize("law", [Uniform(0.0, 2.0), TruncatedNormal(1.5), Sphere(), Ball(2.0)], ids=str)
def test_other_laws(law, seed):
    """Exact draws of the tilted law by rejection, before and after."""
    wanted = target(linear, 0.8, law=law)
    x = torch.randn(40 * N, wanted.reference_dim, generator=torch.Generator().manual_seed(seed)).double()
    volume = wanted.log_volume(x, None)
    uniform = torch.rand(len(x), generator=torch.Generator().manual_seed(seed + 1)).double()
    exact = x[uniform.log() < wanted.rho * (volume - volume.max())]
    assert len(exact) > 500
    half = len(exact) // 2
    before = wanted.latents(exact[:half])
    state, _ = swept(wanted, state_at(wanted, exact[half:], seed=seed))
    after = wanted.latents(state.points.x)
    assert law.log_density(after).isfinite().all()
    for i in range(3):
        assert ks_2samp(before[:, i].numpy(), after[:, i].numpy()).pvalue > LEVEL


@pytest.mark.parametrize("screens", SCREENS[:3], ids=["none", "surrogate", "rough"])
def test_classes_mix_in_proportion(screens, seed):
    wanted = target(by_class, 0.7, classes=(0, 1, 2), **(screens or {}))
    share = np.exp(0.7 * np.arange(3.0))
    share /= share.sum()
    rng = np.random.default_rng(seed)
    label = torch.from_numpy(rng.choice(3, size=N, p=share))
    x = torch.from_numpy(rng.standard_normal((N, 3))) + 0.7 * torch.tensor([1.5, -1.0, 0.0])
    surrogate = None if screens is None else ignorant_surrogate(wanted, seed)
    state, _ = swept(wanted, state_at(wanted, x, label, seed=seed, surrogate=surrogate), times=8)
    assert (state.points.label != label).any()
    assert chisquare(np.bincount(state.points.label.numpy(), minlength=3), N * share).pvalue > LEVEL


def test_a_move_that_forgets_the_latent_forgets_the_class(seed):
    """At b = 1 and rho = 0, where nothing is rejected, both are drawn anew."""
    wanted = target(by_class, 0.0, classes=(0, 1, 2))
    label = torch.arange(N) % 3
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed)).double()
    state, _ = swept(wanted, state_at(wanted, x, label, seed=seed, size=1.0), times=1)
    moves = torch.bincount(3 * label + state.points.label, minlength=9).reshape(3, 3)
    assert chi2_contingency(moves.numpy()).pvalue > LEVEL


def test_without_the_exact_decision_the_rough_log_volume_would_be_believed(seed):
    wanted = target(linear, 1.0, rough=rough)
    misled = dataclasses.replace(wanted, evaluate=rough)
    x = torch.randn(N, 3, generator=torch.Generator().manual_seed(seed)).double()
    x += torch.tensor([1.5, -1.0, 0.0])
    state, _ = swept(
        misled, state_at(misled, x, seed=seed, surrogate=ignorant_surrogate(wanted, seed)), times=6
    )
    assert kstest(normal_cdf(state.points.x[:, 2]), "uniform").pvalue < LEVEL


def test_a_class_that_was_asked_for_stays(seed):
    wanted = target(by_class, 1.0, classes=(2,))
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(seed)).double()
    state, _ = swept(wanted, state_at(wanted, x, torch.full((50,), 2), seed=seed))
    assert (state.points.label == 2).all()


def test_what_lies_below_the_noise_floor_is_never_entered(seed):
    def floored(z, label):
        return linear(z, label).masked_fill(z[:, 2] > 0, torch.nan)

    wanted = target(floored, 0.5)
    x = torch.randn(500, 3, generator=torch.Generator().manual_seed(seed)).double()
    x[:, 2] = -x[:, 2].abs()
    state, records = swept(wanted, state_at(wanted, x, seed=seed))
    assert (state.points.x[:, 2] <= 0).all()
    assert state.excluded == sum(record.excluded for record in records) > 0
    assert all(record.evaluated.log_volume.isfinite().all() for record in records)


def test_only_moved_particles_cost_a_log_volume(seed):
    """From the tops of a steep guess inner moves lead downhill: particles that stay are not evaluated."""
    calls = []

    def counted(z, label):
        calls.append(len(z))
        return linear(z, label)

    wanted = target(counted, 1.0)
    steep = dataclasses.replace(ignorant_surrogate(target(linear), seed), spread=(1.0, 1e6))
    x = torch.randn(100_000, 3, generator=torch.Generator().manual_seed(seed)).double()
    x = x[steep(x, None).topk(64).indices]
    state, record = sweep(wanted, state_at(wanted, x, seed=seed, surrogate=steep, size=0.9))
    assert record.evaluations == len(record.evaluated) == sum(calls[1:])
    assert state.evaluations == record.evaluations < 64
    assert not (record.evaluated.x[:, None] == x).all(2).any()


@pytest.mark.parametrize("screens", [{}, {"rough": rough}], ids=["surrogate", "rough"])
@pytest.mark.parametrize(("dim", "moves"), [(3, 8), (20, 20), (50, 32)])
def test_forward_passes_cost_what_they_spare(dim, moves, screens, seed):
    """As many as an exact log-volume takes products, within bounds; the fewest where a rough one decides."""
    passes = 0

    def counted(z, label):
        nonlocal passes
        passes += len(z)
        return halves(z, label)

    wanted = target(linear, 1.0, dim=dim, summary=counted, **screens)
    x = torch.randn(32, dim, generator=torch.Generator().manual_seed(seed)).double()
    start = state_at(wanted, x, seed=seed, surrogate=ignorant_surrogate(wanted, seed))
    passes = 0
    sweep(wanted, start)
    assert passes == 32 * ((1 + 8) * ROUGH_MOVES if screens else 1 + moves)


def test_a_sweep_is_a_function_of_the_state(seed):
    wanted = target(linear, 1.0)
    x = torch.randn(64, 3, generator=torch.Generator().manual_seed(seed)).double()
    start = state_at(wanted, x, seed=seed)
    first, _ = sweep(wanted, start)
    again, _ = sweep(wanted, start)
    assert torch.equal(first.points.x, again.points.x)
    assert torch.equal(start.points.x, x)
    second, _ = sweep(wanted, first)
    assert first.stream.normals < second.stream.normals
    assert not torch.equal(first.points.x, second.points.x)
