"""Convolutions and what multiplies their results as one stage, in both directions."""

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian.compiled import compiled
from polarity_sampling.jacobian.program import Program
from torch import Tensor, nn


def generator(slope: float, channels: int = 32, size: int = 6) -> ps.Generator:
    """From one pixel up, by convolutions that Winograd's filtering pays for, with biases."""
    rectifier = nn.LeakyReLU(slope) if slope else nn.ReLU()
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Unflatten(1, (3, 1, 1)),
        nn.ConvTranspose2d(3, channels, size, bias=False),
        rectifier,
        nn.ConvTranspose2d(channels, channels, 4, 2, 1),
        nn.BatchNorm2d(channels),
        rectifier,
        nn.Conv2d(channels, channels, 3, 1, 1),
        rectifier,
        nn.Conv2d(channels, 2, 3, 1, 1),
        nn.Tanh(),
    )
    return ps.Generator(module.double().eval(), 3)


def stages(program: Program) -> list[str]:
    return [type(step.apply.__self__).__name__ for step in program._steps]


@pytest.mark.parametrize("slope", [0.0, 0.2])
@pytest.mark.parametrize("batch", [1, 4])
def test_products(slope, batch):
    g = generator(slope)
    z = torch.randn(batch, 3, dtype=torch.float64)
    J = ps.jacobian(g, z)
    exact = torch.stack([torch.func.jacfwd(lambda z: g.module(z[None]).flatten())(row) for row in z])
    for probes in (1, 5):
        V = torch.randn(batch, 3, probes, dtype=torch.float64)
        torch.testing.assert_close(J @ V, exact @ V)
        shared = torch.randn(3, probes, dtype=torch.float64)
        torch.testing.assert_close(J @ shared, exact @ shared)
        U = torch.randn(batch, exact.shape[1], probes, dtype=torch.float64)
        torch.testing.assert_close(J.mT @ U, exact.mT @ U)
    torch.testing.assert_close(J.to_dense(), exact)


def test_both_directions_have_them():
    lowered = compiled(generator(0.0), torch.randn(4, 3, dtype=torch.float64), None)
    assert stages(lowered.push) == ["Map", "Convolutions", "Map"]
    assert stages(lowered.pull) == ["Map", "Activation", "Convolutions", "Map"]


class TwoReaders(nn.Module):
    """What the convolution gives is rectified, and used as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(32, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z.sin().unflatten(1, (32, 4, 4)))
        return self.second(x.relu()) + x


def test_what_somebody_else_reads_is_left_alone():
    module = TwoReaders().double()
    g = ps.Generator(module, 512)
    z = torch.randn(2, 512, dtype=torch.float64)
    lowered = compiled(g, z, None)
    assert "Convolutions" not in stages(lowered.push)
    V = torch.randn(2, 512, 3, dtype=torch.float64)
    expected = torch.stack(
        [torch.func.jvp(lambda z: module(z).flatten(1), (z,), (v,))[1] for v in V.permute(2, 0, 1)], 2
    )
    J = ps.jacobian(g, z)
    torch.testing.assert_close(J @ V, expected)
    U = torch.randn_like(expected)
    torch.testing.assert_close((U * expected).sum(1), (V * (J.mT @ U)).sum(1))
