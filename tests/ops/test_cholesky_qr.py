"""cholesky_qr: orthonormal to rounding at any condition, factors of the matrix, failures that are seen."""

import pytest
import torch

import polarity_ext
from tests.ops.backends import Backend

EPS = 2.0**-52


def planted(conditions: list[float], rows: int, columns: int, seed: int) -> torch.Tensor:
    """[B, rows, columns], geometric singular values in random directions."""
    g = torch.Generator().manual_seed(seed)
    left = torch.linalg.qr(torch.randn(len(conditions), rows, columns, generator=g, dtype=torch.float64))[0]
    right = torch.linalg.qr(torch.randn(columns, columns, generator=g, dtype=torch.float64))[0]
    exponents = torch.linspace(0, -1, columns, dtype=torch.float64)
    return (left * torch.tensor(conditions, dtype=torch.float64)[:, None, None] ** exponents) @ right


def check_factors(y: torch.Tensor, q: torch.Tensor, r: torch.Tensor) -> None:
    y, q, r = y.cpu().double(), q.cpu(), r.cpu()
    identity = torch.eye(r.shape[1], dtype=torch.float64)
    assert float((q.mT @ q - identity).abs().max()) <= 20 * EPS
    assert bool((torch.tril(r, -1) == 0).all())
    assert bool((r.diagonal(dim1=1, dim2=2) > 0).all())
    length = y.norm(dim=1)  # the residual of a column is relative to it
    assert bool(((q @ r - y).norm(dim=1) <= 20 * r.shape[1] ** 0.5 * EPS * length).all())


def test_any_condition(backend: Backend, seed: int) -> None:
    """One batch in which some matrices need the shift and others do not."""
    y = planted([1.0, 1e3, 1e6, 1e8, 1e10, 1e12, 1e14], 300, 20, seed).to(backend.device)
    q, r, info = polarity_ext.cholesky_qr(y)
    assert not bool(info.any())
    check_factors(y, q, r)
    single = y.float()
    q, r, info = polarity_ext.cholesky_qr(single)
    assert not bool(info.any())
    check_factors(single, q, r)


def test_scales_of_columns_do_not_matter(backend: Backend, seed: int) -> None:
    scale = torch.logspace(0, -100, 12, dtype=torch.float64)
    y = (planted([10.0, 1e10], 60, 12, seed) * scale).to(backend.device)
    q, r, info = polarity_ext.cholesky_qr(y)
    assert not bool(info.any())
    check_factors(y, q, r)


def test_dependent_columns_and_what_is_not_finite_are_reported(backend: Backend, seed: int) -> None:
    y = planted([10.0] * 5, 40, 6, seed).to(backend.device)
    fine = polarity_ext.cholesky_qr(y)
    y[1, :, 3] = 0.0
    y[3, 7, 2] = torch.nan
    q, r, info = polarity_ext.cholesky_qr(y)
    assert info.tolist() == [0, 1, 0, 1, 0]
    assert bool(q[[1, 3]].isnan().all())
    assert bool(r[[1, 3]].isnan().all())
    for i in (0, 2, 4):
        assert torch.equal(q[i], fine[0][i])
        assert torch.equal(r[i], fine[1][i])


def test_derivatives(device: str) -> None:
    y = torch.randn(2, 6, 3, dtype=torch.float64, device=device).requires_grad_()
    assert torch.autograd.gradcheck(lambda y: polarity_ext.cholesky_qr(y)[:2], (y,))


def test_derivatives_beside_matrices_that_need_a_shift(device: str, seed: int) -> None:
    y = planted([10.0, 1e9, 1e10], 40, 6, seed).to(device)
    g = torch.Generator().manual_seed(seed)
    v = torch.randn(y.shape, generator=g, dtype=torch.float64).to(device)
    w = torch.randn(3, 6, 6, generator=g, dtype=torch.float64).to(device)

    def gradient(factor) -> torch.Tensor:
        x = y.clone().requires_grad_()
        q, r = factor(x)[:2]
        sign = r.diagonal(dim1=1, dim2=2).sign().detach()  # torch leaves it open
        loss = ((q * sign[:, None]) * v).sum() + ((r * sign[:, :, None]) * w).sum()
        return torch.autograd.grad(loss, x)[0]

    got, expected = gradient(polarity_ext.cholesky_qr), gradient(torch.linalg.qr)
    error = (got - expected).norm(dim=(1, 2)) / expected.norm(dim=(1, 2))
    condition = torch.tensor([10.0, 1e9, 1e10], device=device)
    assert bool((error <= 1e4 * EPS * condition).all())


@pytest.mark.parametrize("shape", [(0, 4, 2), (2, 3, 0)], ids=str)
def test_nothing(shape: tuple[int, ...]) -> None:
    q, r, info = polarity_ext.cholesky_qr(torch.ones(shape))
    assert q.shape == shape
    assert r.shape == (shape[0], shape[2], shape[2])
    assert not bool(info.any())


def test_bad_arguments() -> None:
    with pytest.raises(RuntimeError, match=r"y must be \[B, D, L\] with D >= L, got \[2, 3, 4\]"):
        polarity_ext.cholesky_qr(torch.ones(2, 3, 4))
