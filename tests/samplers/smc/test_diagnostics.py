import math

import pytest
import torch
from polarity_sampling.samplers.smc.diagnostics import Agreement, agreement, worst


def numbers(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_islands_that_agree_and_one_that_does_not(seed):
    island = torch.arange(400) % 4
    particle = torch.arange(400)
    values = numbers(seed, 400)
    good = agreement(values, island, particle)
    assert good.r_hat < 1.05
    assert 200 < good.ess < 800
    assert agreement(values + 2.0 * (island == 3), island, particle).r_hat > 1.2


def test_a_particle_that_hardly_moves_counts_less(seed):
    """16 particles, 25 draws of each that share nine tenths of their variance."""
    particle = torch.arange(16).repeat(25)
    own = numbers(seed, 16)[particle]
    values = 0.95 * own + 0.3 * numbers(seed + 1, 400)
    assert agreement(values, particle // 4, particle).ess < 100
    assert agreement(numbers(seed, 400), particle // 4, particle).ess > 200


def test_what_cannot_be_said():
    found = agreement(torch.arange(8.0), torch.arange(8) % 4, torch.arange(8))
    assert math.isnan(found.r_hat)
    assert math.isnan(found.ess)
    constant = agreement(torch.ones(40), torch.arange(40) % 4, torch.arange(40))
    assert constant == Agreement(1.0, 40.0)
    with pytest.raises(ValueError, match="one of each draw"):
        agreement(torch.ones(3), torch.zeros(4), torch.zeros(4))


def test_the_worst_of_classes():
    assert worst([Agreement(1.0, 50.0), Agreement(1.3, 90.0)]) == Agreement(1.3, 50.0)
    assert math.isnan(worst([Agreement(1.0, 50.0), Agreement(math.nan, math.nan)]).r_hat)
