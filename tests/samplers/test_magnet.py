"""MaGNET on manifolds whose area is known.

The n draws from a bank share its rows, which inflates their variance by 1 + n / ESS: n is at most ESS / 20.
Kolmogorov-Smirnov p-values are then uniform for a correct sampler, up to that: over 40 banks, more than 8
below 0.05 has probability 2e-4, and a single one below 1e-3 has probability 1e-3. Seeds are fixed.
"""

import math
import warnings

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.errors import PolarityWarning
from polarity_sampling.laws import Ball, Normal, Uniform
from polarity_sampling.samplers import MagnetSampler, PolaritySampler
from scipy.stats import kstest

from .fake_bank import FakeBank, log_normal_bank


def arc_bank(seed, n=4000):
    """z uniform on [-1, 1] runs along a circle at speed 2 exp(2z): the angle exp(2z) is the arc length."""
    return FakeBank.of_generator(
        lambda z: 2 * torch.exp(2 * z), n, base=Uniform(-1, 1), latent_dim=1, seed=seed
    )


def arc_length(z):
    """Fraction of the arc, in [0, 1]."""
    return (torch.exp(2 * z[:, 0].double()) - math.exp(-2)) / (math.exp(2) - math.exp(-2))


def roll_bank(n=20_000):
    """Swiss roll (t cos t, t sin t, h) over t in [0, 9], h in [0, 1]: singular values sqrt(1 + t²) and 1."""

    def spectrum(z):
        t = z[:, 0]
        return torch.stack([torch.sqrt(1 + t**2), torch.ones_like(t)], 1)

    return FakeBank.of_generator(spectrum, n, base=Uniform(0, 9), latent_dim=2, seed=3)


def roll_area(z):
    def primitive(t):
        return 0.5 * (t * torch.sqrt(1 + t**2) + torch.asinh(t))

    return primitive(z[:, 0].double()) / primitive(torch.tensor(9.0, dtype=torch.float64))


@pytest.mark.parametrize("options", [{}, {"method": "multinomial"}, {"replace": False}])
def test_draws_are_uniform_along_a_curve(options):
    p_values = []
    for seed in range(40):
        sampler = MagnetSampler(arc_bank(seed))
        n = int(sampler.ess / 20)
        assert n > 80
        p_values.append(kstest(arc_length(sampler.sample(n, seed=seed, **options).latents), "uniform").pvalue)
    assert sum(p < 0.05 for p in p_values) <= 8


def test_base_draws_along_the_curve_are_not():
    draw = PolaritySampler(arc_bank(0), 0.0).sample(100, seed=0)
    assert kstest(arc_length(draw.latents), "uniform").pvalue < 1e-9


def test_draws_are_uniform_on_a_surface():
    sampler = MagnetSampler(roll_bank())
    n = int(sampler.ess / 20)
    z = sampler.sample(n, seed=4).latents
    assert kstest(roll_area(z), "uniform").pvalue > 1e-3
    assert kstest(z[:, 1].double() / 9, "uniform").pvalue > 1e-3
    base = PolaritySampler(roll_bank(), 0.0).sample(n, seed=4).latents
    assert kstest(roll_area(base), "uniform").pvalue < 1e-9


def test_a_proposal_makes_a_normal_model_uniform():
    """G(z) = z + z³/3 over a normal base: speed 1 + z². The bank is drawn from an interval."""
    radius = 2.0
    bank = FakeBank.of_generator(lambda z: 1 + z**2, 20_000, law=Ball(radius), base=Normal(), latent_dim=1)
    sampler = MagnetSampler(bank)
    z = sampler.sample(int(sampler.ess / 20), seed=5).latents[:, 0].double()
    reach = radius + radius**3 / 3
    assert kstest((z + z**3 / 3 + reach) / (2 * reach), "uniform").pvalue > 1e-3
    assert bank.latent_reads == 20_000 + len(z)  # once to make the bank, then only what was drawn


def test_it_is_polarity_at_rho_one():
    bank = log_normal_bank(500, 3)
    magnet = MagnetSampler(bank)
    polarity = PolaritySampler(bank, 1.0)
    assert magnet.rho == 1.0
    torch.testing.assert_close(magnet.weights(), polarity.weights())
    assert torch.equal(magnet.sample(10, seed=2).row_ids, polarity.sample(10, seed=2).row_ids)


@pytest.mark.parametrize(
    ("law", "base", "like"),
    [
        (Normal(), Normal(), "base"),
        (Uniform(-1, 1), Uniform(-1, 1), "uniform"),
        (Ball(2.0), Normal(), "uniform"),
    ],
)
def test_the_default_target(law, base, like):
    bank = log_normal_bank(200, 2, law=law, base=base)
    torch.testing.assert_close(MagnetSampler(bank).weights(), MagnetSampler(bank, target=like).weights())
    assert bank.latent_reads == 0


def test_the_published_target_can_be_asked_for_on_a_proposal_bank():
    bank = log_normal_bank(200, 2, law=Ball(2.0))
    tilted = MagnetSampler(bank, target="base").weights()
    z = bank.latents(bank.row_ids).double()
    expected = bank.singular_values.prod(1) * torch.exp(-0.5 * z.square().sum(1))
    torch.testing.assert_close(tilted, expected / expected.sum())


def test_a_generator_that_sees_some_directions_is_said():
    """Two of three, and both are taken: uniform latents are not uniform in these."""
    uniform = log_normal_bank(200, 2, latent_dim=3, law=Ball(2.0))
    normal = log_normal_bank(200, 2, latent_dim=3)
    uniform.directions = normal.directions = 2
    with pytest.warns(PolarityWarning, match="sees 2 of 3 latent directions") as caught:
        MagnetSampler(uniform)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MagnetSampler(normal)


def test_leading_directions_only_is_said_once_per_sampler():
    bank = log_normal_bank(200, 3, scale=0.1)
    with pytest.warns(PolarityWarning, match="top_k=2 of 3 latent directions") as caught:
        sampler = MagnetSampler(bank, top_k=2)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sampler.sample(4)
        MagnetSampler(bank).sample(4)


def test_a_bank_of_fewer_numbers_than_latents_has_all_its_directions(tmp_path):
    module = torch.nn.Sequential(torch.nn.Linear(5, 16), torch.nn.Tanh(), torch.nn.Linear(16, 2)).eval()
    generator = ps.Generator(module, 5)
    bank = ps.Bank.build(generator, 64, tmp_path / "bank", seed=0, top_k=None, progress=False)
    assert (bank.top_k, bank.directions) == (2, 2)
    with pytest.raises(ValueError, match=r"top_k=3: .* 1 to 2: a sample has only 2 numbers"):
        ps.Bank.build(generator, 64, tmp_path / "other", seed=0, top_k=3, progress=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MagnetSampler(bank)
