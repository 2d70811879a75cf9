"""solve_triangular: residuals, derivatives, refusals."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend, Emulated
from tests.ops.cases import OPS, Case
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap

OP = OPS["solve_triangular"]


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    if isinstance(table_backend, Emulated) and case.perf:
        pytest.skip("hundreds of millions of products, one fiber at a time: minutes in the emulator")
    check_values(OP, case, table_backend, seed)


def well_conditioned(x: torch.Tensor) -> torch.Tensor:
    return torch.triu(x) + 3.0 * torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def test_a_row_gives_the_same_bits_wherever_it_stands(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(2, 70, 9, generator=g, dtype=torch.float64).to(backend.device)
    r = well_conditioned(torch.randn(2, 9, 9, generator=g, dtype=torch.float64)).to(backend.device)
    together = polarity_ext.solve_triangular(y, r)
    alone = [polarity_ext.solve_triangular(y[1:, i : i + 1], r[1:]) for i in range(70)]
    assert torch.equal(together[1:], torch.cat(alone, 1))


def test_reads_the_upper_triangle_alone(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    y = torch.randn(2, 11, 9, generator=g).to(backend.device)
    r = well_conditioned(torch.randn(2, 9, 9, generator=g, dtype=torch.float64)).to(backend.device)
    upper = torch.where(torch.ones(9, 9, device=backend.device).triu() > 0, r, torch.nan)
    assert torch.equal(polarity_ext.solve_triangular(y, upper), polarity_ext.solve_triangular(y, r))


def operands(device: str) -> tuple[torch.Tensor, torch.Tensor]:
    y, r = torch.randn(2, 5, 3, dtype=torch.float64), torch.randn(2, 3, 3, dtype=torch.float64)
    return y.to(device), r.to(device)


def test_derivatives(device: str) -> None:
    check_derivatives(lambda y, r: polarity_ext.solve_triangular(y, well_conditioned(r)), *operands(device))


def test_jvp(device: str) -> None:
    check_jvp(lambda y, r: polarity_ext.solve_triangular(y, well_conditioned(r.double())), *operands(device))


def test_vmap(device: str) -> None:
    rows = [operands(device) for _ in range(3)]
    check_vmap(lambda y, r: polarity_ext.solve_triangular(y, well_conditioned(r)), rows)


def test_bad_arguments() -> None:
    solve, r = polarity_ext.solve_triangular, torch.ones(2, 4, 4, dtype=torch.float64)
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\], got \[3, 4\]"):
        solve(torch.ones(3, 4), r)
    with pytest.raises(RuntimeError, match=r"r must be \[B, L, L\] for y \[2, 3, 5\], got \[2, 4, 4\]"):
        solve(torch.ones(2, 3, 5), r)
    with pytest.raises(RuntimeError, match=r"r is Float; it must be float64"):
        solve(torch.ones(2, 3, 4), r.float())
    with pytest.raises(RuntimeError, match="y is Half; it must be float32 or float64"):
        solve(torch.ones(2, 3, 4, dtype=torch.float16), r)
    with pytest.raises(RuntimeError, match=r"L is 385, at most 384 .* use torch\.linalg\.solve_triangular"):
        solve(torch.ones(1, 1, 385), torch.ones(1, 385, 385, dtype=torch.float64))
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\] and r \[B, L, L\]"):
        solve(torch.ones(2, 3, 5, device="meta"), r.to("meta"))
