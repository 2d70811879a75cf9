"""Modulated convolutions in the forms found in the wild: one shared kernel, the same derivatives."""

import polarity_sampling as ps
import pytest
import torch
import torch.nn.functional as F
from polarity_sampling.jacobian.capture import capture
from torch import Tensor, nn

from tests import oracle

aten = torch.ops.aten


class Modulated(nn.Module):
    """Latents [B, 6] to a feature map [B, 4, 5, 5] and styles [B, 4], and what a subclass makes of them."""

    groups_left = 0
    """Convolutions with a kernel for each sample that may remain."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.affine = nn.Linear(6, 100), nn.Linear(6, 4)
        self.weight = nn.Parameter(torch.randn(3, 4, 3, 3))

    def forward(self, z: Tensor) -> Tensor:
        return self.convolve(self.lift(z).tanh().view(-1, 4, 5, 5), self.affine(z).exp())


class OneExpression(Modulated):
    """weights[B, O, I, k, k] with the squares as a power, sizes by view."""

    def convolve(self, x, style):
        weight = 0.3 * self.weight[None] * style.view(-1, 1, 4, 1, 1)
        weight = weight * torch.rsqrt(weight.pow(2).sum([2, 3, 4]) + 1e-8).view(-1, 3, 1, 1, 1)
        y = F.conv2d(x.reshape(1, -1, 5, 5), weight.view(-1, 4, 3, 3), padding=1, groups=len(x))
        return y.view(-1, 3, 5, 5)


class StylePlusOne(Modulated):
    """Square by multiplication, one more gain for each sample, a constant gain, a bias that samples share."""

    def convolve(self, x, style):
        weight = self.weight.unsqueeze(0) * (style[:, None, :, None, None] + 1)
        weight = weight / torch.sqrt((weight * weight).sum(dim=(2, 3, 4), keepdim=True) + 1e-8)
        weight = weight * style.mean(1)[:, None, None, None, None] * 0.5
        weight = weight.reshape(-1, 4, 3, 3)
        bias = torch.ones(3, dtype=x.dtype).repeat(len(x))
        return F.conv2d(x.reshape(1, -1, 5, 5), weight, bias, padding=1, groups=len(x)).reshape(-1, 3, 5, 5)


class Transposed(Modulated):
    """Up-sampling by a transposed convolution, kernel flipped."""

    def convolve(self, x, style):
        weight = self.weight.unsqueeze(0) * style.reshape(-1, 1, 4, 1, 1)
        weight = weight * (weight.square().sum(dim=[2, 3, 4]) + 1e-8).rsqrt().reshape(-1, 3, 1, 1, 1)
        weight = weight.flip([3, 4]).transpose(1, 2).reshape(-1, 3, 3, 3)
        y = F.conv_transpose2d(x.reshape(1, -1, 5, 5), weight, stride=2, groups=len(x))
        return y.view(len(x), 3, *y.shape[2:])


class Filtered(Modulated):
    """A filter on every channel while samples are still merged into the channels."""

    def convolve(self, x, style):
        weight = (self.weight.unsqueeze(0) * style.reshape(-1, 1, 4, 1, 1)).reshape(-1, 4, 3, 3)
        y = F.conv2d(x.reshape(1, -1, 5, 5), weight, groups=len(x))
        taps = torch.ones(y.shape[1], 1, 2, 2, dtype=x.dtype)
        return F.conv2d(y, taps, groups=y.shape[1]).reshape(len(x), 3, 2, 2)


class ScaledActivations(Modulated):
    """Samples scaled instead of kernels, but the norm from the kernels of every sample."""

    def convolve(self, x, style):
        weight = self.weight[None] * style[:, None, :, None, None]
        norm = (weight.square().sum([2, 3, 4]) + 1e-8).rsqrt()
        return F.conv2d(x * style[:, :, None, None], self.weight) * norm[:, :, None, None]


class KernelOfItsOwn(Modulated):
    """Factors that vary over kernel positions: nothing can be shared."""

    groups_left = 1

    def convolve(self, x, style):
        position = style[:, None, None, :3, None]
        weight = (self.weight[None] * position).reshape(-1, 4, 3, 3)
        return F.conv2d(x.reshape(1, -1, 5, 5), weight, groups=len(x)).reshape(len(x), 3, 3, 3)


FORMS = [OneExpression, StylePlusOne, Transposed, Filtered, ScaledActivations, KernelOfItsOwn]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
@pytest.mark.parametrize("batch", [1, 3])
def test_forms(form, batch, seed):
    torch.manual_seed(seed)
    g = ps.Generator(form().double().eval(), 6)
    z = torch.randn(batch, 6, dtype=torch.float64)
    J = ps.jacobian(g, z)
    truth = oracle.dense_jacobian(g, z)
    torch.testing.assert_close(J.to_dense(), truth, atol=1e-10, rtol=1e-10)
    U = torch.randn(batch, truth.shape[1], 2, dtype=torch.float64)
    torch.testing.assert_close(J.mT @ U, truth.mT @ U, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_kernels_are_shared(form):
    """Every convolution has a constant weight, and nothing as large as a kernel for each sample is left."""
    g = ps.Generator(form().eval(), 6)
    captured = capture(g, torch.randn(3, 6), None)
    weights = [
        captured.call(n)["weight"] for n in captured.graph.nodes if n.target is aten.convolution.default
    ]
    assert sum(weight.active for weight in weights) == form.groups_left
    if not form.groups_left:
        kernels = [
            operands[0]
            for operands in captured.operands.values()
            if operands and operands[0].active and operands[0].shape.numel() == 3 * g.module.weight.numel()
        ]
        assert not kernels


def test_other_graphs_stay_as_they_are():
    """Gains and biases are not weights of samples."""
    g = ps.Generator(nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.GELU(), nn.Linear(8, 5)).eval(), 6)
    captured = capture(g, torch.randn(2, 6), None)
    targets = [n.target for n in captured.graph.nodes if n.op == "call_function"]
    assert aten.native_layer_norm.default in targets
    assert aten.mul.Tensor not in targets


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("batch", [1, 3])
def test_a_style_times_an_image(swapped, batch):
    """One stage, whichever factor comes first, and whoever else reads the image."""

    class Styled(Modulated):
        def convolve(self, x, style):
            style = style[:, :, None, None]
            x = F.conv2d(style * x if swapped else x * style, self.weight, padding=1)
            return x * style[:, :3] + x[:, :1]

    g = ps.Generator(Styled().double().eval(), 6)
    z = torch.randn(batch, 6, dtype=torch.float64)
    J = ps.jacobian(g, z)
    assert [row.stage for row in J.explain().rows].count("modulation") == 2
    truth = oracle.dense_jacobian(g, z)
    torch.testing.assert_close(J.to_dense(), truth, atol=1e-10, rtol=1e-10)
    U = torch.randn(batch, truth.shape[1], 5, dtype=torch.float64)
    torch.testing.assert_close(J.mT @ U, truth.mT @ U, atol=1e-10, rtol=1e-10)
