"""What a surrogate is told of a sample."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.samplers.smc import summary
from polarity_sampling.samplers.smc.summary import Summary
from torch import nn

from tests.samplers.toy_generators import sheet, sheets


class Constant(nn.Module):
    def forward(self, z):
        return torch.ones_like(z) + 0.0 * z


@pytest.mark.parametrize("conditional", [False, True])
def test_it_has_mean_zero_and_unit_spread(conditional):
    g = sheets() if conditional else sheet()
    seen = Summary.of(g, g.base)
    z = g.base.draw(3, torch.arange(2000), 2)
    label = torch.arange(2000) % 3 if conditional else None
    found = seen(z, label)
    assert found.dtype == torch.float32
    assert found.shape == (2000, 3)
    assert found.mean(0).abs().max() < 0.3
    assert (found.std(0) - 1).abs().max() < 0.4
    torch.testing.assert_close(found[100:130], seen(z[100:130], None if label is None else label[100:130]))


def test_it_follows_the_law_that_is_tilted():
    narrow = Summary.of(sheet(), ps.Normal(0.0, 0.1))
    assert narrow(torch.randn(500, 2), None).std(0)[0] > 5  # in units of the narrow law's spread


def test_the_same_generator_gives_the_same(monkeypatch):
    g = sheet()
    state = torch.get_rng_state()
    first, again = Summary.of(g, g.base), Summary.of(g, g.base)
    assert torch.equal(first.directions, again.directions)
    assert torch.equal(torch.get_rng_state(), state)
    monkeypatch.setattr(summary, "ENTRIES", 2)  # of the three numbers of a sample the first and the last
    assert Summary.of(sheet(), ps.Normal()).mean.shape == (2,)


def test_samples_of_one_number(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 1), nn.Flatten(0)).eval()  # [B]
    generator = ps.Generator(module, 3)
    summary = Summary.of(generator, generator.base)
    assert summary(torch.randn(5, 3), None).shape == (5, 1)


def test_samples_that_do_not_vary_tell_nothing():
    g = ps.Generator(Constant(), 4)
    assert Summary.of(g, g.base)(torch.randn(5, 4), None).shape == (5, 0)
