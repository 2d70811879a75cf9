"""The main promise, end to end: MaGNET draws are uniform on the manifold, base draws are not."""

import math
import warnings

import numpy as np
import polarity_sampling as ps
import pytest
import torch
from scipy import stats

from tests.manifolds import Affine, SpherePatch, SwissRoll, Torus

ROWS = 20_000
# Draws from one bank share its chance deviations: with n <= ESS / 20 they hardly show.
DRAWS = 600


def area_quantile(manifold, z):
    """Share of the manifold's area at smaller first coordinate: uniform under uniform draws."""
    x = z[:, 0].double().numpy()
    if isinstance(manifold, SpherePatch):
        low, high = 0.2, 2.9
        return (math.cos(low) - np.cos(x)) / (math.cos(low) - math.cos(high))
    if isinstance(manifold, Torus):
        return (3.0 * x + np.sin(x)) / (6.0 * math.pi)

    def arc(t):
        return 0.5 * (t * np.sqrt(1 + t * t) + np.arcsinh(t))

    return (arc(x) - arc(1.0)) / (arc(12.0) - arc(1.0))


@pytest.fixture(params=[SpherePatch(), Torus(), SwissRoll()], ids=lambda m: type(m).__name__, scope="module")
def case(request):
    manifold = request.param
    g = ps.Generator(manifold, 2, manifold.law)
    return manifold, ps.Bank.build(g, n=ROWS, top_k=None, seed=11, progress=False)


def p_value(manifold, z):
    return stats.kstest(area_quantile(manifold, z), "uniform").pvalue


def test_magnet_is_uniform_where_base_draws_are_not(case):
    manifold, bank = case
    sampler = ps.MagnetSampler(bank)
    assert sampler.ess > 20 * DRAWS
    # Independent draws, as the test assumes. One seed in 10^4 would fail a perfect sampler.
    draw = sampler.sample(DRAWS, seed=5, method="multinomial")
    assert p_value(manifold, draw.latents) > 1e-4
    assert draw.diagnostics.realised_rho == pytest.approx(1.0, abs=0.5)
    base = bank.latents(torch.arange(10 * DRAWS))
    assert p_value(manifold, base) < 1e-6


def test_the_other_coordinate_stays_uniform(case):
    manifold, bank = case
    second = ps.MagnetSampler(bank).sample(DRAWS, seed=6, method="multinomial").latents[:, 1].numpy()
    law = manifold.law
    assert stats.kstest((second - law.low) / (law.high - law.low), "uniform").pvalue > 1e-4


@pytest.mark.parametrize("rho", [-1.0, -0.3, 0.5, 2.0])
def test_polarity_density_on_the_torus(rho):
    """Density of the angle is proportional to (3 + cos u)^rho: compare with its quadrature."""
    manifold = Torus()
    g = ps.Generator(manifold, 2, manifold.law)
    bank = ps.Bank.build(g, n=ROWS, top_k=None, seed=12, progress=False)
    draw = ps.PolaritySampler(bank, rho).sample(DRAWS, seed=3, method="multinomial")
    grid = np.linspace(0, 2 * math.pi, 20_001)
    density = (3 + np.cos(grid)) ** rho
    cdf = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    values = np.interp(draw.latents[:, 0].numpy(), grid, cdf / cdf[-1])
    assert stats.kstest(values, "uniform").pvalue > 1e-4


def test_equal_volume_everywhere_changes_nothing():
    bank = ps.Bank.build(ps.Generator(Affine(), 2), n=500, top_k=None, progress=False)
    for rho in (-1.0, 1.0):
        assert ps.PolaritySampler(bank, rho).ess == pytest.approx(500, rel=1e-9)


def test_magnet_on_a_gaussian_latent_needs_the_ball():
    """From a ball proposal no weight is spent, and the image of the ball is filled evenly."""
    g = ps.Generator(Affine(), 2)
    region = g.base.region(2)
    bank = ps.Bank.build(g, n=5_000, top_k=None, proposal=region, progress=False)
    sampler = ps.MagnetSampler(bank)
    assert sampler.ess == pytest.approx(5_000, rel=1e-6)
    radius = sampler.sample(DRAWS, seed=1, method="multinomial").latents.double().norm(dim=1) / region.radius
    assert stats.kstest(radius.square().numpy(), "uniform").pvalue > 1e-4


def test_all_directions_of_a_sphere_are_one_fewer():
    """No warning about leading directions where top_k covers the whole tangent space."""
    bank = ps.Bank.build(ps.Generator(Affine(), 2, ps.Sphere()), n=200, top_k=None, progress=False)
    assert bank.top_k == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ps.MagnetSampler(bank).sample(20, seed=0)
