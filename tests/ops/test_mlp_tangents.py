"""mlp_tangents and mlp_cotangents: the Jacobian of a real perceptron, adjointness, derivatives, refusals."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import gradcheck, gradgradcheck

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_jvp, check_values, check_vmap

OP = OPS["mlp_tangents"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def perceptron(device: str, batch: int = 3) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Weights and factors of a ReLU network with tanh outputs at some samples, and its Jacobians."""
    sizes = (4, 9, 8, 5)
    linear = [nn.Linear(m, n, dtype=torch.float64, device=device) for m, n in pairwise(sizes)]
    network = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.ReLU(), linear[2], nn.Tanh()).requires_grad_(
        False
    )
    z = torch.randn(batch, 4, dtype=torch.float64, device=device)
    factors, x = [], z
    for layer, kind in zip(linear, ("relu", "relu", "tanh"), strict=True):
        x, slope = polarity_ext.activation(layer(x), kind)
        factors.append(slope)
    return [layer.weight for layer in linear], factors, torch.func.vmap(torch.func.jacfwd(network))(z)


def test_is_the_jacobian_of_a_network(device: str) -> None:
    weights, factors, jacobian = perceptron(device)
    v = torch.randn(6, 4, dtype=torch.float64, device=device)
    torch.testing.assert_close(
        polarity_ext.mlp_tangents(v, weights, factors), torch.einsum("bdk,lk->lbd", jacobian, v)
    )
    u = torch.randn(6, 3, 5, dtype=torch.float64, device=device)
    torch.testing.assert_close(
        polarity_ext.mlp_cotangents(u, weights, factors), torch.einsum("bdk,lbd->lbk", jacobian, u)
    )


@pytest.mark.parametrize("is_shared", [True, False])
def test_derivatives(is_shared: bool, device: str) -> None:
    weights, factors, _ = perceptron(device)
    shape = (2,) if is_shared else (2, 3)
    for function, size in ((polarity_ext.mlp_tangents, 4), (polarity_ext.mlp_cotangents, 5)):

        def of_v(v: Tensor, function: type[polarity_ext.mlp_tangents] = function) -> Tensor:
            return function(v, [w.to(v.dtype) for w in weights], [d.to(v.dtype) for d in factors])

        v = torch.randn(*shape, size, dtype=torch.float64, device=device)
        tracked = v.clone().requires_grad_()
        assert gradcheck(of_v, tracked, check_forward_ad=True)
        assert gradgradcheck(of_v, tracked, check_fwd_over_rev=True, check_rev_over_rev=True)
        check_jvp(of_v, v)
        check_vmap(of_v, [(torch.randn_like(v),) for _ in range(3)])


def test_refuses_derivatives_it_does_not_have(device: str) -> None:
    weights, factors, _ = perceptron(device)
    v = torch.randn(6, 4, dtype=torch.float64, device=device)
    tracked = [weights[0].clone().requires_grad_(), *weights[1:]]
    with pytest.raises(
        RuntimeError, match=r"mlp_tangents: a weight or factor is being differentiated.*detach"
    ):
        polarity_ext.mlp_tangents(v, tracked, factors)
    with torch.no_grad():
        assert torch.equal(
            polarity_ext.mlp_tangents(v, tracked, factors), polarity_ext.mlp_tangents(v, weights, factors)
        )

    def of_factor(d: Tensor) -> Tensor:
        return polarity_ext.mlp_cotangents(v[:, :1].expand(6, 5), weights, [*factors[:2], d])

    with pytest.raises(RuntimeError, match="mlp_cotangents: a weight or factor is being differentiated"):
        torch.func.jvp(of_factor, (factors[2],), (factors[2],))
    with pytest.raises(RuntimeError, match="cannot be batched by vmap"):
        torch.func.vmap(of_factor)(factors[2].expand(2, -1, -1))

    def through(d: Tensor) -> Tensor:  # inside another transform the factor looks like a constant
        return torch.func.grad(
            lambda v: polarity_ext.mlp_tangents(v, weights, [*factors[:2], d]).square().sum()
        )(v).sum()

    with pytest.raises(RuntimeError, match="mlp_tangents: a weight or factor is being differentiated"):
        torch.func.grad(through)(factors[2])


def test_bad_arguments() -> None:
    v = torch.ones(2, 4)
    weights, factors = [torch.ones(5, 4), torch.ones(3, 5)], [torch.ones(7, 5), torch.ones(7, 3)]
    push, pull = polarity_ext.mlp_tangents, polarity_ext.mlp_cotangents
    with pytest.raises(RuntimeError, match=r"mlp_tangents: v must be \[L, 4\] or \[L, 7, 4\], got \[2, 5\]"):
        push(torch.ones(2, 5), weights, factors)
    with pytest.raises(RuntimeError, match=r"v must be \[L, 4\] or \[L, 7, 4\], got \[2, 3, 4\]"):
        push(torch.ones(2, 3, 4), weights, factors)
    with pytest.raises(
        RuntimeError, match=r"mlp_cotangents: u must be \[L, 3\] or \[L, 7, 3\], got \[2, 4\]"
    ):
        pull(v, weights, factors)
    with pytest.raises(RuntimeError, match=r"u must be \[L, 3\] or \[L, 7, 3\], got \[2, 4\]"):
        pull(v.to("meta"), [w.to("meta") for w in weights], [d.to("meta") for d in factors])
    with pytest.raises(RuntimeError, match="there are 2 weights and 1 factors"):
        push(v, weights, factors[:1])
    with pytest.raises(RuntimeError, match=r"weights\[1\] must be \[out, in\].*got \[3, 6\]"):
        push(v, [weights[0], torch.ones(3, 6)], factors)
    with pytest.raises(RuntimeError, match=r"factors\[1\] must be \[B, out\].*got \[6, 3\]"):
        push(v, weights, [factors[0], torch.ones(6, 3)])
    with pytest.raises(RuntimeError, match="there are 9 weights; it takes 1 to 8"):
        push(v, [torch.ones(4, 4)] * 9, [torch.ones(7, 4)] * 9)
    with pytest.raises(RuntimeError, match=r"v is Float and factors\[0\] is Double"):
        push(v, weights, [factors[0].double(), factors[1]])
