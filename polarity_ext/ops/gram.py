"""Batched Gram matrices with double-precision products."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply


@torch.library.register_fake("polarity::gram")
def _fake(y: Tensor) -> Tensor:
    torch._check(y.dim() == 3, lambda: f"gram: y must be [B, D, L], got {list(y.shape)}")
    return y.new_empty((y.shape[0], y.shape[2], y.shape[2]), dtype=torch.float64)


class _Gram(torch.autograd.Function):
    @staticmethod
    def forward(y: Tensor) -> Tensor:
        out: Tensor = torch.ops.polarity.gram(y)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        y: Tensor = ctx.saved_tensors[0]
        return (y.double() @ (grad + grad.mT)).to(y.dtype)

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor) -> Tensor:
        y: Tensor = ctx.saved_tensors[0]
        cross = y.double().mT @ tangent.double()
        return cross + cross.mT

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None], y: Tensor) -> tuple[Tensor, int]:
        (dim,) = in_dims
        assert dim is not None
        y = y.movedim(dim, 0)
        return gram(y.flatten(0, 1)).unflatten(0, y.shape[:2]), 0


def gram(y: Tensor) -> Tensor:
    """``G[b] = Y[b]^T Y[b]`` with float64 products and sums, whatever the precision of ``Y``.

    A float32 Gram matrix loses half the digits of every singular value of Y. Deterministic: the
    order of summation depends on the shape alone. Differentiable (backward, jvp, vmap).

    Args:
        y: [B, D, L], float32 or float64, any strides: tangents stored probe-major as [L, B, D] go in
            as ``t.permute(1, 2, 0)`` without a copy.

    Returns:
        [B, L, L] float64, exactly symmetric.

    Raises:
        RuntimeError: y is not three-dimensional or not float32/float64.
    """
    out: Tensor = apply(_Gram, y)
    return out
