"""Sums, means and running sums."""

import math

import torch
from torch import Tensor

from polarity_sampling.jacobian.stage import Call, Map, Stage, rule

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
