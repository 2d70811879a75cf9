"""jacobi_singular_values: values accurate to their own size, failures, what a matrix may not depend on."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import polarity_ext
from tests.ops.backends import Backend, Emulated
from tests.ops.cases import OPS, Case
from tests.ops.cases.jacobi_singular_values import (
    Columns,
    graded,
    level,
    rank_deficient,
    steep,
    triangular,
    zero_columns,
)
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap
from tests.ops.references import singular_values_mp

OP = OPS["jacobi_singular_values"]
EPS = 2.0**-52


def matrices(batch: int, m: int, n: int, columns: Columns, seed: int) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return columns(torch.randn(batch, m, n, generator=g, dtype=torch.float64), g)


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    if isinstance(table_backend, Emulated) and case.perf:
        pytest.skip("half a million rotations by 32 lanes each: minutes in the emulator")
    check_values(OP, case, table_backend, seed)


@pytest.mark.parametrize("columns", [graded, triangular])
def test_every_value_to_its_own_rounding(columns: Columns, backend: Backend, seed: int) -> None:
    """Condition 1e12 and more, against fifty digits; LAPACK's svdvals loses the small values of most."""
    a = matrices(24, 14, 12, columns, seed)
    got, info = polarity_ext.jacobi_singular_values(a.to(backend.device))
    exact = torch.stack(singular_values_mp(a))
    condition = torch.linalg.cond(a / a.norm(dim=1, keepdim=True))
    assert bool((exact[:, 0] / exact[:, -1] > 1e11).all())
    assert not bool(info.any())

    def worst(values: torch.Tensor) -> torch.Tensor:
        return ((values.cpu() - exact).abs() / exact).amax(1)

    assert bool((worst(got) <= 10 * EPS * condition).all())
    assert float(worst(torch.linalg.svdvals(a)).max()) > 1000 * float(worst(got).max())


def test_a_hundred_orders_of_magnitude(backend: Backend, seed: int) -> None:
    a = matrices(2, 8, 8, steep, seed)
    got, _ = polarity_ext.jacobi_singular_values(a.to(backend.device))
    condition = float(torch.linalg.cond(a / a.norm(dim=1, keepdim=True)).max())
    with_digits = torch.stack(singular_values_mp(a * 1e10, digits=300)) * 1e-10
    torch.testing.assert_close(got.cpu(), with_digits, rtol=20 * EPS * condition, atol=0)


@given(
    n=st.integers(1, 30),
    more=st.integers(0, 10),
    batch=st.integers(1, 20),
    seed=st.integers(0, 2**32),
)
def test_norm_and_volume_are_kept(n: int, more: int, batch: int, seed: int) -> None:
    a = matrices(batch, n + more, n, level, seed)
    values, info = polarity_ext.jacobi_singular_values(a)
    assert not bool(info.any())
    norm = a.square().sum((1, 2)).sqrt()
    assert bool(((values.square().sum(1).sqrt() - norm).abs() <= 10 * EPS * n * norm).all())
    volume = torch.linalg.qr(a)[1].diagonal(dim1=1, dim2=2).abs().log().sum(1)
    allowed = 10 * EPS * n * n * torch.linalg.cond(a)
    assert bool(((values.log().sum(1) - volume).abs() <= allowed).all())


def test_a_matrix_gives_the_same_bits_in_any_batch(backend: Backend, seed: int) -> None:
    kinds = (level, graded, triangular, rank_deficient, zero_columns)
    a = torch.cat([matrices(5, 15, 15, columns, seed) for columns in kinds])
    a = a[torch.randperm(25, generator=torch.Generator().manual_seed(seed))].to(backend.device)
    together = polarity_ext.jacobi_singular_values(a)[0]
    alone = torch.cat([polarity_ext.jacobi_singular_values(one[None])[0] for one in a])
    assert torch.equal(together, alone)


def test_orthogonal_columns_beside_others_alone_and_in_a_batch(backend: Backend, seed: int) -> None:
    """Zeros and ones: many pairs need no rotation, and a sweep must not pass over those that do."""
    a = torch.rand(60, 9, 9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    a = (a < 0.25).double()
    a[0] = torch.eye(9, dtype=torch.float64)
    a[1, :3, :3] = torch.tensor([[0.0, 1, 1], [0, 0, 1], [1, 0, 0]])
    a[1, 3:, :3] = a[1, :3, 3:] = 0.0
    exact = torch.linalg.svdvals(a)
    a = a.to(backend.device)
    alone = torch.cat([polarity_ext.jacobi_singular_values(one[None])[0] for one in a])
    together, info = polarity_ext.jacobi_singular_values(a)
    assert not bool(info.any())
    assert torch.equal(alone, together)
    torch.testing.assert_close(alone.cpu(), exact, rtol=0, atol=1e-13)


def test_threads_do_not_change_a_bit(seed: int) -> None:
    a = matrices(90, 10, 10, graded, seed)
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.jacobi_singular_values(a)[0])
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_too_few_sweeps_are_reported(backend: Backend, seed: int) -> None:
    """One matrix that needs no rotation, and others that need more than two sweeps."""
    a = matrices(5, 20, 20, level, seed).to(backend.device)
    a[3] = torch.eye(20)
    values, info = polarity_ext.jacobi_singular_values(a, max_sweeps=2)
    rotating = torch.tensor([True, True, True, False, True], device=backend.device)
    assert torch.equal(info > 0, rotating)
    assert torch.equal(values.isnan().all(1), rotating)
    assert bool((info <= 20 * 19 // 2).all())
    assert bool((values[3] == 1).all())
    assert not bool(polarity_ext.jacobi_singular_values(a)[1].any())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_its_matrix(
    value: float, dtype: torch.dtype, backend: Backend, seed: int
) -> None:
    a = matrices(10, 7, 6, level, seed).to(backend.device, dtype)
    fine = polarity_ext.jacobi_singular_values(a)[0]
    a[4, 6, 5] = a[7, 0, 0] = value
    touched, info = polarity_ext.jacobi_singular_values(a)
    ill = torch.tensor([4, 7], device=backend.device)
    assert info.tolist() == [0, 0, 0, 0, -1, 0, 0, -1, 0, 0]
    assert bool(touched[ill].isnan().all())
    fine[ill] = touched[ill] = 0
    assert torch.equal(touched, fine)


def test_derivatives(device: str) -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, device=device)
    check_derivatives(lambda x: polarity_ext.jacobi_singular_values(x)[0], x)


def test_jvp(device: str) -> None:
    x = torch.randn(2, 5, 3, dtype=torch.float64, device=device)
    check_jvp(lambda x: polarity_ext.jacobi_singular_values(x)[0], x)


def test_vmap(device: str) -> None:
    rows = [(torch.randn(2, 5, 3, dtype=torch.float64, device=device),) for _ in range(3)]
    check_vmap(lambda x: polarity_ext.jacobi_singular_values(x)[0], rows)


def test_bad_arguments() -> None:
    solve = polarity_ext.jacobi_singular_values
    with pytest.raises(RuntimeError, match=r"m >= n, got \[2, 3, 4\]; where m < n pass a\.mT"):
        solve(torch.ones(2, 3, 4))
    with pytest.raises(RuntimeError, match=r"a must be \[B, m, n\] with m >= n, got \[3, 3\]"):
        solve(torch.ones(3, 3))
    with pytest.raises(RuntimeError, match=r"n is 129, at most 128 is possible; use torch\.linalg\.svdvals"):
        solve(torch.ones(1, 129, 129))
    with pytest.raises(RuntimeError, match="max_sweeps must be >= 1, got 0"):
        solve(torch.ones(1, 3, 3), 0)
    with pytest.raises(RuntimeError, match="a is Half; it must be float32 or float64"):
        solve(torch.ones(1, 3, 3, dtype=torch.float16))
    with pytest.raises(RuntimeError, match=r"a must be \[B, m, n\] with m >= n, got \[1, 3, 4\]"):
        solve(torch.ones(1, 3, 4, device="meta"))
