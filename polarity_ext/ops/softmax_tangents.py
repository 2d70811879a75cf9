"""Tangents of a softmax over the last dimension, as in attention."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply


@torch.library.register_fake("polarity::softmax_tangents")
def _fake(t: Tensor, y: Tensor) -> Tensor:
    torch._check(
        y.dim() >= 1 and t.shape[1:] == y.shape,
        lambda: (
            f"softmax_tangents: t must be [L, *, N] and y [*, N], got t {list(t.shape)} and y {list(y.shape)}"
        ),
    )
    return t.new_empty(t.shape)


class _SoftmaxTangents(torch.autograd.Function):
    @staticmethod
    def forward(t: Tensor, y: Tensor) -> Tensor:
        out: Tensor = torch.ops.polarity.softmax_tangents(t, y)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        t, y = ctx.saved_tensors
        of_y = grad * (t - _dot(y, t)) - t * _dot(grad, y)
        return softmax_tangents(grad, y), of_y.sum(0)

    @staticmethod
    def jvp(ctx: Any, t_tangent: Tensor | None, y_tangent: Tensor | None) -> Tensor:
        t, y = ctx.saved_tensors
        terms: list[Tensor] = []
        if t_tangent is not None:
            terms.append(y * (t_tangent - _dot(y, t_tangent)))
        if y_tangent is not None:
            terms.append(y_tangent * (t - _dot(y, t)) - y * _dot(y_tangent, t))
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], t: Tensor, y: Tensor) -> tuple[Tensor, int]:
        t_dim, y_dim = in_dims
        if y_dim is None:  # the batched probes are just more probes
            assert t_dim is not None
            t = t.movedim(t_dim, 0)
            return softmax_tangents(t.flatten(0, 1), y).unflatten(0, t.shape[:2]), 0
        y = y.movedim(y_dim, 0)
        t = t.unsqueeze(1).expand(-1, y.shape[0], *t.shape[1:]) if t_dim is None else t.movedim(t_dim, 1)
        return softmax_tangents(t, y), 1


def _dot(a: Tensor, b: Tensor) -> Tensor:
    return (a * b).sum(-1, keepdim=True)


def softmax_tangents(t: Tensor, y: Tensor) -> Tensor:
    """``y * (t - (y * t).sum(-1, keepdim=True))``: tangents of ``y = softmax(x, -1)``.

    One pass for the sum, in an order that depends on the shape alone, and one for the result. As a linear map
    of t it is its own transpose, so it also is the pullback. Differentiable (backward, jvp, vmap).

    Args:
        t: tangents [L, *, N], float32 or float64; copied unless every t[l] is contiguous.
        y: the softmax [*, N]; copied unless contiguous.

    Returns:
        [L, *, N], contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    out: Tensor = apply(_SoftmaxTangents, t, y)
    return out
