"""Every small dense factorisation of the package, batched, in float64; the place for compiled kernels."""

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume.singular_values import EPS64

_SMALL = 128  # columns, as far as the compiled Jacobi rotations go
_LARGEST = {"cpu": 128, "cuda": 1024}  # as far as the compiled eigensolver goes
_CHOLESKY = 512  # rows, as far as the compiled Cholesky factorisation goes


def eigenvalues(matrices: Tensor) -> Tensor:
    """Eigenvalues [B, n] of symmetric matrices [B, n, n], descending."""
    if matrices.shape[-1] <= _LARGEST.get(matrices.device.type, 0):
        return polarity_ext.symmetric_eigenvalues(matrices)
    values: Tensor = torch.linalg.eigvalsh(matrices)
    return values.flip(-1)


def eigenvectors(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues [B, n], descending, and eigenvectors in the columns of [B, n, n]."""
    values, vectors = torch.linalg.eigh(matrices)
    return values.flip(-1), vectors.flip(-1)


def singular_values(matrices: Tensor) -> Tensor:
    """Singular values [B, n] of [B, m, n], descending; zeros beyond m. NaN where a matrix is not finite."""
    rows, columns = matrices.shape[-2:]
    if min(rows, columns) <= _SMALL:
        values = polarity_ext.jacobi_singular_values(matrices if rows >= columns else matrices.mT)[0]
    else:
        values = torch.linalg.svdvals(matrices)
    return torch.nn.functional.pad(values, (0, max(0, columns - rows)))


def rounding_of_singular_values(factor: Tensor, values: Tensor) -> Tensor:
    """[B, k]: bound on the error of `values`, the first singular values of a factor [B, m, n].

    For a factor whose columns are each off by rounding of their own size, as those of a QR factorisation
    are. With u = (16 + n) 2^-53 no value is off by more than u times the largest. Nor, where they come from
    Jacobi rotations, by more than u / sigma_min(B) times itself, B being the factor with columns of length
    one (J. Demmel, K. Veselic, Jacobi's method is more accurate than QR, SIAM J. Matrix Anal. Appl. 13,
    1992): that is less wherever small values are due to small columns.
    """
    rows, columns = factor.shape[-2:]
    unit = (16.0 + columns) * EPS64
    absolute = unit * values[:, :1]
    if not columns <= min(rows, _SMALL):
        return absolute.expand_as(values)
    length = factor.norm(dim=1, keepdim=True)
    scaled = factor / torch.where(length > 0, length, 1.0)
    squares = eigenvalues(scaled.mT @ scaled)
    smallest = (squares[:, -1:] - unit * columns).clamp(min=0.0).sqrt()
    relative = torch.where(smallest > unit, unit / (smallest - unit), torch.inf)
    return torch.fmin(absolute, relative * values)  # 0 * inf: no value, no bound of its own


def triangular_factor(matrices: Tensor) -> Tensor:
    """R [B, min(m, n), n] of the QR factorisation of [B, m, n]."""
    factor: Tensor = torch.linalg.qr(matrices, mode="r")[1]
    return factor


def orthonormal_columns(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Q [B, m, n] with orthonormal columns and R [B, n, n] with Q R = the matrices, m >= n."""
    q, r = torch.linalg.qr(matrices)
    return q, r


def cholesky(matrices: Tensor) -> Tensor:
    """Lower-triangular L [B, n, n] with L L^T = the matrices, which are positive definite.

    NaN where one is not, up to 512 rows; beyond that an error of torch.
    """
    factor: Tensor
    if matrices.shape[-1] <= _CHOLESKY:
        factor = polarity_ext.cholesky(matrices)[0]
    else:
        factor = torch.linalg.cholesky(matrices)
    return factor


def solve_lower(lower: Tensor, right: Tensor) -> Tensor:
    """L^-1 right."""
    solution: Tensor = torch.linalg.solve_triangular(lower, right, upper=False)
    return solution


def solve_gram(lower: Tensor, right: Tensor) -> Tensor:
    """(L L^T)^-1 right."""
    solution: Tensor = torch.linalg.solve_triangular(lower.mT, solve_lower(lower, right), upper=True)
    return solution
