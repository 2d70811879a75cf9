"""What routes cost, by count, and that no plan costs more than the exact route."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.volume.cost import Costs
from polarity_sampling.volume.plan import WORTH_FIXED, _candidates
from torch import Tensor, nn

from tests.jacobian.test_active import generator as dcgan


class Uncaptured(nn.Module):
    def forward(self, z: Tensor) -> Tensor:
        return z.sin() if z.sum() > -1e9 else z


def perceptron(hidden: int, outputs: int) -> ps.Generator:
    torch.manual_seed(0)
    layers = nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, outputs), nn.Tanh()
    return ps.Generator(nn.Sequential(*layers).float().eval(), 64)


def test_more_directions_cost_more():
    costs = Costs(perceptron(256, 500), 64, "1GiB")
    assert costs.products(8) < costs.products(9)
    by_width = [costs.fixed(width, 1) for width in (8, 16, 32, 64)]
    by_steps = [costs.fixed(8, steps) for steps in (1, 2, 3)]
    assert by_width == sorted(by_width)
    assert by_steps == sorted(by_steps)
    assert costs.fixed(8, 2) > 3 * costs.products(8)
    assert costs.exact <= costs.fixed(64, 1)
    assert costs.narrow(64, 64) == 1.0 < costs.narrow(8, 64) < costs.narrow(2, 64) < 2.0


def test_the_exact_route_of_a_perceptron_costs_what_is_taken():
    """With few active units nothing is multiplied by the last layer."""
    narrow = Costs(perceptron(40, 2000), 64, "1GiB")
    assert narrow.exact < 0.2 * narrow.fixed(64, 1)


def test_where_nothing_is_known_products_count():
    with pytest.warns(ps.PolarityWarning, match="cannot be captured"):
        costs = Costs(ps.Generator(Uncaptured(), 6), 6, "1GiB")
    assert costs.exact == 7.0
    assert costs.fixed(3, 2) == 12.0
    assert costs.narrow(2, 6) == pytest.approx(1.5 * 6 / 7)


@pytest.mark.parametrize("make", [lambda: perceptron(256, 500), lambda: dcgan(-1.0, dtype=torch.float32)])
def test_no_candidate_costs_more_than_most_of_the_exact_route(make):
    g = make()
    size = g.latent_dim
    costs = Costs(g, size, "1GiB")
    found = [costs.fixed(*plan) for plan in _candidates(1, size, costs)]
    assert found == sorted(found)
    assert all(cost <= WORTH_FIXED * costs.exact for cost in found)
    costs.exact /= 100.0
    assert _candidates(1, size, costs) == []
