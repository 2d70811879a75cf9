"""Singular values of a batch of small matrices, each accurate to its own size."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply

MAX_SWEEPS = 30
"""Three times what matrices of 128 columns take."""


@torch.library.register_fake("polarity::jacobi_singular_values")
def _fake(a: Tensor, max_sweeps: int) -> tuple[Tensor, Tensor]:
    tall = a.dim() == 3 and a.shape[1] >= a.shape[2]
    torch._check(
        tall, lambda: f"jacobi_singular_values: a must be [B, m, n] with m >= n, got {list(a.shape)}"
    )
    return a.new_empty((a.shape[0], a.shape[2])), a.new_empty(a.shape[0], dtype=torch.int64)


class _JacobiSingularValues(torch.autograd.Function):
    """Derivatives need singular vectors: they call torch.linalg.svd, which has derivatives of its own."""

    @staticmethod
    def forward(a: Tensor, max_sweeps: int) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.polarity.jacobi_singular_values(a, max_sweeps)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(inputs[0])
        ctx.save_for_forward(inputs[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_info: None) -> tuple[Tensor, None]:
        u, _, vh = torch.linalg.svd(ctx.saved_tensors[0], full_matrices=False)
        return (u * grad[:, None, :]) @ vh, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _max_sweeps: None) -> tuple[Tensor, None]:
        u, _, vh = torch.linalg.svd(ctx.saved_tensors[0], full_matrices=False)
        return (u * (tangent @ vh.mT)).sum(1), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, None], a: Tensor, max_sweeps: int
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        dim = in_dims[0]
        assert dim is not None
        a = a.movedim(dim, 0)
        values, left = jacobi_singular_values(a.flatten(0, 1), max_sweeps)
        return (values.unflatten(0, a.shape[:2]), left.unflatten(0, a.shape[:2])), (0, 0)


def jacobi_singular_values(a: Tensor, max_sweeps: int = MAX_SWEEPS) -> tuple[Tensor, Tensor]:
    """Singular values of tall or square matrices, descending, and where the iteration failed.

    One-sided Jacobi rotations of the columns, in float64 whatever the precision of ``a``. Whatever the sizes
    of the columns, if B is ``a`` with columns of length one, the relative error of *every* value is a small
    multiple of eps sqrt(n) / sigma_min(B) (J. Demmel, K. Veselić, Jacobi's method is more accurate than QR,
    SIAM J. Matrix Anal. Appl. 13, 1992). The error of ``torch.linalg.svdvals`` is eps times the largest
    value, in all of them. Values below 2^-450 of the largest element are not resolved.

    Nothing is raised for a matrix that is not finite: its values are NaN. Deterministic: a matrix gives the
    same bits whatever its batch.

    The values are differentiable (backward, jvp, vmap) through ``torch.linalg.svd``; at repeated values only
    symmetric functions of them have derivatives.

    Args:
        a: [B, m, n] with m >= n, n <= 128, float32 or float64, any strides. Where m is much larger than n, a
            QR factorisation first is cheaper.
        max_sweeps: rotations of all pairs of columns, at most, >= 1. About ten are needed.

    Returns:
        The values [B, n], dtype of a, and info [B] int64: 0, or how many pairs of columns were still rotated
        in the last sweep, or -1 where a[b] holds NaN or an infinity. Where info is not 0 the values are NaN.

    Raises:
        RuntimeError: a is not a batch of matrices with m >= n, is too large (torch.linalg.svdvals has no
            limit), or is not float32/float64; max_sweeps < 1.
    """
    out: tuple[Tensor, Tensor] = apply(_JacobiSingularValues, a, max_sweeps)
    return out
