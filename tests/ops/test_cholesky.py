"""cholesky: factors, breakdowns, what a matrix may not depend on, derivatives."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case
from tests.ops.cases.cholesky import positive
from tests.ops.cases.symmetric_eigenvalues import symmetric
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["cholesky"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    check_values(OP, case, table_backend, seed)


def test_a_matrix_gives_the_same_bits_in_any_batch(backend: Backend, seed: int) -> None:
    a = symmetric(27, 21, positive, torch.Generator().manual_seed(seed)).to(backend.device)
    together = polarity_ext.cholesky(a)[0]
    assert torch.equal(together, torch.cat([polarity_ext.cholesky(one[None])[0] for one in a]))


def test_reads_the_lower_triangle_alone(backend: Backend, seed: int) -> None:
    a = symmetric(3, 9, positive, torch.Generator().manual_seed(seed)).to(backend.device)
    lower = torch.where(torch.ones(9, 9, device=backend.device).tril() > 0, a, torch.nan)
    assert torch.equal(polarity_ext.cholesky(lower)[0], polarity_ext.cholesky(a)[0])


def test_the_largest(backend: Backend, seed: int) -> None:
    a = symmetric(2, 512, positive, torch.Generator().manual_seed(seed))
    lower, info = polarity_ext.cholesky(a.to(backend.device))
    assert info.tolist() == [0, 0]
    torch.testing.assert_close(lower.cpu() @ lower.cpu().mT, a, rtol=0, atol=1e-13)


def spd(x: torch.Tensor) -> torch.Tensor:
    return x @ x.mT + torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def test_derivatives(device: str) -> None:
    x = torch.randn(2, 4, 4, dtype=torch.float64, device=device)
    check_derivatives(lambda x: polarity_ext.cholesky(spd(x))[0], x)


def test_jvp(device: str) -> None:
    x = torch.randn(2, 4, 4, dtype=torch.float64, device=device)
    check_jvp(lambda x: polarity_ext.cholesky(spd(x))[0], x)


def test_vmap(device: str) -> None:
    rows = [(torch.randn(2, 4, 4, dtype=torch.float64, device=device),) for _ in range(3)]
    check_vmap(lambda x: polarity_ext.cholesky(spd(x))[0], rows)


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match=r"a must be \[B, n, n\], got \[2, 3, 4\]"):
        polarity_ext.cholesky(torch.ones(2, 3, 4))
    with pytest.raises(RuntimeError, match=r"n is 513, at most 512 .* use torch\.linalg\.cholesky_ex"):
        polarity_ext.cholesky(torch.ones(1, 513, 513))
    with pytest.raises(RuntimeError, match="a is Half; it must be float32 or float64"):
        polarity_ext.cholesky(torch.ones(1, 3, 3, dtype=torch.float16))
    with pytest.raises(RuntimeError, match=r"a must be \[B, n, n\], got \[3, 4\]"):
        polarity_ext.cholesky(torch.ones(3, 4, device="meta"))
