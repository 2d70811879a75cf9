"""What generators see of a latent: counted by their layers, and all of the float64 Jacobian lies in it."""

import random

import polarity_sampling as ps
import pytest
import torch
from polarity_sampling.jacobian.bottleneck import seen_directions
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from tests import oracle


class Of(nn.Module):
    """A function of z, and of a label, with some layers."""

    def __init__(self, function, **layers: nn.Module) -> None:
        super().__init__()
        self.function, self.layers = function, nn.ModuleDict(layers)

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(self.layers, *inputs)


class Branching(nn.Sequential):
    """On the values of a batch, which no graph can hold."""

    def forward(self, z: Tensor) -> Tensor:
        return super().forward(z) if z.sum() > -1e6 else z


class InFloat32(nn.Sequential):
    def forward(self, z: Tensor) -> Tensor:
        if z.dtype != torch.float32:
            raise RuntimeError("this kernel was written for float32")
        return super().forward(z)


def behind(first: nn.Module, width: int) -> nn.Sequential:
    """Layers that see a latent through `first` alone; `width` numbers of it."""
    return nn.Sequential(first, nn.Flatten(), nn.Tanh(), nn.Linear(width, width + 3))


def two_heads(dim: int, a: int, b: int) -> nn.Module:
    def function(layers: nn.ModuleDict, z: Tensor) -> Tensor:
        return layers["mix"](torch.cat([torch.tanh(layers["a"](z)), layers["b"](z).sin()], 1))

    return Of(function, a=nn.Linear(dim, a), b=nn.Linear(dim, b), mix=nn.Linear(a + b, a + b))


# By latent dimension and rows of the first layer, fewer than that.
NARROW = {
    "linear": lambda dim, r: behind(nn.Linear(dim, r), r),
    "two linear maps": lambda dim, r: behind(
        nn.Sequential(nn.Linear(dim, 2 * dim), nn.Linear(2 * dim, r)), r
    ),
    "nothing else": lambda dim, r: nn.Linear(dim, r),
    "image": lambda dim, r: behind(nn.Sequential(nn.Unflatten(1, (dim, 1, 1)), nn.Conv2d(dim, r, 1)), r),
    "scaled": lambda dim, r: Of(lambda m, z: m["rest"](0.5 * z - 1.0), rest=behind(nn.Linear(dim, r), r)),
    "normalised weight": lambda dim, r: behind(weight_norm(nn.Linear(dim, r)), r),
    "batch norm": lambda dim, r: behind(nn.Sequential(nn.BatchNorm1d(dim), nn.Linear(dim, r)), r),
    "masked": lambda dim, r: Of(
        lambda m, z: torch.where(z[:, :1] > 0, m["rest"](z), 0.0), rest=behind(nn.Linear(dim, r), r)
    ),
    "two heads": lambda dim, r: two_heads(dim, r // 2, r - r // 2),
}


@pytest.fixture
def sizes(seed):
    draw = random.Random(seed)
    dim = draw.randint(6, 40)
    return dim, draw.randint(2, dim - 2)


def test_a_row_counts_whatever_is_in_it(sizes):
    """Zero and repeated rows are not looked for: the number must not depend on rounding."""
    dim, rows = sizes
    g = ps.Generator(NARROW["linear"](dim, rows).eval(), dim)
    with torch.no_grad():
        g.module[0].weight[0] = 0.0
        g.module[0].weight[1:] = g.module[0].weight[1].clone()
    seen = seen_directions(g)
    assert seen.shape == (dim, rows)
    row = g.module[0].weight[1].double().detach()
    torch.testing.assert_close(seen @ (seen.mT @ row), row)


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_narrow_layers(name, dtype, sizes):
    dim, rows = sizes
    g = ps.Generator(NARROW[name](dim, rows).to(dtype).eval(), dim)
    seen = seen_directions(g)
    assert seen.shape == (dim, rows)
    assert seen.dtype == torch.float64
    torch.testing.assert_close(seen.mT @ seen, torch.eye(seen.shape[1]).double())
    truth = oracle.dense_jacobian(g, torch.randn(3, dim).to(dtype))
    missed = truth - truth @ seen @ seen.mT
    assert missed.norm() <= 1e-12 * truth.norm()


def test_labels(sizes):
    """Where they are added the layer is the same for all of them; where they scale the latent it is not."""
    dim, rows = sizes
    label = torch.tensor([0, 2, 1])
    layers = {"rest": behind(nn.Linear(dim, rows), rows), "classes": nn.Embedding(3, dim)}
    added = Of(lambda m, z, y: m["rest"](z + m["classes"](y)), **layers)
    g = ps.Generator(added.eval(), dim, num_classes=3)
    seen = seen_directions(g)
    assert seen.shape == (dim, rows)
    truth = oracle.dense_jacobian(g, torch.randn(3, dim), label)
    assert (truth - truth @ seen @ seen.mT).norm() <= 1e-12 * truth.norm()
    scaled = Of(lambda m, z, y: m["rest"](z * m["classes"](y)), **layers)
    assert seen_directions(ps.Generator(scaled.eval(), dim, num_classes=3)) is None


WIDE = {
    "wide": lambda dim, r: behind(nn.Linear(dim, dim), dim),
    "skip": lambda dim, r: Of(
        lambda m, z: torch.cat([m["rest"](z), z.sin()], 1), rest=behind(nn.Linear(dim, r), r)
    ),
    "linear skip": lambda dim, r: Of(lambda m, z: m["rest"](z) + z[:, :1], rest=behind(nn.Linear(dim, r), r)),
    "narrow behind a curve": lambda dim, r: nn.Sequential(nn.Tanh(), nn.Linear(dim, r), nn.Linear(r, dim)),
    "normalised latent": lambda dim, r: Of(
        lambda m, z: m["rest"](z / z.norm(dim=1, keepdim=True)), rest=behind(nn.Linear(dim, r), r)
    ),
    "heads that see all": lambda dim, r: two_heads(dim, r, dim - r),
    "not captured": lambda dim, r: Branching(nn.Linear(dim, r), nn.Tanh()),
    "not in float64": lambda dim, r: InFloat32(nn.Linear(dim, r), nn.Tanh()),
    "constant": lambda dim, r: Of(lambda m, z: m["rest"](z.detach()), rest=behind(nn.Linear(dim, r), r)),
}


@pytest.mark.parametrize("name", WIDE)
def test_everything_is_seen_or_nothing_known(name, sizes):
    dim, rows = sizes
    assert seen_directions(ps.Generator(WIDE[name](dim, rows).eval(), dim)) is None


def test_found_once_and_again_when_the_weights_change(sizes):
    dim, rows = sizes
    g = ps.Generator(NARROW["linear"](dim, rows).eval(), dim)
    seen = seen_directions(g)
    assert seen_directions(ps.Generator(g.module, dim)) is seen
    with torch.no_grad():
        g.module[0].weight.normal_()
    again = seen_directions(g)
    weight = g.module[0].weight.double().detach()
    torch.testing.assert_close(weight @ again @ again.mT, weight)


def test_a_broken_generator_is_named():
    module = nn.Sequential(nn.Linear(8, 3), nn.BatchNorm1d(3))  # in training mode
    with pytest.raises(ps.GeneratorError, match="eval"):
        seen_directions(ps.Generator(module, 8))
