"""Rivals that look at samples: discriminator, rarity, support guard."""

import math

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers.rivals import BaseSampler, DiscriminatorSampler, RaritySampler, SupportGuard
from polarity_sampling.samplers.rivals.features import Reference
from polarity_sampling.samplers.rivals.rarity import rarity
from scipy.stats import kstest, norm
from torch import nn

from ..toy_generators import flat, sheet

LEVEL = 1e-4


class Identity(nn.Module):
    def forward(self, z):
        return z


def line():
    return ps.Generator(Identity(), 1)


def shifted(samples, label):
    """log N(x; 0.8, 1) / N(x; 0, 1): with this discriminator the right answer is N(0.8, 1)."""
    return 0.8 * samples[:, 0] - 0.32


def test_chains_follow_the_density_the_discriminator_knows(seed):
    draw = DiscriminatorSampler(line(), shifted, "mh", length=60).sample(1500, seed)
    assert kstest(draw.latents[:, 0].numpy() - 0.8, "norm").pvalue > LEVEL
    assert draw.diagnostics.evaluations == 0


def test_rejection_prefers_what_looks_real(seed):
    means, acceptances = [], []
    for percentile in (20.0, 95.0):
        draw = DiscriminatorSampler(line(), shifted, "rejection", percentile=percentile).sample(500, seed)
        means.append(float(draw.latents.mean()))
        acceptances.append(draw.diagnostics.acceptance)
        assert (draw.log_weights <= 0).all()
    assert means[1] > max(0.3, means[0])  # the base law has mean 0
    assert acceptances[0] > acceptances[1]


def test_a_discriminator_that_knows_nothing_changes_nothing(seed):
    draw = DiscriminatorSampler(line(), lambda x, _: torch.zeros(len(x)), "mh", length=3).sample(800, seed)
    assert kstest(draw.latents[:, 0].numpy(), "norm").pvalue > LEVEL
    assert draw.diagnostics.acceptance == 1.0


def test_discriminator_arguments():
    with pytest.raises(ValueError, match="method='best'"):
        DiscriminatorSampler(line(), shifted, "best")
    with pytest.raises(ValueError, match="percentile=101"):
        DiscriminatorSampler(line(), shifted, percentile=101)


def test_rarity_by_hand():
    """Reference points 0, 1, 3, 7 with nearest neighbours at distances 1, 1, 2, 4."""
    reference = Reference(torch.tensor([[0.0], [1.0], [3.0], [7.0]]), neighbours=1)
    assert reference.radius.tolist() == [1, 1, 2, 4]
    score = rarity(reference, torch.tensor([[0.5], [2.5], [8.0], [3.5], [20.0]]))
    assert score[:4].tolist() == [1, 2, 4, 2]
    assert score[4].isnan()


@pytest.mark.parametrize("method", ["mh", "rejection"])
def test_a_discriminator_that_gives_nan(method, seed):
    def broken(samples, label):
        return torch.where(samples[:, 0] > 0, 0.0, torch.nan)

    with pytest.raises(SamplingError, match=r"the discriminator gives NaN for \d+ of \d+ samples"):
        DiscriminatorSampler(line(), broken, method).sample(20, seed)


def test_rare_draws_are_rarer(seed):
    reference = BaseSampler(line()).sample(500, 999).latents
    usual, rare = (RaritySampler(line(), flat, reference, candidates=c) for c in (4, 30))
    a, b = usual.sample(150, seed), rare.sample(150, seed)
    assert b.log_weights.mean() > a.log_weights.mean() + 0.5
    assert b.latents.abs().mean() > a.latents.abs().mean()
    assert torch.equal(b.latents, ps.Normal().draw(seed, b.row_ids, 1))
    with pytest.raises(SamplingError, match="no candidate near"):
        RaritySampler(line(), lambda x: flat(x) + 100, reference).sample(3, seed)


def test_the_guard_lets_through_what_is_near_and_nothing_else(seed):
    reference = torch.linspace(-1, 1, 41)[:, None]
    guard = SupportGuard(BaseSampler(line()), line(), flat, reference, neighbours=1, quantile=1.0)
    assert guard.radius == pytest.approx(0.05, rel=1e-5)  # distances are float32
    draw = guard.sample(400, seed)
    assert draw.latents.abs().max() <= 1.0501
    inside = math.erf(1.05 / math.sqrt(2))
    assert draw.diagnostics.acceptance == pytest.approx(inside, abs=0.08)
    assert (
        kstest((norm.cdf(draw.latents[:, 0].numpy()) - (1 - inside) / 2) / inside, "uniform").pvalue > LEVEL
    )  # the base law, conditioned


def test_the_guard_of_a_bank_sampler_counts_what_is_left(seed):
    g = sheet()
    bank = ps.Bank.build(g, 256, top_k=None, progress=False)
    sampler = ps.PolaritySampler(bank, 0.5)
    reference = g(BaseSampler(g).sample(200, 5).latents)
    draw = SupportGuard(sampler, g, flat, reference).sample(50, seed)
    assert draw.diagnostics.evaluations == 256
    assert draw.diagnostics.ess <= min(50, sampler.ess)
    assert torch.equal(draw.latents, bank.latents(draw.row_ids))


def test_a_guard_that_lets_nothing_through(seed):
    guard = SupportGuard(
        BaseSampler(line()), line(), lambda x: flat(x) + 50, torch.randn(20, 1), max_rounds=4
    )
    with pytest.raises(SamplingError, match=r"0\.0% of"):
        guard.sample(5, seed)
    with pytest.raises(ValueError, match="quantile=0"):
        SupportGuard(BaseSampler(line()), line(), flat, torch.randn(20, 1), quantile=0.0)
    with pytest.raises(ValueError, match="more samples than neighbours"):
        SupportGuard(BaseSampler(line()), line(), flat, torch.randn(3, 1))
