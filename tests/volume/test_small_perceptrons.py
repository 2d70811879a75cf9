"""Log-volumes of perceptrons so small that all of the exact route is in float64."""

from itertools import pairwise

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.laws import Sphere
from polarity_sampling.volume import Status
from polarity_sampling.volume.calibration import GramRoute, rounding_of
from torch import nn

from tests import oracle


def perceptron(*widths: int, activation: type[nn.Module] = nn.ReLU) -> nn.Module:
    layers: list[nn.Module] = []
    for before, width in pairwise(widths):
        layers += [nn.Linear(before, width), activation()]
    return nn.Sequential(*layers[:-1], nn.Tanh()).eval()


def route(generator: ps.Generator, memory: str = "1GiB") -> GramRoute:
    return rounding_of(generator, generator.dtype, memory).gram


@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh, nn.SiLU])
@pytest.mark.parametrize("widths", [(1, 40, 300), (2, 8, 8, 2), (2, 128, 128, 3), (6, 20, 30, 9)])
@pytest.mark.parametrize("top_k", [1, None])
def test_the_truth_is_inside(activation, widths, top_k, seed):
    torch.manual_seed(seed)
    g = ps.Generator(perceptron(*widths, activation=activation), widths[0])
    assert route(g) == "float64"
    z = torch.randn(33, widths[0])
    lv = ps.log_volume(g, z, top_k=top_k)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z.double()))[:, : lv.top_k]
    off = (lv.value - torch.maximum(sigma, lv.floor[:, None]).log().sum(1)).abs()
    assert not (off > lv.error).any()  # NaN of the logarithms of zero, where no unit is active
    found = ~lv.recomputed
    assert bool((lv.spent[found] == widths[0]).all())
    assert bool((lv.error[found] <= 1e-2).all())
    torch.testing.assert_close(lv.singular_values[:, 0], sigma[:, 0], rtol=1e-12, atol=0)
    assert torch.equal(lv.converged, lv.status == Status.CONVERGED)


def test_latents_of_a_lower_rank(seed):
    torch.manual_seed(seed)
    module = perceptron(4, 10, 3, 40, 12)
    with torch.no_grad():
        module[2].bias.add_(20.0)  # three units, all active: of rank 3 in four directions
    g = ps.Generator(module, 4)
    assert route(g) == "float64"
    z = torch.randn(9, 4)
    three, four = (ps.log_volume(g, z, top_k=k) for k in (3, 4))
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z.double()))[:, :3]
    assert bool((three.value - torch.maximum(sigma, three.floor[:, None]).log().sum(1)).abs().le(1e-2).all())
    assert bool((four.status == Status.BELOW_FLOOR).all())
    assert bool(four.error.isinf().all())
    assert bool(four.recomputed.all())


def test_on_a_sphere_and_in_any_company(seed):
    torch.manual_seed(seed)
    g = ps.Generator(perceptron(5, 12, 9, activation=nn.Tanh), 5, Sphere())
    assert route(g) == "float64"
    z = g.base.draw(seed, torch.arange(21), 5)
    lv = ps.log_volume(g, z, top_k=None)
    jacobian = oracle.dense_jacobian(g, z.double())
    unit = (z.double() / z.double().norm(dim=1, keepdim=True))[:, :, None]
    sigma = torch.linalg.svdvals(jacobian - jacobian @ unit @ unit.mT)[:, :4]
    torch.testing.assert_close(lv.value, sigma.log().sum(1), rtol=1e-7, atol=1e-7)
    assert bool((lv.spent == 4).all())
    apart = ps.log_volume(g, z[3:8], top_k=None)
    torch.testing.assert_close(apart.value, lv.value[3:8], rtol=1e-12, atol=1e-12)


def test_where_products_are_checked(seed):
    torch.manual_seed(seed)
    large = perceptron(6, 200, 300, activation=nn.Tanh)
    assert route(ps.Generator(large, 6)) == "checked"
    few = ps.Generator(perceptron(2, 200, 300, activation=nn.Tanh), 2)
    assert route(few) == "float64"  # of two products a check is as much as it spares
    assert route(few, memory="16KiB") == "checked"
    small = perceptron(6, 20, 30, activation=nn.Tanh)
    assert route(ps.Generator(nn.Sequential(small, nn.LayerNorm(30)).eval(), 6)) == "checked"
    assert rounding_of(ps.Generator(small, 6), torch.float32, "1GiB", "working").gram == "checked"
    assert route(ps.Generator(small.double(), 6)) == "checked"
