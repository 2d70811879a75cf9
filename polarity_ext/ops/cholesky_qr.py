"""QR factorisation of tall matrices by Cholesky factors of their Gram matrices."""

import torch
from torch import Tensor

from polarity_ext.ops.cholesky import cholesky
from polarity_ext.ops.gram import gram
from polarity_ext.ops.solve_triangular import solve_triangular

_EPS = 2.0**-53
# Each makes a condition of 1e6 out of 1e12, or one of a few out of 1e6.
_SHIFTED_PASSES = 3


def cholesky_qr(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """``Y[b] = Q[b] R[b]`` with orthonormal columns in Q and R upper-triangular, and where that failed.

    CholeskyQR2: ``R1 = chol(Y^T Y)``, ``Q1 = Y R1^-1``, and the same again for Q1, whose columns are nearly
    orthonormal, so that those of Q are to rounding. Where the condition of Y (with columns of length one)
    exceeds about 1e7, Q1 is not nearly orthonormal, which is seen; those matrices go through passes with
    the diagonal of the Gram matrix raised by its rounding first (T. Fukaya, R. Kannan, Y. Nakatsukasa,
    Y. Yamamoto, Y. Yanagisawa, Shifted Cholesky QR for computing the QR factorization of ill-conditioned
    matrices, SIAM J. Sci. Comput. 42, 2020; here relative to each column, so that scaling columns changes
    nothing). All of it is products in float64, whatever the precision of ``y``, and no column waits for
    another as in Householder's. A matrix gives the same bits whatever its batch. Differentiable; one
    synchronisation with the device, two where some matrix needs a shift.

    Args:
        y: [B, D, L] with D >= L, L <= 384, float32 or float64, any strides.

    Returns:
        Q [B, D, L] and R [B, L, L], float64, the diagonal of R positive; and info [B] int64: 0, or 1 where
        columns depend on each other to rounding or a number is not finite. There Q and R are NaN, and
        torch.linalg.qr still has an answer.

    Raises:
        RuntimeError: D < L, L is too large, or y is not [B, D, L] of float32/float64.
    """
    if y.dim() != 3 or y.shape[1] < y.shape[2]:
        raise RuntimeError(f"cholesky_qr: y must be [B, D, L] with D >= L, got {list(y.shape)}")
    moments = gram(y)
    q, r = _divided(y, moments)
    again = gram(q)
    near = _nearly_identity(again)
    (poor,) = torch.nonzero(~near, as_tuple=True)
    if poor.numel():
        # The others anew, not copied over: backward through a factor that failed is zero times NaN.
        (good,) = torch.nonzero(near, as_tuple=True)
        same, better = _divided(y[good], moments[good]), _shifted(y[poor], moments[poor])
        order = torch.cat([good, poor]).argsort()
        q, r = (torch.cat(pair)[order] for pair in zip(same, better, strict=True))
        again = gram(q)
    q, last = _divided(q, again)
    fine = _nearly_identity(again)
    failed = torch.where(fine, 0.0, torch.nan)[:, None, None]
    return q + failed, last @ r + failed, (~fine).long()


def _divided(y: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Y R^-1 and R with R^T R = moments."""
    r = cholesky(moments)[0].mT
    return solve_triangular(y, r), r


def _nearly_identity(moments: Tensor) -> Tensor:
    """[B]: the eigenvalues lie in [1/2, 3/2]: one more pass leaves columns orthonormal to rounding."""
    identity = torch.eye(moments.shape[1], dtype=moments.dtype, device=moments.device)
    return (moments.detach() - identity).square().sum((1, 2)) <= 0.25


def _shifted(y: Tensor, moments: Tensor) -> tuple[Tensor, Tensor]:
    """Q with columns that are much less dependent than those of Y, and R, Q R = Y."""
    columns = y.shape[2]
    shift = (16.0 + columns) * columns * _EPS  # the rounding of a Gram matrix with ones on its diagonal
    q, r = _divided(y, moments + torch.diag_embed(shift * moments.diagonal(dim1=1, dim2=2)))
    for _ in range(_SHIFTED_PASSES - 1):
        moments = gram(q)
        q, factor = _divided(q, moments + torch.diag_embed(shift * moments.diagonal(dim1=1, dim2=2)))
        r = factor @ r
    return q, r
