"""Tangents of a normalisation: layer, group, instance, pixel and RMS norm."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply
from polarity_ext.ops.layout import is_dense, same_order


@torch.library.register_fake("polarity::normalize_tangents")
def _fake(t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> Tensor:
    matches = t.shape[1:] == xhat.shape and r.dim() == xhat.dim()
    matches = matches and all(a in (1, b) for a, b in zip(r.shape, xhat.shape, strict=True))
    torch._check(
        matches,
        lambda: (
            "normalize_tangents: t must be [L, *], xhat [*] and r [*] with size 1 where a group extends, "
            f"got t {list(t.shape)}, xhat {list(xhat.shape)} and r {list(r.shape)}"
        ),
    )
    out = torch.empty_like(t)
    if t.numel() > 0 and _is_direct(t, xhat, r) and same_order(t, 1, out, 1):
        return out
    torch._check(
        t.numel() == 0 or _fits(range(r.dim()), xhat, r),
        lambda: (
            f"normalize_tangents: r of shape {list(r.shape)} has size 1, beside xhat {list(xhat.shape)}, "
            "in more than two separate runs of dimensions; permute them together"
        ),
    )
    return t.new_empty(t.shape)


def _is_direct(t: Tensor, xhat: Tensor, r: Tensor) -> bool:
    """Whether no argument is copied (csrc/torch/normalize_tangents.cpp)."""
    if not (is_dense(t, 1) and same_order(t, 1, xhat, 0)):
        return False
    order = sorted((i for i, size in enumerate(xhat.shape) if size > 1), key=xhat.stride, reverse=True)
    run = 1
    for i in reversed(order):
        if r.shape[i] > 1 and r.stride(i) != run:
            return False
        run *= r.shape[i]
    return _fits(order, xhat, r)


def _fits(order: Iterable[int], xhat: Tensor, r: Tensor) -> bool:
    """Dimensions in this order, outermost first, are at most kept, reduced, kept, reduced."""
    slot = 0
    for i in order:
        if xhat.shape[i] > 1:
            slot += (r.shape[i] == 1) != (slot % 2 == 1)
    return slot < 4


class _NormalizeTangents(torch.autograd.Function):
    @staticmethod
    def forward(t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> Tensor:
        out: Tensor = torch.ops.polarity.normalize_tangents(t, xhat, r, center)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, bool], output: Tensor) -> None:
        t, xhat, r, ctx.center = inputs
        ctx.save_for_backward(t, xhat, r)
        ctx.save_for_forward(t, xhat, r)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        t, xhat, r = ctx.saved_tensors
        scaled = r * grad
        of_xhat = -(scaled * _mean(xhat * t, r) + t * _mean(xhat * scaled, r)).sum(0)
        of_r = (grad * _residual(t, xhat, r, ctx.center)).sum(0).sum_to_size(r.shape)
        return normalize_tangents(grad, xhat, r, ctx.center), of_xhat, of_r, None

    @staticmethod
    def jvp(
        ctx: Any,
        t_tangent: Tensor | None,
        xhat_tangent: Tensor | None,
        r_tangent: Tensor | None,
        _center: None,
    ) -> Tensor:
        t, xhat, r = ctx.saved_tensors
        terms: list[Tensor] = []
        if t_tangent is not None:
            terms.append(r * _residual(t_tangent, xhat, r, ctx.center))
        if xhat_tangent is not None:
            terms.append(-r * (xhat_tangent * _mean(xhat * t, r) + xhat * _mean(xhat_tangent * t, r)))
        if r_tangent is not None:
            terms.append(r_tangent * _residual(t, xhat, r, ctx.center))
        return torch.stack(terms).sum(0)

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, int | None, int | None, None],
        t: Tensor,
        xhat: Tensor,
        r: Tensor,
        center: bool,
    ) -> tuple[Tensor, int]:
        t_dim, xhat_dim, r_dim, _ = in_dims
        if xhat_dim is None and r_dim is None:  # the batched probes are just more probes
            assert t_dim is not None
            t = t.movedim(t_dim, 0)
            return normalize_tangents(t.flatten(0, 1), xhat, r, center).unflatten(0, t.shape[:2]), 0

        def batched(x: Tensor, dim: int | None, to: int) -> Tensor:
            if dim is not None:
                return x.movedim(dim, to)
            return x.unsqueeze(to).expand(*x.shape[:to], info.batch_size, *x.shape[to:])

        t, xhat, r = batched(t, t_dim, 1), batched(xhat, xhat_dim, 0), batched(r, r_dim, 0)
        return normalize_tangents(t, xhat, r, center), 1


def _mean(x: Tensor, r: Tensor) -> Tensor:
    """The mean over each group, of the shape of r behind the dimensions that x has in front."""
    front = x.dim() - r.dim()
    group = [front + i for i, size in enumerate(r.shape) if size == 1]
    return x.mean(group, keepdim=True) if group else x


def _residual(t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> Tensor:
    rest = t - xhat * _mean(xhat * t, r)
    return rest - _mean(t, r) if center else rest


def normalize_tangents(t: Tensor, xhat: Tensor, r: Tensor, center: bool = True) -> Tensor:
    """``r * (t - mean(t) - xhat * mean(xhat * t))``: tangents of ``xhat = r * (x - mean(x))``.

    Means are over the group of each number: the dimensions in which r has size 1, as the mean and the
    reciprocal standard deviation that torch's normalisations return. Both sums are formed in one pass over
    t, in an order that depends on the shape alone. As a linear map of t it is its own transpose, so it also
    is the pullback. Differentiable (backward, jvp, vmap).

    Layer norm of [B, T, C] has r [B, T, 1], instance norm of images r [B, C, 1, 1], group norm is that of a
    view [B, groups, C / groups, H, W], and pixel norm has r [B, 1, H, W] and ``center=False``, as RMS norm.

    Args:
        t: tangents [L, *], float32 or float64.
        xhat: the normalised values [*], without an affine map (scale the result by its weight).
        r: reciprocal of the standard deviation, or of the root mean square: [*], with size 1 in the
            dimensions of a group.
        center: whether the mean was subtracted.

    Returns:
        Shaped like t, and laid out like it where t[l] and xhat are dense in the same order of dimensions
        (channels last, say) and a group is at most two runs of dimensions in memory; else contiguous, at the
        price of copies.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, or a group is in more than two runs of
            dimensions of a contiguous tensor.
    """
    out: Tensor = apply(_NormalizeTangents, t, xhat, r, center)
    return out
