"""softmax_tangents: against torch's softmax, derivatives, refusals."""

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["softmax_tangents"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_is_the_tangent_of_softmax(device: str) -> None:
    x = torch.randn(2, 3, 7, dtype=torch.float64, device=device)
    t = torch.randn(5, *x.shape, dtype=torch.float64, device=device)

    def softmax(x: Tensor) -> Tensor:
        return x.softmax(-1)

    expected = torch.stack([torch.func.jvp(softmax, (x,), (v,))[1] for v in t])
    torch.testing.assert_close(polarity_ext.softmax_tangents(t, softmax(x)), expected)


def arguments(device: str) -> tuple[Tensor, Tensor]:
    t = torch.randn(3, 2, 4, dtype=torch.float64, device=device)
    return t, torch.randn(2, 4, dtype=torch.float64, device=device)


def test_derivatives(device: str) -> None:
    t, y = arguments(device)
    check_derivatives(polarity_ext.softmax_tangents, t, y)
    check_jvp(polarity_ext.softmax_tangents, t, y)
    check_jvp(lambda t: polarity_ext.softmax_tangents(t, y.to(t.dtype)), t)
    check_jvp(lambda y: polarity_ext.softmax_tangents(t.to(y.dtype), y), y)


def test_vmap(device: str) -> None:
    check_vmap(polarity_ext.softmax_tangents, [arguments(device) for _ in range(3)])


def test_bad_arguments() -> None:
    t, y = torch.ones(2, 3, 4), torch.ones(3, 4)
    for bad in ((t, torch.ones(4)), (t, torch.ones(3, 5)), (torch.ones(2), torch.ones(()))):
        with pytest.raises(RuntimeError, match=r"t must be \[L, \*, N\] and y \[\*, N\], got"):
            polarity_ext.softmax_tangents(*bad)
        with pytest.raises(RuntimeError, match=r"t must be \[L, \*, N\] and y \[\*, N\], got"):
            polarity_ext.softmax_tangents(*(x.to("meta") for x in bad))
    with pytest.raises(RuntimeError, match="t is Float and y is Double"):
        polarity_ext.softmax_tangents(t, y.double())
