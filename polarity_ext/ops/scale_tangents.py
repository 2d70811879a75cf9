"""Tangents of a batch of samples times one derivative or mask per sample."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply, refuse_derivatives, was_written
from polarity_ext.ops.layout import is_dense, same_order


@torch.library.register_fake("polarity::scale_tangents")
def _fake(t: Tensor, d: Tensor) -> Tensor:
    _check_shapes(t, d)
    out = torch.empty_like(t)
    dense = is_dense(t, 2) and same_order(t, 2, d, 1) and same_order(t, 2, out, 2)
    return out if dense else t.new_empty(t.shape)


@torch.library.register_fake("polarity::scale_tangents_")
def _fake_in_place(t: Tensor, d: Tensor) -> None:
    _check_shapes(t, d)


def _check_shapes(t: Tensor, d: Tensor) -> None:
    got = f"got t {list(t.shape)} and d {list(d.shape)}"
    matches = t.dim() >= 2 and t.shape[1:] == d.shape
    torch._check(matches, lambda: f"scale_tangents: t must be [L, B, *] and d [B, *], {got}")


class _ScaleTangents(torch.autograd.Function):
    @staticmethod
    def forward(t: Tensor, d: Tensor) -> Tensor:
        out: Tensor = torch.ops.polarity.scale_tangents(t, d)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        t, d = ctx.saved_tensors
        return scale_tangents(grad, d), (grad * t).sum(0)

    @staticmethod
    def jvp(ctx: Any, t_tangent: Tensor | None, d_tangent: Tensor | None) -> Tensor:
        t, d = ctx.saved_tensors
        terms: list[Tensor] = []
        if t_tangent is not None:
            terms.append(t_tangent * d)
        if d_tangent is not None:
            terms.append(t * d_tangent)
        return terms[0] if len(terms) == 1 else terms[0] + terms[1]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, int | None], t: Tensor, d: Tensor) -> tuple[Tensor, int]:
        t_dim, d_dim = in_dims
        if d_dim is None:  # the batched probes are just more probes
            assert t_dim is not None
            t = t.movedim(t_dim, 0)
            return scale_tangents(t.flatten(0, 1), d).unflatten(0, t.shape[:2]), 0
        d = d.movedim(d_dim, 0)
        t = t.unsqueeze(1).expand(-1, d.shape[0], *t.shape[1:]) if t_dim is None else t.movedim(t_dim, 1)
        out = scale_tangents(t.flatten(1, 2), d.flatten(0, 1))
        return out.unflatten(1, d.shape[:2]), 1


def scale_tangents(t: Tensor, d: Tensor) -> Tensor:
    """``out[l, b] = t[l, b] * d[b]``: one pass over t, with d read once for all probes.

    Differentiable (backward, jvp, vmap).

    Args:
        t: tangents [L, B, *], float32 or float64.
        d: derivative or mask [B, *], same dtype and device.

    Returns:
        [L, B, *], laid out like t (channels last, say) where every t[l, b] and d[b] are dense in the same
        order; otherwise contiguous, at the price of a copy of what is not.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    out: Tensor = apply(_ScaleTangents, t, d)
    return out


def scale_tangents_(t: Tensor, d: Tensor) -> Tensor:
    """`scale_tangents` in place; returns t.

    For the inside of a tangent program: it has no derivatives and no vmap rule.

    Args:
        t: tangents [L, B, *], float32 or float64; every t[l, b] dense, in any order of its dimensions.
        d: as in `scale_tangents`; copied where it lies in another order than t, or in t itself.

    Raises:
        RuntimeError: as `scale_tangents`; or t or d requires a gradient or is inside torch.func or
            forward-mode differentiation; or a t[l, b] is strided, or overlaps another.
    """
    refuse_derivatives("scale_tangents", t, d)
    torch.ops.polarity.scale_tangents_(t, d)
    was_written(t)
    return t
