"""Softmax and its logarithm."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_ext import softmax_tangents
from polarity_sampling.jacobian.stage import Call, Residual, Stage, rule

aten = torch.ops.aten


class Softmax(Stage):
    def __init__(self, call: Call) -> None:
        self._dim = call["dim"] % max(call.out.ndim, 1)
        self.flops = 4 * math.prod(call.out.shape)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        # A row that is masked altogether is zero or NaN in torch; the derivative of a constant is zero.
        return (out.movedim(self._dim, -1).contiguous(),)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        (y,) = residual
        t = tangents[0].movedim(self._dim + 1, -1)
        return (softmax_tangents(t, y).movedim(-1, self._dim + 1),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return self.push(residual, [u], owned)


class LogSoftmax(Stage):
    """``t - sum(y * t)`` with y the softmax; transposed ``u - y * sum(u)``."""

    def __init__(self, call: Call) -> None:
        self._dim = call["dim"] % max(call.out.ndim, 1) + 1
        self.flops = 4 * math.prod(call.out.shape)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        return (out.exp(),)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        (y,), (t,) = residual, tangents
        return (t - (t * y).sum(self._dim, keepdim=True),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (y,), (u,) = residual, cotangents
        assert u is not None
        return (u - y * u.sum(self._dim, keepdim=True),)


@rule(aten._softmax.default, aten._safe_softmax.default)
def softmax(call: Call) -> Stage:
    return Softmax(call)


@rule(aten._log_softmax.default)
def log_softmax(call: Call) -> Stage:
    return LogSoftmax(call)
