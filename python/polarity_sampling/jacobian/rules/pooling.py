"""Pooling and upsampling of images: fixed linear maps of every image, but for the maximum."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.stage import Call, Map, Residual, Stage, rule

aten = torch.ops.aten


def _folded(
    call: Call, apply: Callable[[Tensor], Tensor], back: Callable[[Tensor, list[int]], Tensor]
) -> Map:
    """A map of every image: probes are folded into the batch."""
    before = tuple(call.active[0].shape)

    def push(t: Tensor) -> Tensor:
        out: Tensor = apply(t.flatten(0, 1)).unflatten(0, t.shape[:2])
        return out

    def pull(u: Tensor) -> Tensor:
        folded = u.flatten(0, 1)
        out: Tensor = back(folded, [folded.shape[0], *before[1:]]).unflatten(0, u.shape[:2])
        return out

    return Map(push, pull, any_batch=True)


class Enlargement(Map):
    """Every pixel repeated ``factor`` times in each direction."""

    def __init__(self, plain: Map, factor: tuple[int, int]) -> None:
        super().__init__(plain.forward, plain.transpose, any_batch=True)
        self.factor = factor


@rule(
    aten.upsample_nearest2d.default,
    aten.upsample_nearest2d.vec,
    aten._upsample_nearest_exact2d.default,
    aten._upsample_nearest_exact2d.vec,
)
def nearest(call: Call) -> Stage:
    plain = _upsampled(call, 2)
    before, after = call.active[0].shape[2:], call.out.shape[2:]
    whole = all(large % small == 0 for small, large in zip(before, after, strict=True))
    scales = call.arguments.get("scale_factors") or [call.arguments.get(n) for n in _SCALES[2]]
    factor = after[0] // before[0], after[1] // before[1]
    as_given = all(scale in (None, float(f)) for scale, f in zip(scales, factor, strict=True))
    return Enlargement(plain, factor) if whole and as_given else plain


def _upsampling(dims: int, name: str) -> None:
    operator = getattr(aten, name)

    @rule(operator.default, operator.vec)
    def make(call: Call) -> Stage:
        return _upsampled(call, dims)


def _upsampled(call: Call, dims: int) -> Map:
    forward = call.op.overloadpacket
    backward = getattr(aten, f"{forward.__name__}_backward")
    size = list(call.out.shape[2:])
    scales = call.arguments.get("scale_factors")
    if scales is None:
        scales = [call.arguments.get(name) for name in _SCALES[dims]]
    corners = [call["align_corners"]] if "align_corners" in call.arguments else []
    return _folded(
        call,
        lambda t: forward(t, size, *corners, *scales),
        lambda u, before: backward(u, size, before, *corners, *scales),
    )


_SCALES = {1: ["scales"], 2: ["scales_h", "scales_w"], 3: ["scales_d", "scales_h", "scales_w"]}
_upsampling(1, "upsample_nearest1d")
_upsampling(3, "upsample_nearest3d")
_upsampling(1, "_upsample_nearest_exact1d")
_upsampling(3, "_upsample_nearest_exact3d")
_upsampling(1, "upsample_linear1d")
_upsampling(2, "upsample_bilinear2d")
_upsampling(2, "upsample_bicubic2d")
_upsampling(3, "upsample_trilinear3d")


@rule(aten.avg_pool2d.default)
def average(call: Call) -> Stage | None:
    if call["self"].ndim != 4:
        return None
    names = ("kernel_size", "stride", "padding", "ceil_mode", "count_include_pad", "divisor_override")
    settings = [call[name] for name in names]
    return _folded(
        call,
        lambda t: aten.avg_pool2d(t, *settings),
        lambda u, before: aten.avg_pool2d_backward(u, u.new_empty(()).expand(before), *settings),
    )


@rule(aten._adaptive_avg_pool2d.default)
def adaptive_average(call: Call) -> Stage | None:
    if call["self"].ndim != 4:
        return None
    size = list(call["output_size"])
    return _folded(
        call,
        lambda t: aten._adaptive_avg_pool2d(t, size),
        lambda u, before: aten._adaptive_avg_pool2d_backward(u, u.new_zeros(()).expand(before)),
    )


class Maximum(Stage):
    """The tangent of the element that was the maximum."""

    outputs = 1

    def __init__(self, call: Call, window: int) -> None:
        self._before, self._after = tuple(call["self"].shape), tuple(call.out.shape)
        self._window = window

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        return (out[1].flatten(-self._window),)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        t = tangents[0].flatten(-self._window)
        index = residual[0].expand(t.shape[0], *residual[0].shape)
        return (t.gather(-1, index).reshape(t.shape[0], *self._after),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        u = cotangents[0]
        assert u is not None
        index = residual[0].expand(u.shape[0], *residual[0].shape)
        lead = self._before[: -self._window]
        whole = u.new_zeros(u.shape[0], *lead, math.prod(self._before[-self._window :]))
        whole.scatter_add_(-1, index, u.flatten(-self._window))
        return (whole.reshape(u.shape[0], *self._before),)


@rule(aten.max_pool2d_with_indices.default, aten.adaptive_max_pool2d.default)
def max_pool2d(call: Call) -> Stage:
    return Maximum(call, 2)


@rule(aten.max_pool3d_with_indices.default)
def max_pool3d(call: Call) -> Stage:
    return Maximum(call, 3)
