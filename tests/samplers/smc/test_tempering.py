"""The ladder end to end on targets with a known law; islands as independent witnesses."""

import dataclasses

import numpy as np
import pytest
import torch
from polarity_sampling.errors import SamplingError
from polarity_sampling.laws import Uniform
from polarity_sampling.samplers.smc.tempering import Settings, correlation, init, step, take
from scipy.stats import kstest, ttest_1samp

from .toys import by_class, linear, square, target

LEVEL = 1e-7
SETTINGS = Settings(particles=512, islands=8, surrogate=False)


def settled(wanted, seed, settings=SETTINGS):
    state = init(wanted, seed, settings)
    while not state.thin:
        state = step(wanted, state, settings)
    return state


@pytest.mark.parametrize(
    ("rho", "surrogate"), [(-1.0, True), (-0.3, False), (0.0, False), (0.5, False), (1.0, True), (2.0, False)]
)
def test_islands_agree_with_the_known_mean(rho, surrogate, seed):
    wanted = target(linear, rho)
    settings = dataclasses.replace(SETTINGS, surrogate=surrogate)
    state = settled(wanted, seed, settings)
    assert state.rho == rho
    mean = rho * np.array([1.5, -1.0, 0.0])
    islands = state.points.x.reshape(8, -1, 3).mean(1).numpy()
    assert (ttest_1samp(islands, mean).pvalue > LEVEL).all()
    variance = (state.points.x.reshape(8, -1, 3) - torch.from_numpy(mean)).square().mean((1, 2)).numpy()
    assert ttest_1samp(variance, 1.0).pvalue > LEVEL


def test_the_first_draws_wait_twice(seed):
    """Of three waits at the target the kernel adapts in the first, and not in the last two."""
    wanted = target(linear, 2.0)
    state = init(wanted, seed, SETTINGS)
    while not state.frozen:
        state = step(wanted, state, SETTINGS)
    assert state.ladder[-1].correlation <= SETTINGS.correlation
    assert state.sweeps == 0
    waits, left = [], state.points
    while not state.thin:
        sweeps, state = state.sweeps, step(wanted, state, SETTINGS)
        if state.sweeps == 0:
            waits.append(sweeps + 1)
    assert len(waits) == 2
    assert waits[1] == state.thin
    assert torch.equal(state.anchor.x, state.points.x)
    assert abs(correlation(left.log_volume, state.points.log_volume)) < 0.5


def test_the_surrogate_learns_until_the_kernel_is_frozen(seed):
    """At the target, too, and from every point that was paid for until then."""
    wanted = target(square, 1.0)
    settings = dataclasses.replace(SETTINGS, particles=128, surrogate=True, correlation=-1.0, sweeps=8)
    state, learned = init(wanted, seed, settings), []
    while not state.frozen:
        arrived, state = state.rho == wanted.rho, step(wanted, state, settings)
        if arrived:
            learned.append(state.surrogate.points)
    assert len(learned) == 8
    assert len(set(learned)) > 1
    assert learned[-1] == state.evaluations


def test_draws_go_on_being_right(seed):
    """Quality does not fall with the number of draws: the tenth block is as good as the first."""
    wanted = target(square, 1.0)
    state = settled(wanted, seed)
    for _ in range(10):
        points, _, state = take(wanted, state, SETTINGS, 512)
        z = np.sqrt(3.0) * points.x[:, 0].numpy()
        assert kstest(z, "norm").pvalue > LEVEL
    assert state.evaluations > 512 * 10


def test_a_shorter_draw_is_a_prefix_and_islands_take_turns(seed):
    wanted = target(linear, 0.5)
    state = settled(wanted, seed)
    long, long_particles, after = take(wanted, state, SETTINGS, 700)
    short, particles, between = take(wanted, state, SETTINGS, 300)
    rest, _, after_rest = take(wanted, between, SETTINGS, 400)
    assert torch.equal(torch.cat([short.x, rest.x]), long.x)
    assert torch.equal(after.points.x, after_rest.points.x)
    assert torch.equal(particles, long_particles[:300])
    assert (particles[:8] // 64).tolist() == list(range(8))
    assert sorted(long_particles[:512].tolist()) == list(range(512))


def test_the_ladder_is_told(seed):
    state = settled(target(square, 4.0, dim=8), seed)
    rhos = [rung.rho for rung in state.ladder]
    assert rhos == sorted(rhos)
    assert len(rhos) > 2
    assert rhos[-1] == 4.0
    assert rhos[-2] < 4.0
    ancestors = [rung.unique_ancestors for rung in state.ladder]
    assert ancestors == sorted(ancestors, reverse=True)
    assert len(state.ancestor.unique()) == ancestors[-1] < 512
    assert all(0 < rung.sweeps <= SETTINGS.rung_sweeps for rung in state.ladder[:-1])
    assert 0 < state.ladder[-1].sweeps <= SETTINGS.sweeps
    assert 0 <= state.correlation <= SETTINGS.correlation


def test_descendants_stay_on_their_island(seed):
    state = settled(target(square, 4.0, dim=8), seed)
    assert torch.equal(state.ancestor // 64, torch.arange(512) // 64)


def test_nothing_is_adapted_once_frozen(seed):
    wanted = target(linear, 1.0)
    settings = dataclasses.replace(SETTINGS, surrogate=True)
    state = settled(wanted, seed, settings)
    assert state.frozen
    assert state.seen is None
    later = step(wanted, step(wanted, state, settings), settings)
    assert (later.size, later.surrogate, later.thin) == (state.size, state.surrogate, state.thin)
    assert later.moves > state.moves
    assert not torch.equal(later.points.x, state.points.x)


def test_every_evaluation_is_counted(seed):
    calls = 0

    def counted(z, label):
        nonlocal calls
        calls += len(z)
        return linear(z, label)

    wanted = target(counted, 1.0)
    state = settled(wanted, seed)
    _, _, state = take(wanted, state, SETTINGS, 1000)
    assert state.evaluations == calls


def test_joint_draws_over_classes(seed):
    wanted = target(by_class, 1.0, classes=(0, 1, 2))
    state = settled(wanted, seed)
    share = np.exp(np.arange(3.0)) / np.exp(np.arange(3.0)).sum()
    label = state.points.label.reshape(8, -1)
    for c in range(3):
        assert ttest_1samp((label == c).double().mean(1).numpy(), share[c]).pvalue > LEVEL


def test_blocks_lie_far_enough_apart_for_classes(seed):
    """Where latents move freely and classes seldom, it is the classes that blocks wait for."""
    wanted = target(by_class, 0.2, classes=(0, 1, 2))
    state = settled(wanted, seed)
    before, _, state = take(wanted, state, SETTINGS, SETTINGS.particles)
    after, _, _ = take(wanted, state, SETTINGS, SETTINGS.particles)
    classes = [torch.nn.functional.one_hot(points.label).double() for points in (before, after)]
    # 0.1 is what blocks wait for; of 512 particles a correlation has a standard error of 0.03 to 0.04.
    assert correlation(classes[0], classes[1]) < 0.1 + 6 * 0.04


def test_particles_below_the_noise_floor_are_drawn_anew(seed):
    def rarely(z, label):
        return linear(z, label).masked_fill(z[:, 2] > 0.993, torch.nan)

    wanted = target(rarely, 0.0, law=Uniform(0.0, 1.0))
    state = init(wanted, seed, dataclasses.replace(SETTINGS, particles=4096))
    assert (wanted.latents(state.points.x)[:, 2] <= 0.993).all()
    assert state.excluded == state.evaluations - 4096 > 0


def test_few_particles_may_be_unlucky():
    """At a rate of 0.5%, two of 64 are no news."""

    def rarely(z, label):
        return linear(z, label).masked_fill(z[:, 2] > 0.995, torch.nan)

    wanted = target(rarely, 0.0, law=Uniform(0.0, 1.0))
    settings = dataclasses.replace(SETTINGS, particles=64)
    excluded = [init(wanted, seed, settings).excluded for seed in range(200)]
    assert max(excluded) >= 2


def test_too_many_below_the_noise_floor(seed):
    def often(z, label):
        return linear(z, label).masked_fill(z[:, 2] > 1.0, torch.nan)

    with pytest.raises(SamplingError, match=r"of 512 latents .* smaller top_k"):
        init(target(often, 1.0), seed, SETTINGS)


def test_correlation():
    generator = torch.Generator().manual_seed(1)
    a, b = torch.randn(2, 5000, 4, generator=generator).double()
    assert correlation(a, 3 * a + 1) == pytest.approx(1)
    assert correlation(a, -a) == pytest.approx(-1)
    assert correlation(a, 0.6 * a + 0.8 * b) == pytest.approx(0.6, abs=0.03)
    assert correlation(torch.ones(5), torch.ones(5)) == 0
