"""The rough log-volume: near enough where differences count, and not offered where it would not pay."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.samplers.smc.rough import SPREAD, WORTH, RoughLogVolume
from torch import nn

from tests.samplers.toy_generators import bent


@pytest.mark.parametrize("base", [ps.Normal(), ps.Uniform(-1.0, 1.0), ps.Sphere()])
@pytest.mark.parametrize("classes", [None, 3])
def test_differences_are_nearly_right(base, classes):
    g = bent(base, classes)
    rough = RoughLogVolume.of(g, 3, -1.0, "1GiB")
    assert 3 <= rough.products <= WORTH * 30
    z = base.draw(5, torch.arange(50), 30)
    label = None if classes is None else torch.arange(50) % classes
    missed = ps.log_volume(g, z, label, 3).value - rough(z, label)
    assert missed.min() > -1e-4  # a lower bound
    assert missed.std() < 2 * SPREAD
    assert rough(z, label).std() > 0
    part = rough(z[7:20], None if label is None else label[7:20])
    torch.testing.assert_close(part, rough(z, label)[7:20], rtol=0, atol=1e-4)


def test_more_is_wanted_of_a_steeper_target():
    shallow, steep = (RoughLogVolume.of(bent(), 3, rho, "1GiB") for rho in (1.0, 100.0))
    assert steep.products > shallow.products


def test_it_is_not_offered_where_it_would_cost_too_much():
    assert RoughLogVolume.of(bent(), 11, 1.0, "1GiB") is None
    assert RoughLogVolume.of(bent(), None, 1.0, "1GiB") is None


def test_a_latent_without_volume_has_a_finite_one():
    """On the other side of a kink where nothing moves, screening must go on."""
    module = nn.Sequential(nn.Linear(12, 12, bias=False), nn.ReLU())
    nn.init.eye_(module[0].weight)
    g = ps.Generator(module.eval(), 12)
    rough = RoughLogVolume(g, 2, torch.eye(12, dtype=torch.float64)[:, :4], "1GiB")
    assert rough(torch.stack([-torch.ones(12), torch.ones(12)]), None).isfinite().all()
