"""Stages made one: the same products, in fewer stages."""

import math

import polarity_sampling as ps
import pytest
import torch
import torch.nn.functional as F
from polarity_sampling.jacobian.compiled import compiled
from polarity_sampling.jacobian.rules.convolution_forms import fast_layout
from polarity_sampling.jacobian.rules.pointwise import FEW_CHANNELS, Rectifier
from torch import Tensor, nn

CHANNELS, SIZE = 6, 7


def pushed(module: nn.Module, z: Tensor, V: Tensor) -> Tensor:
    """J @ V by torch.func."""

    def flat(z: Tensor) -> Tensor:
        return module(z).flatten(1)

    return torch.stack([torch.func.jvp(flat, (z,), (v,))[1] for v in V.permute(2, 0, 1)], 2)


class Filtered(nn.Module):
    """Latents as images, padded and filtered: along rows, and along columns."""

    def __init__(
        self, pad: tuple[int, ...], rows: int, columns: int, padding: int = 0, groups: int = CHANNELS
    ) -> None:
        super().__init__()
        self.pad, self.padding, self.groups = pad, padding, groups
        generator = torch.Generator().manual_seed(0)
        inputs = CHANNELS // groups
        self.rows = nn.Parameter(torch.randn(CHANNELS, inputs, 1, rows, generator=generator))
        self.columns = nn.Parameter(torch.randn(CHANNELS, inputs, columns, 1, generator=generator))

    def forward(self, z: Tensor) -> Tensor:
        x = F.pad(torch.tanh(z).unflatten(1, (CHANNELS, SIZE, SIZE)), self.pad)
        x = F.conv2d(x, self.rows, groups=self.groups)
        return F.conv2d(x, self.columns, padding=self.padding, groups=self.groups)


@pytest.mark.parametrize(
    ("arguments", "convolutions", "maps"),
    [
        (((1, 1, 2, 2), 4, 4), 1, 0),
        (((2, 1, 2, 1), 4, 4), 1, 1),  # more zeros on one side
        (((1, 1, 1, 1), 4, 4, 1), 2, 0),  # zeros around what lies between
        (((-1, -1, -1, -1), 2, 3), 1, 1),  # cut
        (((1, 1, 1, 1), 9, 9), 2, 0),  # one filter would be 81 taps for 18
        (((1, 1, 1, 1), 3, 3, 0, 1), 2, 0),  # across channels
    ],
)
def test_padding_and_separable_filters(arguments, convolutions, maps):
    module = Filtered(*arguments).double()
    generator = ps.Generator(module, CHANNELS * SIZE**2)
    z = torch.randn(2, CHANNELS * SIZE**2, dtype=torch.float64)
    V, J = torch.randn(2, CHANNELS * SIZE**2, 3, dtype=torch.float64), ps.jacobian(generator, z)
    stages = [row for row in J.explain().rows if "aten.view" not in row.ops[0]]
    found = [row.stage for row in stages]
    assert found.count("convolution") == convolutions
    assert found.count("padding") == maps

    expected = pushed(module, z, V)
    torch.testing.assert_close(J @ V, expected)
    U = torch.randn_like(expected)
    torch.testing.assert_close((U * expected).sum(1), (V * (J.mT @ U)).sum(1))


class Rectified(nn.Module):
    """Leaky ReLU of images, with scales before it and behind it; channels last or not."""

    def __init__(self, last: bool, before: float | Tensor) -> None:
        super().__init__()
        self.last, self.before = last, before
        self.weight = nn.Parameter(torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(0)))

    def forward(self, z: Tensor) -> Tensor:
        x = z.sin().unflatten(1, (2, 5, 5))
        x = F.conv2d(x, self.weight) if self.last else x
        return F.leaky_relu(x * self.before, 0.2) * 2**0.5


@pytest.mark.parametrize("last", [True, False])
def test_slopes_of_two_values_are_bits(last):
    z, V = torch.randn(2, 50, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    module = Rectified(last, 1.0).double()
    J = ps.jacobian(module, z)
    expected = pushed(module, z, V.expand(2, -1, -1))
    torch.testing.assert_close(J @ V, expected)
    U = torch.randn_like(expected)
    torch.testing.assert_close((U * expected).sum(1), (V * (J.mT @ U)).sum(1))
    assert ("aten.leaky_relu", "aten.mul.Tensor") in [row.ops[-2:] for row in J.explain().rows]
    kept = J._captured().blocks[0].parts(exact=False, keep=True)[1]
    bits = [t for residual in kept for t in residual if t.dtype == torch.uint8]
    assert [list(t.shape) for t in bits] == [[2, -(-module(z)[0].numel() // 8)]]


def test_slopes_times_numbers_of_each_channel_are_numbers():
    module = Rectified(False, torch.tensor([[[2.0]], [[3.0]]], dtype=torch.float64)).double()
    z, V = torch.randn(2, 50, dtype=torch.float64), torch.randn(50, 4, dtype=torch.float64)
    expected = pushed(module, z, V.expand(2, -1, -1))
    torch.testing.assert_close(ps.jacobian(module, z) @ V, expected)


@pytest.mark.parametrize(
    ("shape", "last"), [((2, 9), False), ((2, 3, 4, 5), False), ((2, FEW_CHANNELS + 1, 4, 5), True)]
)
def test_bits_are_applied_in_place(shape, last):
    """To images as convolutions leave them: with few channels first, with more last."""
    z = torch.randn(2, math.prod(shape[1:]))
    module = nn.Sequential(nn.Tanh(), nn.Unflatten(1, shape[1:]), nn.ReLU())
    links = compiled(ps.Generator(module, z.shape[1]), z, None).links
    (stage,) = (link.stage for link in links if isinstance(link.stage, Rectifier))
    _, residual = stage.primal(torch.relu, (z.view(shape),), {})
    t = torch.randn(3 * shape[0], *shape[1:])
    t = (fast_layout(t) if last else t).unflatten(0, (3, shape[0]))
    expected = t * (z.view(shape) > 0)
    (kept,) = stage.push(residual, (t,), False)
    assert torch.equal(kept, expected)
    (written,) = stage.push(residual, (t,), True)
    assert written is t
    assert torch.equal(t, expected)
