"""Stages made one: the same products, in fewer stages."""

import polarity_sampling as ps
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

CHANNELS, SIZE = 6, 7


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

    def flat(z: Tensor) -> Tensor:
        return module(z).flatten(1)

    expected = torch.stack([torch.func.jvp(flat, (z,), (v,))[1] for v in V.permute(2, 0, 1)], 2)
    torch.testing.assert_close(J @ V, expected)
    U = torch.randn_like(expected)
    pulled = torch.stack([torch.func.vjp(flat, z)[1](u)[0] for u in U.permute(2, 0, 1)], 2)
    torch.testing.assert_close(J.mT @ U, pulled)
