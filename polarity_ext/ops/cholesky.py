"""Cholesky factors of a batch of symmetric matrices, with a word for each that has none."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply


@torch.library.register_fake("polarity::cholesky")
def _fake(a: Tensor) -> tuple[Tensor, Tensor]:
    square = a.dim() == 3 and a.shape[1] == a.shape[2]
    torch._check(square, lambda: f"cholesky: a must be [B, n, n], got {list(a.shape)}")
    return a.new_empty(a.shape), a.new_empty(a.shape[0], dtype=torch.int64)


class _Cholesky(torch.autograd.Function):
    """Derivatives as in Murray, arXiv 1602.07527."""

    @staticmethod
    def forward(a: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.polarity.cholesky(a)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[0])
        ctx.save_for_forward(output[0])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _grad_info: None) -> Tensor:
        lower: Tensor = ctx.saved_tensors[0]
        inner = torch.linalg.solve_triangular(lower.mT, _half(lower.mT @ grad), upper=True)
        outer: Tensor = torch.linalg.solve_triangular(lower, inner, upper=False, left=False)
        return 0.5 * (outer + outer.mT)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> tuple[Tensor, None]:
        lower: Tensor = ctx.saved_tensors[0]
        inner = torch.linalg.solve_triangular(lower, tangent, upper=False)
        inner = torch.linalg.solve_triangular(lower.mT, inner, upper=True, left=False)
        return lower @ _half(inner), None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None], a: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        (dim,) = in_dims
        assert dim is not None
        a = a.movedim(dim, 0)
        lower, where = cholesky(a.flatten(0, 1))
        return (lower.unflatten(0, a.shape[:2]), where.unflatten(0, a.shape[:2])), (0, 0)


def _half(x: Tensor) -> Tensor:
    """The lower triangle, with half the diagonal."""
    return torch.tril(x) - 0.5 * torch.diag_embed(x.diagonal(dim1=-2, dim2=-1))


def cholesky(a: Tensor) -> tuple[Tensor, Tensor]:
    """Lower-triangular ``L[b]`` with ``L[b] L[b]^T = A[b]``, and where that failed.

    Computed in float64 whatever the precision of ``a``. Only the lower triangle is read. Nothing is raised
    for a matrix that is not positive definite: ``info`` says where it broke down. Deterministic: a matrix
    gives the same bits whatever its batch. L is differentiable (backward, jvp, vmap) with respect to
    symmetric changes of ``a``.

    Args:
        a: [B, n, n] with n <= 512, float32 or float64, any strides.

    Returns:
        L [B, n, n], dtype of a, zero above the diagonal, and info [B] int64: 0, or the order of the first
        leading minor that is not positive, or not finite; L[b] holds NaN from that column on.

    Raises:
        RuntimeError: a is not a batch of square matrices, is too large (torch.linalg.cholesky_ex has no
            limit), or is not float32/float64.
    """
    out: tuple[Tensor, Tensor] = apply(_Cholesky, a)
    return out
