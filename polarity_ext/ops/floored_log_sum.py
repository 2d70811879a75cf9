"""Log-volumes with a bound on their error and the numerical rank, from singular values."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply

_Sums = tuple[Tensor, Tensor, Tensor]


@torch.library.register_fake("polarity::floored_log_sum")
def _fake(sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int) -> _Sums:
    torch._check(sigma.dim() == 2, lambda: f"floored_log_sum: sigma must be [B, n], got {list(sigma.shape)}")
    batch = sigma.shape[0]
    return (
        sigma.new_empty(batch),
        sigma.new_empty(batch),
        sigma.new_empty(batch, dtype=torch.int64),
    )


class _FlooredLogSum(torch.autograd.Function):
    @staticmethod
    def forward(sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int) -> _Sums:
        out: _Sums = torch.ops.polarity.floored_log_sum(sigma, floor, eta, delta, top_k)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor, Tensor, int], output: _Sums) -> None:
        sigma, floor, _, _, ctx.top_k = inputs
        ctx.mark_non_differentiable(output[1], output[2])
        ctx.save_for_backward(sigma, floor)
        ctx.save_for_forward(sigma, floor)

    @staticmethod
    def backward(
        ctx: Any, grad: Tensor, _grad_error: None, _grad_rank: None
    ) -> tuple[Tensor, Tensor, None, None, None]:
        sigma, floor = ctx.saved_tensors
        by_sigma, by_floor = _derivatives(sigma, floor, ctx.top_k)
        return grad[:, None] * by_sigma, grad * by_floor, None, None, None

    @staticmethod
    def jvp(
        ctx: Any,
        sigma_tangent: Tensor | None,
        floor_tangent: Tensor | None,
        _eta_tangent: Tensor | None,
        _delta_tangent: Tensor | None,
        _top_k: None,
    ) -> tuple[Tensor, None, None]:
        sigma, floor = ctx.saved_tensors
        by_sigma, by_floor = _derivatives(sigma, floor, ctx.top_k)
        total = torch.zeros_like(by_floor)
        if sigma_tangent is not None:
            total = total + (by_sigma * sigma_tangent).sum(1)
        if floor_tangent is not None:
            total = total + by_floor * floor_tangent
        return total, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *inputs: Any) -> tuple[_Sums, tuple[int, int, int]]:
        *tensors, top_k = inputs
        whole = [
            t.expand(info.batch_size, *t.shape) if dim is None else t.movedim(dim, 0)
            for t, dim in zip(tensors, in_dims, strict=False)
        ]
        shape = whole[0].shape[:2]
        sigma, floor, eta, delta = (t.flatten(0, 1) for t in whole)
        value, error, rank = floored_log_sum(sigma, floor, eta, delta, top_k)
        return (value.unflatten(0, shape), error.unflatten(0, shape), rank.unflatten(0, shape)), (0, 0, 0)


def _derivatives(sigma: Tensor, floor: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """Of the value by sigma [B, n] and by the floor [B], which counts where it is the larger one."""
    summed = torch.arange(sigma.shape[1], device=sigma.device) < top_k
    above = sigma > floor[:, None]
    by_sigma = torch.where(summed & above, 1.0 / torch.where(above, sigma, 1.0), 0.0)
    return by_sigma, (summed & ~above).sum(1) / floor.clamp(min=torch.finfo(floor.dtype).tiny)


def floored_log_sum(
    sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """Sum of the logarithms of the leading singular values, by how much it can be off, and the rank.

    The computed sigma^2 are off by at most delta, and what they were computed from is off by at most eta in
    the spectral norm (Weyl's inequality): the true sigma lies between sqrt(sigma^2 - delta) - eta and
    sqrt(sigma^2 + delta) + eta. To first order its logarithm is off by eta / sigma + delta / (2 sigma^2).
    Both ends are taken as max(end, floor), so the error stays finite down to the floor, where it is infinite.
    Deterministic. The value is differentiable (backward, jvp, vmap) with respect to sigma and floor; error
    and rank are not.

    Args:
        sigma: [B, n] float64, any order and strides; the first ``top_k`` are summed.
        floor: [B], below which a singular value cannot be told from zero.
        eta: [B], bound on the spectral norm of the matrix's error; NaN where not known.
        delta: [B, n], bound on the error of sigma^2; may be expanded.
        top_k: how many are summed; default all n.

    Returns:
        value [B], the sum of log max(sigma_i, floor); error [B], inf where one of the summed sigma_i is at or
        below the floor, NaN where eta or delta is; rank [B] int64, how many of all n lie above the floor.

    Raises:
        RuntimeError: shapes do not fit, a tensor is not float64, top_k is outside 0..n.
    """
    if top_k is None:
        top_k = sigma.shape[-1]
    out: _Sums = apply(_FlooredLogSum, sigma, floor, eta, delta, top_k)
    return out
