"""J @ V and J^T @ U of whole generators against float64 torch.func, in every form they are asked for."""

import copy

import polarity_sampling as ps
import pytest
import torch
from torch import Tensor
from torch.func import jvp, vjp

from tests import shared_models
from tests.architectures import ARCHITECTURES, stylegan2
from tests.architectures.kinks import latents_off_kinks

# Rounding through some twenty layers, relative to the product.
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}

# Of the weights in memory; with it: latents, probes, memory budget (one byte: one probe at a time).
SETTINGS = {
    torch.contiguous_format: [(3, 4, "1GiB"), (3, 1, "1GiB"), (3, 4, 1)],
    torch.channels_last: [(3, 4, "1GiB"), (1, 4, "1GiB"), (1, 1, 1)],
}


def load(name: str) -> ps.Generator:
    return ARCHITECTURES[name]() if name in ARCHITECTURES else shared_models.load(name)


def probes(generator: ps.Generator, z: Tensor, label: Tensor | None, count: int, seed: int):
    """V [B, K, L] and U [B, D, L], float64."""
    random = torch.Generator().manual_seed(seed)
    dim_out = generator.flat(z[:1], None if label is None else label[:1]).shape[1]
    return (
        torch.randn(z.shape[0], dim, count, generator=random, dtype=torch.float64)
        for dim in (z.shape[1], dim_out)
    )


def truth(generator: ps.Generator, z: Tensor, label: Tensor | None, V: Tensor, U: Tensor):
    """J @ V [B, D, L] and J^T @ U [B, K, L] in float64, one probe at a time."""
    double, z = generator.in_dtype(torch.float64), z.double()

    def run(x: Tensor) -> Tensor:
        return double.flat(x, label)

    pulled = vjp(run, z)[1]
    pushes = [jvp(run, (z,), (v,))[1] for v in V.unbind(-1)]
    pulls = [pulled(u)[0] for u in U.unbind(-1)]
    return torch.stack(pushes, -1).detach(), torch.stack(pulls, -1).detach()


def relative_error(found: Tensor, expected: Tensor) -> float:
    """Of the worst product: norm of the difference over the norm of the product."""
    assert found.shape == expected.shape
    return ((found.double() - expected).norm(dim=1) / expected.norm(dim=1)).max().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", [*ARCHITECTURES, *shared_models.NAMES])
def test_products(name, dtype, seed):
    generator = load(name)
    z, label = latents_off_kinks(generator, 3, seed)
    V, U = probes(generator, z, label, 4, seed)
    pushed, pulled = truth(generator, z, label, V, U)
    z, V, U, tolerance = z.to(dtype), V.to(dtype), U.to(dtype), TOLERANCE[dtype]
    for layout, settings in SETTINGS.items():
        module = copy.deepcopy(generator.module).to(dtype=dtype, memory_format=layout)
        g = ps.Generator(module, generator.latent_dim, generator.base, generator.num_classes, name)
        for rows, count, memory in settings:
            where = f"{layout}, B = {rows}, L = {count}, memory = {memory}"
            J = ps.jacobian(g, z[:rows], None if label is None else label[:rows], memory=memory)
            v, u = V[:rows, :, :count], U[:rows, :, :count]
            push, pull = J @ v, J.mT @ u
            assert push.dtype == pull.dtype == dtype
            assert relative_error(push, pushed[:rows, :, :count]) < tolerance, where
            assert relative_error(pull, pulled[:rows, :, :count]) < tolerance, where
            assert_adjoint(u, push, pull, v, tolerance)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_float64_primal_pass(name, seed):
    """At any latent, also next to kinks: float64's masks with float32's products."""
    generator = ARCHITECTURES[name]()
    rows = torch.arange(3)
    z = generator.base.draw(seed, rows, generator.latent_dim)
    label = None if generator.num_classes is None else rows % generator.num_classes
    V, U = probes(generator, z, label, 2, seed)
    pushed, pulled = truth(generator, z, label, V, U)
    J = ps.jacobian(generator, z, label, primal="float64")
    push, pull = J @ V.float(), J.mT @ U.float()
    assert push.dtype == pull.dtype == torch.float32
    assert relative_error(push, pushed) < TOLERANCE[torch.float32]
    assert relative_error(pull, pulled) < TOLERANCE[torch.float32]
    exact, shared = J.in_float64(V), J.in_float64(V[0])
    assert exact.dtype == torch.float64
    assert relative_error(exact, pushed) < TOLERANCE[torch.float64]
    assert relative_error(shared[:1], pushed[:1]) < TOLERANCE[torch.float64]
    with pytest.raises(ValueError, match="has primal='working'; expected 'float64'"):
        ps.jacobian(generator, z, label).in_float64(V)


def assert_adjoint(U: Tensor, push: Tensor, pull: Tensor, V: Tensor, tolerance: float) -> None:
    """<U, J V> = <J^T U, V>, to rounding of the terms of both sums."""
    U, push, pull, V = (t.double() for t in (U, push, pull, V))
    left, right = (U * push).sum(1), (pull * V).sum(1)
    size = U.norm(dim=1) * push.norm(dim=1) + pull.norm(dim=1) * V.norm(dim=1)
    assert ((left - right).abs() <= tolerance * size).all()


@pytest.mark.slow
@pytest.mark.parametrize("fused", [True, False], ids=["fused", "scaled"])
@pytest.mark.parametrize("resolution", [64, 256])
def test_stylegan2_at_size(resolution, fused, seed):
    """In float64: among millions of units, some lie within float32 rounding of their kink at any latent."""
    generator = stylegan2.generator(resolution, 512, 16, 128, 8, fused=fused).in_dtype(torch.float64)
    z = generator.base.draw(seed, torch.arange(1), generator.latent_dim).double()
    V, U = probes(generator, z, None, 2, seed)
    pushed, pulled = truth(generator, z, None, V, U)
    J = ps.jacobian(generator, z)
    assert relative_error(J @ V, pushed) < TOLERANCE[torch.float64]
    assert relative_error(J.mT @ U, pulled) < TOLERANCE[torch.float64]
