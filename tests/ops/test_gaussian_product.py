"""gaussian_product: values, the bits of its test matrix, derivatives."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend, Emulated
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["gaussian_product"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    if isinstance(table_backend, Emulated) and case.flops > 10_000_000:
        pytest.skip("minutes in the emulator")
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("start", [0, 1, 2**40 + 3])
def test_the_matrix_is_that_of_gaussian_bit_for_bit(start: int, backend: Backend, seed: int) -> None:
    """Times the identity."""
    eye = torch.eye(70, device=backend.device)[None]
    got = polarity_ext.gaussian_product(eye, 45, seed, start)[0]
    assert torch.equal(got, polarity_ext.gaussian(seed, start, (45, 70), device=backend.device).double())


def test_threads_and_batches_do_not_change_a_bit(seed: int) -> None:
    y = torch.randn(150, 300, 9, generator=torch.Generator().manual_seed(seed))
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = polarity_ext.gaussian_product(y, 70, seed)
        torch.set_num_threads(5)
        five = polarity_ext.gaussian_product(y, 70, seed)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(one, five)
    assert torch.equal(one[77:78], polarity_ext.gaussian_product(y[77:78], 70, seed))


def test_derivatives(device: str) -> None:
    y = torch.randn(2, 4, 3, dtype=torch.float64, device=device)
    check_derivatives(lambda y: polarity_ext.gaussian_product(y, 35, 7, 1), y)


def test_jvp(device: str) -> None:
    y = torch.randn(2, 4, 3, dtype=torch.float64, device=device)
    check_jvp(lambda y: polarity_ext.gaussian_product(y, 5, 7), y)


def test_vmap(device: str) -> None:
    rows = [(torch.randn(2, 4, 3, dtype=torch.float64, device=device),) for _ in range(3)]
    check_vmap(lambda y: polarity_ext.gaussian_product(y, 5, 7), rows)


def test_gradient_keeps_the_precision_of_the_input() -> None:
    y = torch.randn(1, 6, 3, requires_grad=True)
    polarity_ext.gaussian_product(y, 4, 0).sum().backward()
    assert y.grad is not None
    assert y.grad.dtype == torch.float32


def test_bad_arguments() -> None:
    y = torch.ones(1, 3, 2)
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\], got \[3, 2\]"):
        polarity_ext.gaussian_product(y[0], 4, 0)
    with pytest.raises(RuntimeError, match="y is Half; it must be float32 or float64"):
        polarity_ext.gaussian_product(y.half(), 4, 0)
    for rows, seed, offset, name in ((-1, 0, 0, "rows"), (1, -1, 0, "seed"), (1, 0, -1, "offset")):
        with pytest.raises(RuntimeError, match=f"{name} must be >= 0, got -1"):
            polarity_ext.gaussian_product(y, rows, seed, offset)
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\], got \[3, 2\]"):
        polarity_ext.gaussian_product(y[0].to("meta"), 4, 0)
