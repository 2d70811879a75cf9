"""Normalisation layers: fixed scales where the statistics are stored, projections where they are not."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.pointwise import Pointwise
from polarity_sampling.jacobian.stage import Call, Operand, Residual, Stage, rule

aten = torch.ops.aten


def normalize_tangents(t: Tensor, xhat: Tensor, r: Tensor) -> Tensor:
    """``r * (t - mean(t) - xhat * mean(xhat * t))`` over the last dimension; its own transpose.

    Args:
        t: [L, G, N]; xhat: normalised input [G, N]; r: reciprocal standard deviation [G].
    """
    along = (t * xhat).mean(-1, keepdim=True)
    return torch.addcmul(t - t.mean(-1, keepdim=True), xhat, along, value=-1).mul_(r[:, None])


class Normalisation(Stage):
    """``weight * (x - mean) / std + bias`` with statistics of groups of elements of one sample.

    ``groups`` turns the input [*S] into [G, N], one group a row, and ``ungroup`` back. The statistics that
    the operator returns beside its result have no tangent.
    """

    outputs = 1

    def __init__(
        self,
        call: Call,
        groups: Callable[[Tensor], Tensor],
        ungroup: Callable[[Tensor], Tensor],
        eps: float,
        weight_shape: tuple[int, ...] | None,
    ) -> None:
        self._groups, self._ungroup, self._eps = groups, ungroup, eps
        weight = call["weight"]
        self._weight: Tensor | None = None if weight is None else weight.value.reshape(weight_shape)
        self.flops = 8 * math.prod(call.out.shape)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        x = self._groups(args[0])
        centred = x - x.mean(-1, keepdim=True)
        r = (centred.square().mean(-1) + self._eps).rsqrt()
        return centred * r[:, None], r

    def _project(self, residual: Residual, t: Tensor) -> Tensor:
        xhat, r = residual
        rows = self._groups(t.flatten(0, 1)).reshape(t.shape[0], *xhat.shape)
        return self._ungroup(normalize_tangents(rows, xhat, r).flatten(0, 1)).reshape(t.shape)

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


@rule(aten.native_layer_norm.default)
def layer_norm(call: Call) -> Stage | None:
    shape = tuple(call["input"].shape)
    inner = tuple(call["normalized_shape"])
    if not _plain(call) or len(inner) == len(shape):
        return None
    size = math.prod(inner)
    outer = shape[: len(shape) - len(inner)]
    return Normalisation(
        call,
        lambda x: x.reshape(-1, size),
        lambda g: g.reshape(-1, *outer[1:], *inner),
        float(call["eps"]),
        inner,
    )


@rule(aten.native_group_norm.default)
def group_norm(call: Call) -> Stage | None:
    if not _plain(call):
        return None
    shape, groups = tuple(call["input"].shape), int(call["group"])
    return Normalisation(
        call,
        lambda x: x.reshape(x.shape[0] * groups, -1),
        lambda g: g.reshape(-1, *shape[1:]),
        float(call["eps"]),
        (-1, *(1,) * (len(shape) - 2)),
    )


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
        weight = call["weight"]
        return Normalisation(
            call,
            lambda x: x.reshape(x.shape[0] * x.shape[1], -1),
            lambda g: g.reshape(-1, *shape[1:]),
            eps,
            None if weight is None else channels,
        )
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
