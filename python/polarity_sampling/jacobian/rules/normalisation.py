"""Normalisation layers: fixed scales where the statistics are stored, projections where they are not."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_ext import normalize_tangents
from polarity_sampling.jacobian.rules.pointwise import Pointwise
from polarity_sampling.jacobian.stage import Call, Operand, Residual, Stage, rule

aten = torch.ops.aten


class Normalisation(Stage):
    """``weight * (x - mean) / std + bias`` with statistics of groups of elements of one sample.

    The statistics that the operator returns beside its result have no tangent.

    Args:
        view: shape of the input in which a group is some dimensions.
        group: these dimensions.
        weight: in a shape that broadcasts with the input, or None.
    """

    outputs = 1

    def __init__(
        self, call: Call, view: tuple[int, ...], group: tuple[int, ...], eps: float, weight: Tensor | None
    ) -> None:
        self._shape = tuple(call.out.shape)
        self._view, self._group, self._eps, self._weight = view, group, eps, weight
        self.flops = 8 * math.prod(self._shape)

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        if call is aten.native_group_norm.default:  # on a GPU it refuses images with their channels last
            args = (args[0].contiguous(), *args[1:])
        return super().primal(call, args, kwargs)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        x = args[0].reshape(self._view)
        centred = x - x.mean(self._group, keepdim=True)
        r = (centred.square().mean(self._group, keepdim=True) + self._eps).rsqrt()
        return centred * r, r

    def _project(self, residual: Residual, t: Tensor) -> Tensor:
        xhat, r = residual
        whole = normalize_tangents(t.reshape(t.shape[0], *self._view), xhat, r)
        return whole.reshape(t.shape[0], *self._shape)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        out = self._project(residual, tangents[0])
        return (out if self._weight is None else out.mul_(self._weight),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        u = cotangents[0]
        assert u is not None
        return (self._project(residual, u if self._weight is None else u * self._weight),)


def _plain(call: Call) -> bool:
    """Only the input has a tangent, and weight and bias do not depend on the latents."""
    weight: Operand | None = call["weight"]
    return call.only_active("input") and (weight is None or weight.kind == "constant")


def _weight(call: Call, *shape: int) -> Tensor | None:
    weight: Operand | None = call["weight"]
    return None if weight is None or weight.value is None else weight.value.reshape(shape)


@rule(aten.native_layer_norm.default)
def layer_norm(call: Call) -> Stage | None:
    shape, inner = tuple(call["input"].shape), tuple(call["normalized_shape"])
    outer = len(shape) - len(inner)
    if not _plain(call) or outer == 0:
        return None
    group = tuple(range(outer, len(shape)))
    return Normalisation(call, shape, group, float(call["eps"]), _weight(call, *inner))


@rule(aten.native_group_norm.default)
def group_norm(call: Call) -> Stage | None:
    if not _plain(call):
        return None
    batch, channels, *pixels = call["input"].shape
    view = (batch, int(call["group"]), channels // int(call["group"]), *pixels)
    weight = _weight(call, -1, *(1,) * len(pixels))
    return Normalisation(call, view, tuple(range(2, len(view))), float(call["eps"]), weight)


@rule(
    aten.native_batch_norm.default, aten._native_batch_norm_legit.default, aten.cudnn_batch_norm.default,
    aten._native_batch_norm_legit_no_training.default, aten._native_batch_norm_legit.no_stats,
    aten._batch_norm_no_update.default,
)  # fmt: skip
def batch_norm(call: Call) -> Stage | None:
    if not _plain(call):
        return None
    shape = tuple(call["input"].shape)
    channels = (-1, *(1,) * (len(shape) - 2))
    training = call.arguments.get("training", False) or call.op is aten._native_batch_norm_legit.no_stats
    if training:
        # Statistics of the given batch: of one sample if it is a view [1, B * C, ...] (instance norm).
        if shape[0] != 1:
            return None
        eps = float(call.arguments.get("eps", call.arguments.get("epsilon")))
        return Normalisation(call, shape, tuple(range(2, len(shape))), eps, _weight(call, *channels))
    variance: Operand = call["running_var"]
    if variance.value is None:
        return None
    eps = float(call.arguments.get("eps", call.arguments.get("epsilon")))
    scale = (variance.value + eps).rsqrt()
    if call["weight"] is not None:
        scale = scale * call["weight"].value
    stage = Pointwise(call, fixed=[scale.to(call.out.dtype).reshape(channels)])
    stage.outputs = 1
    return stage
