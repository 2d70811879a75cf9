"""What forwards in the wild are made of: each must give the right products, whichever route it takes."""

import warnings

import polarity_sampling as ps
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests import oracle


class TwoLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 8), nn.Linear(8, 6)


class InPlace(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        h[:, 0] += h[:, 1]
        return self.second(F.relu(h.mul_(2), inplace=True))


class FillsABuffer(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        out = torch.zeros(z.shape[0], 8)  # float32, whatever the module is
        out[:, :4] = h[:, 4:]
        out[:, 4:] = h[:, :4]
        return self.second(out.tanh())


class CastsToFloat32(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        return self.second(self.first(z).to(torch.float32).sigmoid().float())


class BranchesOnValues(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        h = self.first(z)
        return self.second(h * 2 if z.abs().sum().item() > 1e9 else h.sin())


class LoopsOverSamples(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        return torch.stack([self.second(self.first(one).cumsum(0)) for one in z])


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(4, 24)

    def forward(self, z: Tensor) -> Tensor:
        q, k, v = self.qkv(z).reshape(-1, 1, 4, 6).chunk(3, -1)
        return F.scaled_dot_product_attention(q, k, v).flatten(1)


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lift = nn.Linear(4, 32)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(self.lift(z).reshape(-1, 4, 8))


class SpectralNorm(TwoLayers):
    def __init__(self) -> None:
        super().__init__()
        nn.utils.spectral_norm(self.first)
        nn.utils.parametrizations.spectral_norm(self.second)

    def forward(self, z: Tensor) -> Tensor:
        return self.second(self.first(z).tanh())


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(4, 5, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        return self.gru(z[:, None].expand(-1, 3, -1))[0]


class Image(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(4, 16),
            nn.Unflatten(1, (4, 2, 2)),
            nn.Upsample(scale_factor=2, mode="bilinear"),
            nn.Conv2d(4, 4, 3, padding=1),
            nn.InstanceNorm2d(4),
            nn.GELU(),
            nn.PixelShuffle(2),
            nn.MaxPool2d(2),
            nn.PReLU(),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)


class _Square(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x

    @staticmethod
    def backward(ctx, grad):
        return 2 * grad * ctx.saved_tensors[0]


class OldStyleFunction(TwoLayers):
    def forward(self, z: Tensor) -> Tensor:
        return self.second(_Square.apply(self.first(z)))


class BranchesAndIsOldStyle(BranchesOnValues):
    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) + _Square.apply(z).sum(1, keepdim=True)


class OneHot(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.out = nn.Linear(7, 5)

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        return self.out(torch.cat([z, F.one_hot(label, 3).to(z.dtype)], 1)).tanh()


FORWARDS = [
    InPlace, FillsABuffer, CastsToFloat32, BranchesOnValues, LoopsOverSamples, Attention, Transformer,
    SpectralNorm, Recurrent, Image, OldStyleFunction, OneHot,
]  # fmt: skip


def truth(g: ps.Generator, z: Tensor, label: Tensor | None) -> Tensor:
    """Central differences in float64: they ask nothing of the module but a forward pass."""
    double, h = g.in_dtype(torch.float64), 1e-5
    columns = []
    for i in range(z.shape[1]):
        step = torch.zeros(z.shape[1], dtype=torch.float64)
        step[i] = h
        with torch.no_grad():
            ahead, behind = double.flat(z.double() + step, label), double.flat(z.double() - step, label)
        assert ahead.dtype == torch.float64
        columns.append((ahead - behind) / (2 * h))
    return torch.stack(columns, -1)


@pytest.mark.parametrize("forward", FORWARDS, ids=lambda c: c.__name__)
def test_products_and_volumes(forward):
    torch.manual_seed(3)
    module = forward().eval()
    conditional = forward is OneHot
    g = ps.Generator(module, 4, num_classes=3 if conditional else None)
    z = torch.randn(5, 4)
    label = torch.tensor([0, 1, 2, 1, 0]) if conditional else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ps.PolarityWarning)
        J = ps.jacobian(g, z, label)
        expected = truth(g, z, label)
        torch.testing.assert_close(J.to_dense().double(), expected, atol=2e-5, rtol=2e-5)
        adjoint = J.mT @ torch.eye(J.shape[1])
        torch.testing.assert_close(adjoint.mT.double(), expected, atol=2e-5, rtol=2e-5)
        lv = ps.log_volume(g, z, label, top_k=2)
    assert ((lv.value - oracle.log_volume(expected, 2)).abs() <= lv.error + 1e-6).all()
    assert lv.converged.all()
    assert (lv.eta > 0).all()


def test_capture_takes_all_but_branches():
    for forward in FORWARDS:
        module = forward().eval()
        g = ps.Generator(module, 4, num_classes=3 if forward is OneHot else None)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ps.PolarityWarning)
            J = ps.jacobian(g, torch.randn(2, 4), None if forward is not OneHot else 1)
            assert J.route == ("torch.func" if forward is BranchesOnValues else "captured"), forward


def test_slower_routes_are_reported_once():
    torch.manual_seed(0)
    J = ps.jacobian(ps.Generator(BranchesAndIsOldStyle().eval(), 4), torch.randn(2, 4))
    with pytest.warns(ps.PolarityWarning, match=r"cannot be captured .*torch\.func"):
        assert J.route == "torch.func"
    with pytest.warns(ps.PolarityWarning, match=r"cannot be transformed by torch\.func .*plain autograd"):
        J.to_dense()
    assert J.route == "autograd"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        J.to_dense()
        again = ps.jacobian(J.generator, torch.randn(3, 4))
        again.to_dense()
        assert again.route == "autograd"


def test_what_no_route_can_do_is_an_error():
    class Detaches(TwoLayers):
        def forward(self, z: Tensor) -> Tensor:
            return self.second(torch.from_numpy(self.first(z).numpy()))

    with pytest.raises(ps.GeneratorError, match="differentiable torch operations"):
        ps.jacobian(ps.Generator(Detaches().eval().requires_grad_(False), 4), torch.randn(2, 4)).to_dense()


def test_attention_switches_are_put_back():
    before = torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()
    ps.jacobian(Transformer().eval(), torch.randn(2, 4)).to_dense()
    assert (torch.backends.mha.get_fastpath_enabled(), torch.backends.cuda.flash_sdp_enabled()) == before
