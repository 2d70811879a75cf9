"""Every rule in both directions, against torch.func in float64 on the same module."""

import warnings

import polarity_sampling as ps
import pytest
import torch
from torch import Tensor
from torch.func import vjp, vmap

from tests.jacobian.modules import MODULES


def products(g: ps.Generator, z: Tensor, V: Tensor, U: Tensor) -> tuple[Tensor, Tensor]:
    """J V and J^T U in float64, [B, D, L] and [B, K, L]; reverse mode by torch.func over the whole module."""
    double = g.in_dtype(torch.float64)
    z, V, U = z.double(), V.double(), U.double()

    def flat(z: Tensor) -> Tensor:
        return double.flat(z, None)

    samples, pullback = vjp(flat, z)
    rows = torch.eye(samples.shape[1], dtype=torch.float64)[:, None].expand(-1, *samples.shape)
    dense = vmap(lambda u: pullback(u)[0])(rows).detach().transpose(0, 1)
    return dense @ V, dense.mT @ U


def error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


@pytest.mark.parametrize("name", MODULES)
def test_rule(name, seed):
    torch.manual_seed(seed)
    module = MODULES[name]().eval()
    g = ps.Generator(module, 6)
    for batch, probes, dtype in [(3, 5, torch.float32), (1, 1, torch.float64)]:
        z = torch.randn(batch, 6, dtype=dtype)
        J = ps.jacobian(g.in_dtype(dtype), z)
        V = torch.randn(batch, 6, probes, dtype=dtype)
        U = torch.randn(batch, J.shape[1], probes, dtype=dtype)
        forward, adjoint = products(g, z, V, U)
        # Rounding of a few dozen terms, and of the forward pass that the factors come from.
        tol = 2e-5 if dtype == torch.float32 else 1e-12
        assert J.route == "captured"
        assert error(J @ V, forward) < tol
        assert error(J.mT @ U, adjoint) < tol
        assert error(J @ V[0], products(g, z, V[:1].expand_as(V), U)[0]) < tol
        left, right = (U * (J @ V)).sum(1), (V * (J.mT @ U)).sum(1)
        assert (left - right).abs().max() <= tol * float(U.norm() * forward.norm()) + 1e-30


LEFT_TO_TORCH = {
    "pointwise-log_sigmoid", "shape-index_apart", "shape-index_select", "shape-gather", "shape-sort",
    "shape-topk", "shape-tril", "reduction-variance", "reduction-deviation", "reduction-amax",
    "reduction-prod", "contraction-matrix_vector", "convolution-fold_backwards",
    "convolution-unfold_windows", "normalisation-conditional_weight", "normalisation-local_response",
    "pooling-antialiased", "pooling-grid_sample",
}  # fmt: skip


@pytest.mark.parametrize("name", MODULES)
def test_rules_are_used_and_say_nothing(name, seed, capfd):
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="There is a performance drop")
        J = ps.jacobian(ps.Generator(MODULES[name]().eval(), 6), torch.randn(2, 6))
        J @ torch.randn(6, 2)
        J.mT @ torch.randn(J.shape[1], 2)
    assert "performance drop" not in capfd.readouterr().err  # where torch's threads say it
    assert bool(J.explain().fallbacks) == (name in LEFT_TO_TORCH)
