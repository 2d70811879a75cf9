"""Products with Gaussian test matrices that are never stored."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply
from polarity_ext.ops.random import gaussian

_BLOCK = 32  # rows of the test matrix that exist at a time where the transpose is multiplied


@torch.library.register_fake("polarity::gaussian_product")
def _fake(y: Tensor, rows: int, seed: int, offset: int) -> Tensor:
    torch._check(y.dim() == 3, lambda: f"gaussian_product: y must be [B, D, L], got {list(y.shape)}")
    return y.new_empty((y.shape[0], rows, y.shape[2]), dtype=torch.float64)


class _GaussianProduct(torch.autograd.Function):
    @staticmethod
    def forward(y: Tensor, rows: int, seed: int, offset: int) -> Tensor:
        out: Tensor = torch.ops.polarity.gaussian_product(y, rows, seed, offset)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, int, int], output: Tensor) -> None:
        y, *ctx.matrix = inputs
        ctx.dim, ctx.dtype = y.shape[1], y.dtype

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        rows, seed, offset = ctx.matrix
        total = grad.new_zeros(grad.shape[0], ctx.dim, grad.shape[2])
        for first in range(0, rows, _BLOCK):
            count = min(_BLOCK, rows - first)
            block = gaussian(seed, offset + first * ctx.dim, (count, ctx.dim), device=grad.device)
            total = total + block.double().mT @ grad[:, first : first + count]
        return total.to(ctx.dtype), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return gaussian_product(tangent, *ctx.matrix)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], y: Tensor, rows: int, seed: int, offset: int
    ) -> tuple[Tensor, int]:
        dim = in_dims[0]
        assert dim is not None
        y = y.movedim(dim, 0)
        return gaussian_product(y.flatten(0, 1), rows, seed, offset).unflatten(0, y.shape[:2]), 0


def gaussian_product(y: Tensor, rows: int, seed: int, offset: int = 0) -> Tensor:
    """``Omega @ Y[b]`` with Omega [rows, D] standard normal, made where it is multiplied and never stored.

    Omega is ``gaussian(seed, offset, (rows, D))`` bit for bit, on CPU and CUDA. Products and sums are
    float64, whatever the precision of ``y``; deterministic, and the same for a sample in any batch.
    Differentiable (backward, jvp, vmap); backward makes Omega again, 32 rows at a time.

    Args:
        y: [B, D, L], float32 or float64, any strides.
        rows: of Omega.
        seed: stream of Omega's numbers, 0 <= seed < 2^63.
        offset: of its first number in that stream; row r begins at ``offset + r * D``.

    Returns:
        [B, rows, L] float64.

    Raises:
        RuntimeError: y is not three-dimensional or not float32/float64; rows, seed or offset is negative.
    """
    out: Tensor = apply(_GaussianProduct, y, rows, seed, offset)
    return out
