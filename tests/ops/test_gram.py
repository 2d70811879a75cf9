"""gram: values at float64 rounding level, determinism, derivatives."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend, Emulated
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["gram"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    if isinstance(table_backend, Emulated) and case.bytes > 3_000_000:
        pytest.skip("the emulator takes microseconds for each product of a tensor core, minutes for this row")
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("shape", [(4, 3000, 33), (1, 20_000, 10), (1, 9000, 130), (37, 64, 40)], ids=str)
def test_threads_do_not_change_a_bit(shape: tuple[int, ...], seed: int) -> None:
    y = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.gram(y))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_small_singular_values_survive(backend: Backend, seed: int) -> None:
    # Condition 1e6: in float32 products the last eigenvalue would be noise of 1e-7.
    g = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(400, 20, generator=g, dtype=torch.float64))
    sigma = torch.logspace(0, -6, 20, dtype=torch.float64)
    y = (q * sigma).float()
    exact = torch.linalg.svdvals(y.double())
    eigenvalues = torch.linalg.eigvalsh(polarity_ext.gram(y[None].to(backend.device))[0].cpu()).flip(0)
    torch.testing.assert_close(eigenvalues.sqrt(), exact, rtol=1e-3, atol=0)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_in_its_row_and_column(value: float, backend: Backend) -> None:
    y = torch.ones(2, 50, 40)
    y[1, 17, 33] = value
    gram = polarity_ext.gram(y.to(backend.device)).cpu()
    touched = torch.zeros(2, 40, 40, dtype=torch.bool)
    touched[1, 33, :] = touched[1, :, 33] = True
    assert bool((gram[~touched] == 50).all())
    expected = torch.full_like(gram[touched], value)
    assert torch.equal(gram[touched].isnan(), expected.isnan())
    assert torch.equal(gram[touched].isinf(), expected.isinf())


def test_large_and_small_numbers_do_not_overflow(backend: Backend) -> None:
    # Squares of float32 numbers leave float32's range, never float64's.
    y = torch.tensor([[[1e30, 1e-30]]], device=backend.device)
    expected = y.double().mT @ y.double()
    torch.testing.assert_close(polarity_ext.gram(y), expected, rtol=1e-15, atol=0)


def test_derivatives(device: str) -> None:
    check_derivatives(polarity_ext.gram, torch.randn(2, 4, 3, dtype=torch.float64, device=device))


def test_jvp(device: str) -> None:
    check_jvp(polarity_ext.gram, torch.randn(2, 5, 3, dtype=torch.float64, device=device))


def test_vmap(device: str) -> None:
    rows = [(torch.randn(2, 4, 3, dtype=torch.float64, device=device),) for _ in range(3)]
    check_vmap(polarity_ext.gram, rows)


def test_gradient_keeps_the_precision_of_the_input() -> None:
    y = torch.randn(1, 6, 3, requires_grad=True)
    polarity_ext.gram(y).sum().backward()
    assert y.grad is not None
    assert y.grad.dtype == torch.float32


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\], got \[3, 4\]"):
        polarity_ext.gram(torch.ones(3, 4))
    with pytest.raises(RuntimeError, match="y is Half; it must be float32 or float64"):
        polarity_ext.gram(torch.ones(1, 3, 4, dtype=torch.float16))
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\], got \[3, 4\]"):
        polarity_ext.gram(torch.ones(3, 4, device="meta"))
