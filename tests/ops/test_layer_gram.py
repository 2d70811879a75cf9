"""layer_gram: values, that it is a Jacobian's Gram matrix, derivatives, refusals."""

import pytest
import torch
from torch import Tensor

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["layer_gram"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_of_a_rectified_network(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    first, last = (torch.randn(size, generator=g, dtype=torch.float64) for size in ((30, 6), (50, 30)))
    z = torch.randn(4, 6, generator=g, dtype=torch.float64)

    def network(z: Tensor) -> Tensor:
        return torch.tanh(last @ torch.relu(first @ z))

    jacobian = torch.func.vmap(torch.func.jacrev(network))(z)
    hidden = z @ first.mT
    x = (first.mT[:, None] * (hidden > 0)).contiguous()
    factor = 1 - torch.tanh(torch.relu(hidden) @ last.mT).square()
    out, size = polarity_ext.layer_gram(*(t.to(backend.device) for t in (x, last, factor)))
    torch.testing.assert_close(out.cpu(), jacobian.mT @ jacobian)
    assert bool((size.cpu() >= jacobian.square().sum((1, 2))).all())


def test_threads_do_not_change_a_bit(seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    x, weight, factor = (torch.randn(s, generator=g) for s in ((33, 7, 50), (70, 50), (7, 70)))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.layer_gram(x, weight, factor))
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(map(torch.equal, results[0], other))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_sample(value: float, backend: Backend) -> None:
    x, weight, factor = torch.ones(40, 3, 20), torch.ones(30, 20), torch.ones(3, 30)
    x[35, 1, 17] = value
    out, size = (
        t.cpu() for t in polarity_ext.layer_gram(*(t.to(backend.device) for t in (x, weight, factor)))
    )
    assert bool((out[[0, 2]] == 30 * 20**2).all())
    assert not bool(out[1, 35].isfinite().any())
    assert not bool(out[1, :, 35].isfinite().any())
    assert size.isfinite().tolist() == [True, False, True]


def arguments(device: str) -> tuple[Tensor, Tensor, Tensor]:
    x, weight, factor = (
        torch.randn(s, dtype=torch.float64, device=device) for s in ((3, 2, 4), (5, 4), (2, 5))
    )
    return x, weight, factor


def test_derivatives(device: str) -> None:
    check_derivatives(polarity_ext.layer_gram, *arguments(device))
    check_jvp(polarity_ext.layer_gram, *arguments(device))


def test_vmap(device: str) -> None:
    rows = [arguments(device) for _ in range(2)]
    x, weight, factor = rows[0]
    check_vmap(lambda x, factor: polarity_ext.layer_gram(x, weight, factor), [(r[0], r[2]) for r in rows])
    check_vmap(lambda weight: polarity_ext.layer_gram(x, weight, factor), [(r[1],) for r in rows])


def test_bad_arguments() -> None:
    x, weight, factor = torch.ones(2, 3, 4), torch.ones(5, 4), torch.ones(3, 5)
    for bad in ((x[0], weight, factor), (x, weight.mT, factor), (x, weight, factor.mT)):
        for device in ("cpu", "meta"):
            with pytest.raises(
                RuntimeError, match=r"x must be \[L, B, in\], weight \[out, in\] and factor \[B, out\], got"
            ):
                polarity_ext.layer_gram(*(t.to(device) for t in bad))
    with pytest.raises(RuntimeError, match="x is Float and factor is Double"):
        polarity_ext.layer_gram(x, weight, factor.double())
