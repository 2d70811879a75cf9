"""Sums, means, running sums, norms and smooth maxima."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.stage import Call, Map, Residual, Stage, rule

aten = torch.ops.aten


@rule(aten.sum.default, aten.sum.dim_IntList, aten.mean.default, aten.mean.dim)
def total(call: Call) -> Stage:
    before = tuple(call["self"].shape)
    dims = call.arguments.get("dim")
    rank = len(before)
    chosen = sorted(d % rank for d in dims) if dims else list(range(rank))
    count = math.prod(before[d] for d in chosen)
    scale = 1.0 / count if "mean" in str(call.op) else 1.0
    kept = [1 if d in chosen else size for d, size in enumerate(before)]
    after = tuple(call.out.shape)
    lifted = [d + 1 for d in chosen]

    def push(t: Tensor) -> Tensor:
        if not lifted:
            return t.clone()
        reduced = t.mean(lifted) if scale != 1.0 else t.sum(lifted)
        return reduced.reshape(t.shape[0], *after)

    def pull(u: Tensor) -> Tensor:
        u = u if scale == 1.0 else u * scale
        return u.reshape(u.shape[0], *kept).expand(-1, *before)

    stage = Map(push, pull)
    stage.pull_shares = True
    return stage


@rule(aten.cumsum.default)
def running_sum(call: Call) -> Stage:
    if call["self"].ndim == 0:
        return Map(lambda t: t, lambda u: u, shares=True)
    dim = call["dim"] % call["self"].ndim + 1
    return Map(lambda t: t.cumsum(dim), lambda u: u.flip(dim).cumsum(dim).flip(dim), any_batch=dim != 1)


class WeightedSum(Stage):
    """Sums of ``factor * tangent`` over some dimensions.

    Args:
        dims: of the input; None for all.
        factor: of every element, from (x, out); out has the dimensions of x.
    """

    def __init__(
        self, call: Call, dims: Sequence[int] | None, factor: Callable[[Tensor, Tensor], Tensor]
    ) -> None:
        rank = call["self"].ndim
        chosen = sorted({d % rank for d in dims}) if dims else list(range(rank))
        self._factor = factor
        self._after = tuple(call.out.shape)
        self._kept = tuple(1 if d in chosen else size for d, size in enumerate(call["self"].shape))
        self._lifted = [d + 1 for d in chosen]
        self.flops = 2 * math.prod(call["self"].shape)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        return (self._factor(args[0], out.reshape(self._kept)),)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        (factor,) = residual
        total = (tangents[0] * factor).sum(self._lifted)
        return (total.reshape(total.shape[0], *self._after),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (u.reshape(u.shape[0], *self._kept) * residual[0],)


@rule(aten.linalg_vector_norm.default)
def euclidean_norm(call: Call) -> Stage | None:
    if call["ord"] != 2 or call["dtype"] not in (None, call["self"].dtype) or call["self"].ndim == 0:
        return None
    # At zero the derivative is taken to be zero, as torch does.
    return WeightedSum(call, call["dim"], lambda x, norm: torch.where(norm == 0, 0.0, x / norm))


@rule(aten.logsumexp.default)
def smooth_maximum(call: Call) -> Stage | None:
    if call["self"].ndim == 0:
        return None
    return WeightedSum(call, call["dim"], lambda x, out: (x - out).exp())
