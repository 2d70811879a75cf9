"""Every small dense factorisation of the package, batched, in float64; the place for compiled kernels."""

import torch
from torch import Tensor

import polarity_ext

_SMALL = 128  # as far as the compiled eigensolver goes


def eigenvalues(matrices: Tensor) -> Tensor:
    """Eigenvalues [B, n] of symmetric matrices [B, n, n], descending."""
    if matrices.shape[-1] <= _SMALL:
        return polarity_ext.symmetric_eigenvalues(matrices)
    values: Tensor = torch.linalg.eigvalsh(matrices)
    return values.flip(-1)


def eigenvectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [B, n], descending, and eigenvectors in the columns of [B, n, n]."""
    values, vectors = torch.linalg.eigh(matrices)
    return values.flip(-1), vectors.flip(-1)


def singular_values(matrices: Tensor) -> Tensor:
    """Singular values [B, n] of [B, m, n], descending; zeros beyond m."""
    values: Tensor = torch.linalg.svdvals(matrices)
    missing = matrices.shape[-1] - values.shape[-1]
    return torch.nn.functional.pad(values, (0, max(0, missing)))


def triangular_factor(matrices: Tensor) -> Tensor:
    """R [B, min(m, n), n] of the QR factorisation of [B, m, n]."""
    factor: Tensor = torch.linalg.qr(matrices, mode="r")[1]
    return factor


def orthonormal_columns(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Q [B, m, n] with orthonormal columns and R [B, n, n] with Q R = the matrices, m >= n."""
    q, r = torch.linalg.qr(matrices)
    return q, r


def cholesky(matrices: Tensor) -> Tensor:
    """Lower-triangular L [B, n, n] with L L^T = the matrices, which are positive definite."""
    factor: Tensor = torch.linalg.cholesky(matrices)
    return factor


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """L^-1 right."""
    solution: Tensor = torch.linalg.solve_triangular(lower, right, upper=False)
    return solution
