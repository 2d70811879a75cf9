"""symmetric_eigenvalues: values on planted spectra, what a matrix may not depend on, derivatives."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import polarity_ext
from tests.ops.backends import Backend, Emulated
from tests.ops.cases import OPS, Case
from tests.ops.cases.symmetric_eigenvalues import clustered, graded, indefinite, rank_deficient, symmetric
from tests.ops.checks import check_derivatives, check_jvp, check_values, check_vmap
from tests.ops.references import symmetric_eigenvalues_mp

OP = OPS["symmetric_eigenvalues"]
EPS = 2.0**-52


@pytest.mark.parametrize("case", OP.cases, ids=str)
def test_values(case: Case, table_backend: Backend, seed: int) -> None:
    if case.cuda_only and not table_backend.cuda_kernels:
        pytest.skip("larger than the CPU kernel takes")
    if case.cuda_only and case.perf and isinstance(table_backend, Emulated):
        pytest.skip("billions of operations: hours in the emulator")
    check_values(OP, case, table_backend, seed)


def test_large_matrices_by_themselves(table_backend: Backend, seed: int) -> None:
    """Bits that depend on nothing but the lower triangle of the matrix; what is not finite stays in it."""
    if not table_backend.cuda_kernels:
        pytest.skip("larger than the CPU kernel takes")

    def solve(a: torch.Tensor, top_k: int = 131) -> torch.Tensor:
        values: torch.Tensor = table_backend.ops.symmetric_eigenvalues(a, top_k)
        return values

    a = table_backend.place(symmetric(3, 131, indefinite, torch.Generator().manual_seed(seed)))
    together = solve(a)
    assert torch.equal(together[1], solve(a[1:2])[0])
    assert torch.equal(together[:, :70], solve(a, 70))
    a[0] = torch.where(torch.ones_like(a[0]).tril() > 0, a[0], torch.nan)
    a[1, 100, 7] = torch.inf
    a[2, 130, 130] = torch.nan
    alone = solve(a)
    assert torch.equal(alone[0], together[0])
    assert bool(alone[1:].isnan().all())
    with pytest.raises(RuntimeError, match="n is 1025, at most 1024 is possible"):
        solve(a[:1, :1, :1].expand(1, 1025, 1025))


@pytest.mark.parametrize("spectrum", [indefinite, graded, clustered, rank_deficient])
def test_against_fifty_digits(spectrum: type[graded], backend: Backend, seed: int) -> None:
    a = symmetric(2, 12, spectrum, torch.Generator().manual_seed(seed))
    got = polarity_ext.symmetric_eigenvalues(a.to(backend.device)).cpu()
    for values, exact in zip(got, symmetric_eigenvalues_mp(a), strict=True):
        torch.testing.assert_close(values, exact, rtol=0, atol=10 * EPS * float(exact.abs().max()))


@given(n=st.integers(1, 40), batch=st.integers(1, 20), seed=st.integers(0, 2**32))
def test_trace_and_norm_are_kept(n: int, batch: int, seed: int) -> None:
    a = symmetric(batch, n, indefinite, torch.Generator().manual_seed(seed))
    values = polarity_ext.symmetric_eigenvalues(a)
    norm = a.square().sum((1, 2)).sqrt()
    unit = 10 * EPS * n * norm
    assert bool(((values.sum(1) - a.diagonal(dim1=1, dim2=2).sum(1)).abs() <= unit).all())
    assert bool(((values.square().sum(1).sqrt() - norm).abs() <= unit).all())


def test_a_matrix_gives_the_same_bits_in_any_batch(backend: Backend, seed: int) -> None:
    g = torch.Generator().manual_seed(seed)
    a = torch.cat([symmetric(9, 21, spectrum, g) for spectrum in (indefinite, graded, clustered)])
    a = a[torch.randperm(27, generator=g)].to(backend.device)
    together = polarity_ext.symmetric_eigenvalues(a)
    alone = torch.cat([polarity_ext.symmetric_eigenvalues(one[None]) for one in a])
    assert torch.equal(together, alone)


def test_threads_do_not_change_a_bit(seed: int) -> None:
    a = symmetric(150, 10, indefinite, torch.Generator().manual_seed(seed))
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            results.append(polarity_ext.symmetric_eigenvalues(a))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


def test_top_k_are_the_first_of_all(backend: Backend, seed: int) -> None:
    a = symmetric(5, 50, graded, torch.Generator().manual_seed(seed)).to(backend.device)
    top = polarity_ext.symmetric_eigenvalues(a, 7)
    assert torch.equal(top, polarity_ext.symmetric_eigenvalues(a)[:, :7])


def test_reads_the_lower_triangle_alone(backend: Backend, seed: int) -> None:
    a = symmetric(3, 9, indefinite, torch.Generator().manual_seed(seed)).to(backend.device)
    lower = torch.where(torch.ones(9, 9, device=backend.device).tril() > 0, a, torch.nan)
    assert torch.equal(polarity_ext.symmetric_eigenvalues(lower), polarity_ext.symmetric_eigenvalues(a))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_not_finite_stays_in_its_matrix(
    value: float, dtype: torch.dtype, backend: Backend, seed: int
) -> None:
    a = symmetric(10, 6, indefinite, torch.Generator().manual_seed(seed)).to(backend.device, dtype)
    fine = polarity_ext.symmetric_eigenvalues(a)
    a[4, 3, 3] = a[7, 5, 0] = value
    touched = polarity_ext.symmetric_eigenvalues(a)
    ill = torch.tensor([4, 7], device=backend.device)
    assert bool(touched[ill].isnan().all())
    fine[ill] = touched[ill] = 0
    assert torch.equal(touched, fine)


def test_derivatives(device: str) -> None:
    x = torch.randn(2, 4, 4, dtype=torch.float64, device=device)
    check_derivatives(lambda x: polarity_ext.symmetric_eigenvalues(x + x.mT, 3), x)


def test_jvp(device: str) -> None:
    x = torch.randn(2, 4, 4, dtype=torch.float64, device=device)
    check_jvp(lambda x: polarity_ext.symmetric_eigenvalues(x + x.mT), x)


def test_vmap(device: str) -> None:
    rows = [(torch.randn(2, 4, 4, dtype=torch.float64, device=device),) for _ in range(3)]
    check_vmap(lambda x: polarity_ext.symmetric_eigenvalues(x + x.mT), rows)


def test_bad_arguments() -> None:
    solve = polarity_ext.symmetric_eigenvalues
    with pytest.raises(RuntimeError, match=r"a must be \[B, n, n\], got \[2, 3, 4\]"):
        solve(torch.ones(2, 3, 4))
    with pytest.raises(RuntimeError, match=r"a must be \[B, n, n\], got \[3, 3\]"):
        solve(torch.ones(3, 3))
    with pytest.raises(RuntimeError, match=r"n is 129, at most 128 is possible; use torch\.linalg\.eigvalsh"):
        solve(torch.ones(1, 129, 129))
    with pytest.raises(RuntimeError, match=r"top_k must be in 0\.\.n = 3, got 4"):
        solve(torch.ones(1, 3, 3), 4)
    with pytest.raises(RuntimeError, match="top_k must be in"):
        solve(torch.ones(1, 3, 3), -1)
    with pytest.raises(RuntimeError, match="a is Half; it must be float32 or float64"):
        solve(torch.ones(1, 3, 3, dtype=torch.float16))
    with pytest.raises(RuntimeError, match=r"a must be \[B, n, n\], got \[3, 4\]"):
        solve(torch.ones(3, 4, device="meta"))
