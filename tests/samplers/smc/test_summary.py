"""What a surrogate is told of a forward pass."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.samplers.smc import slopes
from polarity_sampling.samplers.smc.summary import Summary
from torch import nn

from tests.samplers.toy_generators import sheet, sheets


class Constant(nn.Module):
    def forward(self, z):
        return torch.ones_like(z) + 0.0 * z


class Weighted(nn.Module):
    """As many weights as a chunk has latents, activated on their own; and a unit that is seldom computed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(-1, 1, 64))

    def forward(self, z):
        bent = torch.tanh(z)
        if float(z.max()) > 100.0:
            bent = bent + 0.0 * torch.sigmoid(z)
        return bent @ torch.exp(self.weight).reshape(2, 32)


def network(seed):
    torch.manual_seed(seed)
    layers = (nn.Linear(6, 20), nn.ReLU(inplace=True), nn.Linear(20, 30), nn.SiLU(), nn.Linear(30, 5))
    return ps.Generator(nn.Sequential(*layers, nn.Tanh()).eval(), 6)


@pytest.mark.parametrize("conditional", [False, True])
def test_it_has_mean_zero_and_unit_spread(conditional):
    g = sheets() if conditional else sheet()
    seen = Summary.of(g, g.base)
    z = g.base.draw(3, torch.arange(2000), 2)
    label = torch.arange(2000) % 3 if conditional else None
    found = seen(z, label)
    assert found.dtype == torch.float32
    # Three numbers of a sample and the slope of a square, which follows one of them but for classes.
    assert found.shape == (2000, 4 if conditional else 3)
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
    monkeypatch.setattr(slopes, "ENTRIES", 2)  # of the three numbers of a sample the first and the last
    assert len(next(iter(Summary.of(sheet(), ps.Normal()).means.values()))) == 2


def test_slopes_are_those_of_the_activations(seed):
    g = network(seed)
    z = torch.randn(9, 6)
    found = slopes.forward(g, z, None)
    first = z @ g.module[0].weight.T + g.module[0].bias
    second = (first.relu() @ g.module[2].weight.T + g.module[2].bias).detach().requires_grad_()
    silu = torch.autograd.grad(nn.functional.silu(second).sum(), second)[0]
    expected = {"sample": g(z), "aten::relu_": (first > 0).float(), "aten::silu": silu}
    expected["aten::tanh"] = 1.0 - g(z).square()
    assert [name for _, name, _ in found] == list(expected)
    for (_, name, width), block in found.items():
        assert block.shape == (9, width)
        torch.testing.assert_close(block, expected[name].detach(), atol=1e-5, rtol=1e-4)
    wanted = next(key for key in found if key[1] == "aten::silu")
    assert [name for _, name, _ in slopes.forward(g, z, None, {wanted})] == ["sample", "aten::silu"]


def test_slopes_stay_finite():
    class Root(nn.Module):
        def forward(self, z):
            return z.relu().sqrt()

    found = slopes.forward(ps.Generator(Root().eval(), 3), torch.tensor([[-1.0, 0.0, 4.0]]), None)
    assert all(block.isfinite().all() for block in found.values())


def test_what_does_not_belong_to_latents_is_left_out():
    g = ps.Generator(Weighted().eval(), 2)
    seen = Summary.of(g, g.base)
    assert [name for _, name, _ in seen.means] == ["sample", "aten::tanh"]


def test_where_a_forward_pass_branches_what_is_missing_counts_as_average(seed):
    g = network(seed)
    whole = Summary.of(g, g.base)
    (number, name, width), mean = list(whole.means.items())[1]
    renamed = {
        (99, n, w) if (i, n, w) == (number, name, width) else (i, n, w): m
        for (i, n, w), m in whole.means.items()
    }
    z = torch.randn(5, 6)
    found = Summary(g, renamed, whole.directions)(z, None)
    block = slopes.forward(g, z, None)[number, name, width] - mean
    rows = whole.directions[5 : 5 + width]
    torch.testing.assert_close(found, whole(z, None) - block @ rows, atol=1e-3, rtol=1e-3)


def test_samples_of_one_number(seed):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 8), nn.Linear(8, 1), nn.Flatten(0)).eval()  # [B]
    generator = ps.Generator(module, 3)
    summary = Summary.of(generator, generator.base)
    assert summary(torch.randn(5, 3), None).shape == (5, 1)


def test_samples_that_do_not_vary_tell_nothing():
    g = ps.Generator(Constant(), 4)
    assert Summary.of(g, g.base)(torch.randn(5, 4), None).shape == (5, 0)
