"""Rows of a batch of tall matrices times the inverses of triangular ones."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply


@torch.library.register_fake("polarity::solve_triangular")
def _fake(y: Tensor, r: Tensor) -> Tensor:
    fits = y.dim() == 3 and r.shape == (y.shape[0], y.shape[2], y.shape[2])
    torch._check(
        fits,
        lambda: (
            f"solve_triangular: y must be [B, D, L] and r [B, L, L], got {list(y.shape)} and {list(r.shape)}"
        ),
    )
    return y.new_empty(y.shape, dtype=torch.float64)


class _SolveTriangular(torch.autograd.Function):
    """dX = (dY - X dR) R^-1."""

    @staticmethod
    def forward(y: Tensor, r: Tensor) -> Tensor:
        out: Tensor = torch.ops.polarity.solve_triangular(y, r)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.dtype = inputs[0].dtype
        ctx.save_for_backward(inputs[1], output)
        ctx.save_for_forward(inputs[1], output)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        r, x = ctx.saved_tensors
        pulled = torch.linalg.solve_triangular(r.mT, grad, upper=False, left=False)
        return pulled.to(ctx.dtype), -torch.triu(x.mT @ pulled)

    @staticmethod
    def jvp(ctx: Any, y_tangent: Tensor | None, r_tangent: Tensor | None) -> Tensor:
        r, x = ctx.saved_tensors
        moved = torch.zeros_like(x) if y_tangent is None else y_tangent.double()
        if r_tangent is not None:
            moved = moved - x @ torch.triu(r_tangent)
        return solve_triangular(moved, r)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], y: Tensor, r: Tensor) -> tuple[Tensor, int]:
        y, r = (
            x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
            for x, dim in zip((y, r), in_dims, strict=True)
        )
        return solve_triangular(y.flatten(0, 1), r.flatten(0, 1)).unflatten(0, y.shape[:2]), 0


def solve_triangular(y: Tensor, r: Tensor) -> Tensor:
    """``X[b]`` with ``X[b] R[b] = Y[b]``: every row of y times the inverse of an upper-triangular matrix.

    By substitution in float64 whatever the precision of ``y``, so that every row of X solves exactly a
    system whose R is off by rounding of its own elements; a product with an inverse does not. Only the upper
    triangle of r is read. Deterministic: a row gives the same bits whatever stands around it.
    Differentiable (backward, jvp, vmap).

    Args:
        y: [B, D, L] with L <= 384, float32 or float64, any strides.
        r: [B, L, L] float64, any strides. Zeros on its diagonal give infinities and NaN.

    Returns:
        [B, D, L] float64, contiguous.

    Raises:
        RuntimeError: shapes do not fit, L is too large (torch.linalg.solve_triangular has no limit), y is not
            float32/float64, or r not float64.
    """
    out: Tensor = apply(_SolveTriangular, y, r)
    return out
