"""Log-volumes of perceptrons with few active units behind their last hidden layer, in float64 throughout."""

import random

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.laws import Sphere
from polarity_sampling.volume import Status
from polarity_sampling.volume.calibration import rounding_of
from torch import nn

from tests import oracle


def perceptron(dim: int, width: int, outputs: int, active: float, activation: type[nn.Module]) -> nn.Module:
    """Some of the units of the last hidden layer are never active, the others always."""
    first, last = nn.Linear(dim, width), nn.Linear(width, outputs)
    middle = nn.Linear(width, width)
    with torch.no_grad():
        middle.bias.copy_(torch.where(torch.arange(width) < active * width, 20.0, -20.0))
        last.weight.mul_(2.0)
        last.bias.sub_(last.weight @ middle.bias.clamp(min=0.0))  # outputs that are not saturated
    return nn.Sequential(
        first, nn.ReLU(), middle, activation(), last, nn.Tanh(), nn.Unflatten(1, (1, -1))
    ).eval()


def spares(generator: ps.Generator) -> bool:
    return rounding_of(generator, generator.dtype, "1GiB").gram == "layer"


@pytest.fixture
def sizes(seed):
    draw = random.Random(seed)
    dim = draw.randint(12, 40)
    return dim, 4 * dim, 30 * dim + draw.randint(1, 99)


@pytest.mark.parametrize("top_k", [1, 5, None])
def test_the_truth_is_inside(sizes, top_k, seed):
    torch.manual_seed(seed)
    dim, width, outputs = sizes
    g = ps.Generator(perceptron(dim, width, outputs, 0.26, nn.ReLU), dim)  # 0.26 * 4 K > K: of full rank
    assert spares(g)
    z = torch.randn(17, dim)
    lv = ps.log_volume(g, z, top_k=top_k, method="exact")
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(g, z.double()))[:, : lv.top_k]
    off = (lv.value - torch.maximum(sigma, lv.floor[:, None]).log().sum(1)).abs()
    assert bool((off <= lv.error + 1e-12).all())
    found = ~lv.recomputed
    assert bool((lv.spent[found] == dim).all())
    # Far below what float32 products could do, and nothing is hidden.
    torch.testing.assert_close(lv.singular_values[:, 0], sigma[:, 0], rtol=1e-12, atol=0)
    assert bool((lv.error[found] <= 1e-2).all())
    assert torch.equal(lv.converged, lv.status == Status.CONVERGED)


def test_latents_of_a_lower_rank(sizes, seed):
    torch.manual_seed(seed)
    dim, width, outputs = sizes
    g = ps.Generator(perceptron(dim, width, outputs, 0.1, nn.ReLU), dim)
    assert spares(g)
    rank = sum(i < 0.1 * width for i in range(width))
    z = torch.randn(9, dim)
    some = ps.log_volume(g, z, top_k=rank // 2, method="exact")
    assert bool(some.converged.all())
    assert bool((some.rank <= rank).all())
    every = ps.log_volume(g, z, top_k=None, method="exact")
    assert bool((every.status == Status.BELOW_FLOOR).all())
    assert bool(every.error.isinf().all())
    assert bool(every.recomputed.all())


def test_what_a_latent_gets_does_not_depend_on_the_others(sizes, seed):
    torch.manual_seed(seed)
    dim, width, outputs = sizes
    g = ps.Generator(perceptron(dim, width, outputs, 0.26, nn.ReLU), dim)
    z = torch.randn(21, dim)
    together = ps.log_volume(g, z, top_k=5, method="exact")
    apart = ps.log_volume(g, z[3:8], top_k=5, method="exact")
    torch.testing.assert_close(apart.value, together.value[3:8], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(apart.error, together.error[3:8], rtol=1e-3, atol=0)
    little = ps.log_volume(g, z, top_k=5, method="exact", memory="1MiB")
    off = (little.value - together.value).abs()  # what weights leave may be too little for that route
    assert bool((off <= little.error + together.error).all())


def test_on_a_sphere_and_behind_a_narrow_layer(sizes, seed):
    torch.manual_seed(seed)
    dim, width, outputs = sizes
    module = perceptron(dim, width, outputs, 0.2, nn.ReLU)
    g = ps.Generator(module, dim, Sphere(radius=dim**0.5))
    z = g.base.draw(seed, torch.arange(7), dim)
    lv = ps.log_volume(g, z, top_k=4, method="exact")
    jacobian = oracle.dense_jacobian(g, z.double())
    unit = (z.double() / z.double().norm(dim=1, keepdim=True))[:, :, None]
    sigma = torch.linalg.svdvals(jacobian - jacobian @ unit @ unit.mT)[:, :4]
    assert spares(g)
    torch.testing.assert_close(lv.value, sigma.log().sum(1), rtol=1e-9, atol=1e-9)
    assert bool((lv.spent == dim - 1).all())

    narrow = ps.Generator(nn.Sequential(nn.Linear(3 * dim, dim), *module).eval(), 3 * dim)
    z = torch.randn(7, 3 * dim)
    lv = ps.log_volume(narrow, z, top_k=4, method="exact")
    assert spares(narrow)
    sigma = torch.linalg.svdvals(oracle.dense_jacobian(narrow, z.double()))[:, :4]
    torch.testing.assert_close(lv.value, sigma.log().sum(1), rtol=1e-9, atol=1e-9)
    assert bool((lv.spent == dim).all())


def test_where_the_last_layer_is_formed(sizes, seed):
    torch.manual_seed(seed)
    dim, width, outputs = sizes
    everywhere = ps.Generator(perceptron(dim, width, outputs, 0.3, nn.LeakyReLU), dim)
    assert not spares(everywhere)  # every unit of 4 K passes something on
    few = perceptron(dim, width, outputs, 0.26, nn.ReLU)
    assert not spares(ps.Generator(nn.Sequential(few, nn.Conv1d(1, 2, 3)).eval(), dim))
    assert not spares(ps.Generator(few.double(), dim))
    single = ps.Generator(few.float(), dim)
    z = torch.randn(3, dim)
    assert rounding_of(single, torch.float32, "1GiB", "working").gram == "checked"
    for primal, products in (("float64", dim), ("working", dim + 2)):
        lv = ps.log_volume(single, z, top_k=3, method="exact", primal=primal)
        assert bool((lv.spent == products).all())
