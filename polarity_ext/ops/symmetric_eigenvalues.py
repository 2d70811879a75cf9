"""Eigenvalues of a batch of small symmetric matrices."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply


@torch.library.register_fake("polarity::symmetric_eigenvalues")
def _fake(a: Tensor, top_k: int) -> Tensor:
    square = a.dim() == 3 and a.shape[1] == a.shape[2]
    torch._check(square, lambda: f"symmetric_eigenvalues: a must be [B, n, n], got {list(a.shape)}")
    return a.new_empty((a.shape[0], top_k))


class _SymmetricEigenvalues(torch.autograd.Function):
    """Derivatives need eigenvectors: they call torch.linalg.eigh, which has derivatives of its own."""

    @staticmethod
    def forward(a: Tensor, top_k: int) -> Tensor:
        out: Tensor = torch.ops.polarity.symmetric_eigenvalues(a, top_k)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int], output: Tensor) -> None:
        a, ctx.top_k = inputs
        ctx.save_for_backward(a)
        ctx.save_for_forward(a)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        v = _leading_eigenvectors(ctx.saved_tensors[0], ctx.top_k)
        return (v * grad[:, None, :]) @ v.mT, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _top_k: None) -> Tensor:
        v = _leading_eigenvectors(ctx.saved_tensors[0], ctx.top_k)
        return (v * (tangent @ v)).sum(1)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, None], a: Tensor, top_k: int) -> tuple[Tensor, int]:
        dim = in_dims[0]
        assert dim is not None
        a = a.movedim(dim, 0)
        return symmetric_eigenvalues(a.flatten(0, 1), top_k).unflatten(0, a.shape[:2]), 0


def _leading_eigenvectors(a: Tensor, top_k: int) -> Tensor:
    """[B, n, top_k], those of the largest eigenvalue first."""
    vectors: Tensor = torch.linalg.eigh(a)[1]
    return vectors.flip(2)[:, :, :top_k]


def symmetric_eigenvalues(a: Tensor, top_k: int | None = None) -> Tensor:
    """The ``top_k`` largest eigenvalues of symmetric matrices, descending.

    Computed in float64 whatever the precision of ``a``; the error of every eigenvalue is a small multiple
    of n eps |A|, as LAPACK's. Only the lower triangle is read. A matrix that holds NaN or an infinity gives
    NaN, and changes no other. Deterministic: a matrix gives the same bits whatever its batch.

    Differentiable (backward, jvp, vmap) with respect to symmetric changes of ``a``, through
    ``torch.linalg.eigh``; at repeated eigenvalues only symmetric functions of them have derivatives.

    Args:
        a: [B, n, n] with n <= 128 (1024 on CUDA), float32 or float64, any strides. Beyond 128 it takes as
            much memory again as ``a`` in float64.
        top_k: how many; default all n. On CUDA fewer cost less, on the CPU all are computed.

    Returns:
        [B, top_k], dtype of a.

    Raises:
        RuntimeError: a is not a batch of square matrices, is too large (torch.linalg.eigvalsh has no
            limit), or is not float32/float64; top_k outside 0..n.
    """
    if top_k is None:
        top_k = a.shape[-1]
    out: Tensor = apply(_SymmetricEigenvalues, a, top_k)
    return out
