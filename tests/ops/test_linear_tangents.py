"""linear_tangents: values in every precision, derivatives, refusals."""

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["linear_tangents"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_is_the_tangent_of_a_layer(device: str) -> None:
    x, t = (torch.randn(shape, dtype=torch.float64, device=device) for shape in ((3, 5), (6, 3, 5)))
    weight, bias = (torch.randn(shape, dtype=torch.float64, device=device) for shape in ((4, 5), (4,)))

    def layer(x: Tensor) -> Tensor:
        return torch.nn.functional.silu(x @ weight.mT + bias)

    expected = torch.stack([torch.func.jvp(layer, (x,), (v,))[1] for v in t])
    slope = polarity_ext.activation(x @ weight.mT + bias, "silu")[1]
    torch.testing.assert_close(polarity_ext.linear_tangents(t, weight, slope), expected)


def arguments(device: str) -> tuple[Tensor, Tensor, Tensor]:
    t, weight, d = (torch.randn(s, dtype=torch.float64, device=device) for s in ((3, 2, 4), (5, 4), (2, 5)))
    return t, weight, d


def test_derivatives(device: str) -> None:
    check_derivatives(polarity_ext.linear_tangents, *arguments(device))
    check_jvp(polarity_ext.linear_tangents, *arguments(device))
    t, weight, d = arguments(device)
    check_jvp(lambda d: polarity_ext.linear_tangents(t.to(d.dtype), weight.to(d.dtype), d), d)


def test_vmap(device: str) -> None:
    rows = [arguments(device) for _ in range(2)]
    t, weight, d = rows[0]
    check_vmap(lambda t, d: polarity_ext.linear_tangents(t, weight, d), [(r[0], r[2]) for r in rows])
    check_vmap(lambda weight: polarity_ext.linear_tangents(t, weight, d), [(r[1],) for r in rows])


def test_bad_arguments() -> None:
    t, weight, d = torch.ones(2, 3, 4), torch.ones(5, 4), torch.ones(3, 5)
    for bad in ((t[0], weight, d), (t, weight.mT, d), (t, weight, d.mT)):
        with pytest.raises(
            RuntimeError, match=r"t must be \[L, B, in\], weight \[out, in\] and d \[B, out\], got"
        ):
            polarity_ext.linear_tangents(*bad)
        with pytest.raises(
            RuntimeError, match=r"t must be \[L, B, in\], weight \[out, in\] and d \[B, out\], got"
        ):
            polarity_ext.linear_tangents(*(x.to("meta") for x in bad))
    with pytest.raises(ValueError, match="precision is 'bf16'; expected one of full, tf32x3, tf32"):
        polarity_ext.linear_tangents(t, weight, d, "bf16")
    with pytest.raises(RuntimeError, match="t is Float and d is Double"):
        polarity_ext.linear_tangents(t, weight, d.double())
