"""Rejection and independence chains against closed-form densities. LEVEL: one seed in 10^4 fails."""

import math

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.errors import SamplingError
from polarity_sampling.samplers import IndependenceSampler, RejectionSampler
from polarity_sampling.samplers.independence import walk
from polarity_sampling.samplers.proposals import Proposals
from scipy.stats import chisquare, kstest
from torch import nn

from tests.manifolds import Torus

LEVEL = 1e-4
ANGLES = np.linspace(0, 2 * math.pi, 20_001)


def torus():
    return ps.Generator(Torus(), 2, Torus.law)


def quantile(u, rho):
    """Distribution function of the angle under (3 + cos u)^rho, by quadrature."""
    density = (3 + np.cos(ANGLES)) ** rho
    cdf = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return np.interp(u, ANGLES, cdf / cdf[-1])


@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.0, 0.5, 1.0, 2.0])
def test_exact_and_independent(rho, seed):
    bound = max(rho * math.log(4), rho * math.log(2)) + 1e-5  # the area element lies between 2 and 4
    draw = RejectionSampler(torus(), rho, bound).sample(800, seed)
    assert kstest(quantile(draw.latents[:, 0].numpy(), rho), "uniform").pvalue > LEVEL
    assert draw.diagnostics.acceptance == pytest.approx(800 / draw.diagnostics.evaluations)
    grid = (3 + np.cos(ANGLES)) ** rho / math.exp(bound)
    assert draw.diagnostics.acceptance == pytest.approx(grid.mean(), abs=0.1)


def test_a_bound_that_does_not_hold(seed):
    with pytest.raises(SamplingError, match=r"log_bound=1 does not hold: found .* = 1\.3"):
        RejectionSampler(torus(), 1.0, 1.0).sample(500, seed)


def test_a_bound_too_high_to_be_affordable(seed):
    with pytest.raises(SamplingError, match="use SMCSampler"):
        RejectionSampler(torus(), 1.0, 20.0, max_evaluations=2000).sample(10, seed)


@pytest.mark.parametrize("rho", [-1.0, 2.0])
def test_long_chains_reach_the_target(rho, seed):
    draw = IndependenceSampler(torus(), rho, length=30).sample(800, seed)
    assert kstest(quantile(draw.latents[:, 0].numpy(), rho), "uniform").pvalue > LEVEL
    assert draw.diagnostics.evaluations == 800 * 31
    assert 0 < draw.diagnostics.acceptance < 1


def test_a_chain_by_hand(seed):
    """Three states of known weight: after many proposals, chains hold them in proportion to it."""
    g = ps.Generator(Torus(), 2, ps.Uniform(0.0, 1.0))

    def log_weight(z, label):
        return torch.tensor([0.0, 1.0, 2.0])[(3 * z[:, 0]).long().clamp(max=2)].double()

    z, _, rows, found, _ = walk(Proposals.of(g, g.base, 3000, seed, None), log_weight, 40)
    share = np.exp([0.0, 1.0, 2.0]) / np.exp([0.0, 1.0, 2.0]).sum()
    assert chisquare(np.bincount((3 * z[:, 0]).long().numpy(), minlength=3), 3000 * share).pvalue > LEVEL
    torch.testing.assert_close(found, log_weight(z, None))
    torch.testing.assert_close(z, g.base.draw(seed, rows, 2))


def test_a_chain_leaves_where_there_is_no_weight(seed):
    g = ps.Generator(Torus(), 2, ps.Uniform(0.0, 1.0))

    def log_weight(z, label):
        inside = z[:, 0] > 0.5
        known = torch.where(inside & (z[:, 1] > 0.5), 0.0, -math.inf).double()
        return known.masked_fill(z[:, 0] < 0.005, math.nan)

    z, _, _, found, _ = walk(Proposals.of(g, g.base, 500, seed, None), log_weight, 60)
    assert (z > 0.5).all()
    assert (found == 0).all()


def test_chains_that_meet_no_weight(seed):
    """They would hand out draws of the base law."""
    g = ps.Generator(Torus(), 2, ps.Uniform(0.0, 1.0))
    with pytest.raises(SamplingError, match=r"20 of 20 chains met no latent with weight in 3 proposals"):
        walk(Proposals.of(g, g.base, 20, seed, None), lambda z, _: torch.full((20,), -math.inf).double(), 3)


class HalfFlat(nn.Module):
    """R^2 -> R^2, without volume where the first coordinate is negative."""

    def forward(self, z):
        return torch.stack([z[:, 0].relu(), z[:, 1]], 1)


@pytest.mark.parametrize("rho", [-1.0, 0.0, 1.0])
def test_latents_below_the_noise_floor_are_not_left_out_in_silence(rho, seed):
    g = ps.Generator(HalfFlat(), 2)
    for sampler in (RejectionSampler(g, rho, 1.0), IndependenceSampler(g, rho, length=3)):
        with pytest.raises(SamplingError, match=r"\d+ of \d+ latents have a singular value below .* top_k"):
            sampler.sample(50, seed)


def test_slots_have_candidates_of_their_own(seed):
    g = ps.Generator(Torus(), 2, ps.Normal())
    proposals = Proposals.of(g, g.base, 10, seed, None)
    rows = torch.cat([proposals.candidates(torch.arange(10), t)[2] for t in range(5)])
    assert sorted(rows.tolist()) == list(range(50))
    some = torch.tensor([3, 7])
    latents, labels, _ = proposals.candidates(some, 2)
    assert labels is None
    assert torch.equal(latents, g.base.draw(seed, torch.tensor([23, 27]), 2))
    assert torch.equal(proposals.uniforms(some, 2), proposals.uniforms(torch.arange(10), 2)[some])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"top_k": 3}, ValueError, "top_k=3: expected 1 to 2"),
        ({"top_k": 1.5}, TypeError, "top_k=1.5"),
        ({"memory": "much"}, ValueError, "memory"),
        ({"law": "cube"}, ValueError, "law='cube': expected a Law or one of"),
        ({"log_bound": math.nan}, ValueError, "log_bound=nan"),
    ],
)
def test_arguments_are_checked_before_anything_is_computed(options, error, message):
    with pytest.raises(error, match=message):
        RejectionSampler(torus(), **{"rho": 1.0, "log_bound": 1.5} | options)
