"""Chains of linear layers as one stage: which become one, and that they stay the same map."""

import itertools

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian.compiled import compiled
from polarity_sampling.jacobian.perceptron import Perceptron
from polarity_sampling.jacobian.stage import Map
from torch import nn

from tests import oracle
from tests.architectures import mlp


def chain(*widths: int, activation: type[nn.Module] = nn.ReLU, last: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), activation()]
    return nn.Sequential(*(layers if last else layers[:-1])).double().eval()


class Skip(nn.Module):
    """The middle of the chain is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = (nn.Linear(6, 6) for _ in range(3))

    def forward(self, z):
        h = torch.relu(self.first(z))
        return self.third(torch.relu(self.second(h))) + h


class ScaledProducts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Parameter(torch.randn(6, 8)), nn.Parameter(torch.randn(8, 5))
        self.bias = nn.Parameter(torch.randn(8))

    def forward(self, z):
        h = torch.relu(torch.addmm(self.bias, z, self.first, alpha=0.5))
        return torch.tanh(h @ self.second)


def stages(module: nn.Module, batch: int = 3) -> list[str]:
    z = torch.zeros(batch, 6, dtype=next(module.parameters()).dtype)
    links = compiled(ps.Generator(module, 6), z, None).links
    return [type(link.stage).__name__ for link in links if not isinstance(link.stage, Map)]


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (chain(6, 8, 5), ["Perceptron"]),
        (chain(6, 8, 5, last=False), ["Perceptron"]),
        (chain(6, 8, 7, 9, 5, activation=nn.SiLU), ["Perceptron"]),
        (chain(6, *[7] * 9, activation=nn.Tanh), ["Perceptron", "Product", "Activation"]),
        (chain(6, 8), ["Product", "Rectifier"]),
        (nn.Sequential(nn.Linear(6, 8), nn.Linear(8, 5)).eval(), ["Product", "Product"]),
        (ScaledProducts().eval(), ["Perceptron"]),
        (Skip().eval(), ["Product", "Rectifier", "Perceptron", "Pointwise"]),
    ],
)
def test_what_becomes_one(module, expected):
    assert stages(module) == expected


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Sigmoid])
@pytest.mark.parametrize("last", [True, False])
def test_products(batch, activation, last, seed):
    torch.manual_seed(seed)
    module = chain(6, 40, 30, 5, activation=activation, last=last)
    with torch.no_grad():
        module[0].bias -= 1.0  # few are active
    z = torch.randn(batch, 6, dtype=torch.float64)
    J, truth = ps.jacobian(module, z), oracle.dense_jacobian(ps.Generator(module), z)
    V = torch.randn(batch, 6, 3, dtype=torch.float64)
    U = torch.randn(batch, 5, 3, dtype=torch.float64)
    for found, expected in [
        (J.to_dense(), truth),
        (J @ V, truth @ V),
        (J @ V[0], truth @ V[0]),
        (J.mT @ U, truth.mT @ U),
        (J.mT @ U[0], truth.mT @ U[0]),
    ]:
        torch.testing.assert_close(found, expected, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("module", [Skip, ScaledProducts])
def test_products_of_other_chains(module, seed):
    torch.manual_seed(seed)
    g = ps.Generator(module().double().eval(), 6)
    z = torch.randn(3, 6, dtype=torch.float64)
    J, truth = ps.jacobian(g, z), oracle.dense_jacobian(g, z)
    torch.testing.assert_close(J.to_dense(), truth, atol=1e-12, rtol=1e-12)
    U = torch.randn(truth.shape[1], 4, dtype=torch.float64)
    torch.testing.assert_close(J.mT @ U, truth.mT @ U, atol=1e-12, rtol=1e-12)


def test_work_is_counted_as_if_all_were_active():
    generator = mlp.generator()
    (link,) = (
        link
        for link in compiled(generator, torch.zeros(2, 64), None).links
        if isinstance(link.stage, Perceptron)
    )
    assert link.stage.flops >= 2 * 2 * (64 * 256 + 256 * 256 + 256 * 784)


@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.LeakyReLU, nn.Tanh])
@pytest.mark.parametrize("last", [True, False])
def test_gram_matrices_without_the_last_layer(batch, activation, last, seed):
    torch.manual_seed(seed)
    module = nn.Sequential(*chain(6, 20, 30, 25, activation=activation, last=last), nn.Unflatten(1, (5, 5)))
    z = torch.randn(batch, 6)
    J = ps.jacobian(module.float(), z, primal="float64")
    truth = oracle.dense_jacobian(ps.Generator(module), z.double())
    for V in (torch.randn(6, 4, dtype=torch.float64), torch.randn(batch, 6, 4, dtype=torch.float64)):
        gram, size = J.gram_in_float64(V)
        torch.testing.assert_close(gram, (truth @ V).mT @ (truth @ V), atol=1e-12, rtol=1e-11)
        assert bool((size >= (truth @ V).square().sum((1, 2)) * (1 - 1e-12)).all())
    work = J.gram_work(4)
    assert 0 < work.layer < float("inf")
    assert 0 < work.checked < work.float64


@pytest.mark.parametrize(
    "module",
    [
        nn.Sequential(*chain(6, 8, 9), nn.Linear(9, 9), nn.LayerNorm(9)).float().eval(),
        nn.Sequential(nn.LayerNorm(6), *chain(6, 8, 9)).float().eval(),
        Skip().eval(),
    ],
)
def test_only_of_whole_perceptrons(module):
    J = ps.jacobian(module, torch.randn(3, 6), primal="float64")
    assert J.gram_in_float64(torch.eye(6, dtype=torch.float64)) is None
    assert J.gram_work(6) is None


def test_only_behind_a_forward_pass_in_float64():
    J = ps.jacobian(chain(6, 8, 9).float(), torch.randn(3, 6))
    assert J.gram_in_float64(torch.eye(6, dtype=torch.float64)) is None


@pytest.mark.parametrize("shared", [True, False], ids=["shared", "own"])
def test_by_the_library(shared, monkeypatch):
    """As a GPU multiplies where there is much to multiply."""
    generator = mlp.generator((8, 64, 64, 20), (0.5, 0.4))
    z, gen = torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), torch.Generator().manual_seed(1)
    batch = () if shared else (5,)
    V, U = torch.randn(*batch, 8, 3, generator=gen), torch.randn(*batch, 20, 3, generator=gen)
    kept, J = U.clone(), ps.jacobian(generator, z)
    push, pull = J @ V, J.mT @ U
    monkeypatch.setattr(Perceptron, "_by_library", lambda self, probes: True)
    J = ps.jacobian(generator, z)
    torch.testing.assert_close(J @ V, push)
    torch.testing.assert_close(J.mT @ U, pull)
    assert torch.equal(U, kept)
