"""QR of the Jacobian's columns, a block of rows at a time, in float64."""

import torch
from torch import Tensor

from polarity_sampling.volume import dense
from polarity_sampling.volume.gram import identity
from polarity_sampling.volume.operator import LinearOperator
from polarity_sampling.volume.singular_values import SingularValues, bound


def triangular_factor(columns: Tensor) -> Tensor:
    """R [B, min(D, n), n] float64 of the columns [B, D, n], by a sequential TSQR over blocks of rows.

    J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal parallel and sequential QR and LU
    factorizations (SIAM J. Sci. Comput. 34, 2012). Only a block of 4 n rows is ever held in float64.
    """
    size = columns.shape[2]
    factor = columns.new_zeros(columns.shape[0], 0, size, dtype=torch.float64)
    for block in columns.split(4 * size, dim=1):
        factor = dense.triangular_factor(torch.cat([factor, block.double()], 1))
    return factor


def tall_qr(operator: LinearOperator, top_k: int, *, tol: float) -> SingularValues:
    """Top-k singular values from R: K products.

    Resolves sigma down to about 1e-14 sigma_1 in float64, and further where small values are due to columns
    that are small as a whole.
    """
    factor = triangular_factor(operator @ identity(operator))
    values = dense.singular_values(factor)[:, :top_k]
    reach = dense.rounding_of_singular_values(factor, values)
    lower = (values - reach).clamp(min=0.0)
    return bound(values, lower, values + reach, operator.shape[2], tol, "qr")
