"""Gated linear units."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.jacobian.rules.pointwise import COMPILED
from polarity_sampling.jacobian.stage import Call, Residual, Stage, rule

aten = torch.ops.aten


class Gate(Stage):
    """Derivative of ``a * sigmoid(b)``, a and b the halves of the input: two factors."""

    def __init__(self, call: Call) -> None:
        self._dim = call["dim"] % call.out.ndim
        self.flops = 3 * math.prod(call.out.shape)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        a, b = args[0].chunk(2, self._dim)
        gate, slope = polarity_ext.activation(b, "sigmoid")
        return gate, a * slope

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        gate, slope = residual
        a, b = tangents[0].chunk(2, self._dim + 1)
        return (torch.addcmul(a * gate, b, slope),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (torch.cat([u * factor for factor in residual], self._dim + 1),)


@rule(aten.glu.default)
def gated(call: Call) -> Stage | None:
    return Gate(call) if call.out.dtype in COMPILED else None
