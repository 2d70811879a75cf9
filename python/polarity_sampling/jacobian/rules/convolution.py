"""Convolutions of every kind, with tangents in the input, in the weight or in both."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.pointwise import reduced
from polarity_sampling.jacobian.stage import Call, Operand, Residual, Stage, rule

aten = torch.ops.aten


class Convolution(Stage):
    """Probes are folded into the batch for tangents of the input, into the channels for those of a weight."""

    def __init__(self, call: Call) -> None:
        self.input: Operand = call["input"]
        self._weight: Operand = call["weight"]
        self._bias: Operand | None = call["bias"]
        self.transposed, self.groups = bool(call["transposed"]), int(call["groups"])
        rank = self.input.ndim - 2
        self.stride, self.padding, self.dilation, self.output_padding = (
            _each(call[name], rank) for name in ("stride", "padding", "dilation", "output_padding")
        )
        self.out_shape = tuple(call.out.shape)
        self.weight = None if self._weight.value is None else fast_layout(self._weight.value)
        self._primal_weight = self.weight
        self.any_batch = self.weight is not None and not self._bias_active
        pixels = math.prod(self.input.shape[2:] if self.transposed else self.out_shape[2:])
        each = 2 * self.input.shape[0] * pixels * math.prod(self._weight.shape)
        self.flops = each * (self.input.active + self._weight.active)

    @property
    def _bias_active(self) -> bool:
        return self._bias is not None and self._bias.active

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        if self._primal_weight is not None:
            args = (args[0], self._primal_weight, *args[2:])
        return super().primal(call, args, kwargs)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        kept = []
        if self.input.active and self.weight is None:
            kept.append(fast_layout(args[1]))
        if self._weight.active:
            kept.append(args[0])
        return tuple(kept)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        given, kept = iter(tangents), iter(residual)
        total: Tensor | None = None
        if self.input.active:
            weight = self.weight if self.weight is not None else next(kept)
            total = self.apply(next(given), weight)
        if self._weight.active:
            other = self._apply_to_weight(next(kept), next(given))
            total = other if total is None else total.add_(other)
        if self._bias_active:
            bias = next(given)
            bias = bias.reshape(bias.shape[0], 1, -1, *(1,) * (len(self.out_shape) - 2))
            total = bias.expand(-1, *self.out_shape) if total is None else total.add_(bias)
        assert total is not None
        return (total,)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        kept = iter(residual)
        found = []
        if self.input.active:
            weight = self.weight if self.weight is not None else next(kept)
            found.append(self.apply_transposed(u, weight))
        if self._weight.active:
            found.append(self._pull_to_weight(next(kept), u))
        if self._bias_active:
            sums = reduced(u, (1, self.out_shape[1], *(1,) * (len(self.out_shape) - 2)))
            found.append(sums.reshape(u.shape[0], -1))
        return found

    def apply(self, t: Tensor, weight: Tensor) -> Tensor:
        out = aten.convolution(
            t.flatten(0, 1), weight, None, self.stride, self.padding, self.dilation, self.transposed,
            self.output_padding, self.groups,
        )  # fmt: skip
        result: Tensor = out.unflatten(0, t.shape[:2])
        return result

    def apply_transposed(self, u: Tensor, weight: Tensor) -> Tensor:
        """The transpose of a convolution is a transposed convolution by the same weight, and conversely."""
        before = self.input.shape[2:]
        reach = [d * (k - 1) for d, k in zip(self.dilation, weight.shape[2:], strict=True)]
        smallest = [
            (size - 1) * s - 2 * p + r + 1
            for size, s, p, r in zip(self.out_shape[2:], self.stride, self.padding, reach, strict=True)
        ]
        missing = [0] * len(reach)
        if not self.transposed:
            missing = [size - least for size, least in zip(before, smallest, strict=True)]
        out: Tensor = aten.convolution(
            u.flatten(0, 1), weight, None, self.stride, self.padding, self.dilation, not self.transposed,
            missing, self.groups,
        )  # fmt: skip
        for dim, size in enumerate(before):  # an output padding may reach beyond a stride
            out = out if out.shape[2 + dim] == size else out.narrow(2 + dim, 0, size)
        result: Tensor = out.unflatten(0, u.shape[:2])
        return result

    def _apply_to_weight(self, x: Tensor, t: Tensor) -> Tensor:
        """Tangents of the weight [L, *W] as L times as many output channels of one convolution."""
        probes, groups = t.shape[0], self.groups
        if self.transposed:
            weight = t.transpose(0, 1).flatten(1, 2)
        else:
            weight = t.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
        out = aten.convolution(
            x, weight, None, self.stride, self.padding, self.dilation, self.transposed,
            self.output_padding, groups,
        )  # fmt: skip
        out = out.unflatten(1, (groups, probes, -1)).movedim(2, 0)
        result: Tensor = out.flatten(2, 3)
        return result

    def _pull_to_weight(self, x: Tensor, u: Tensor) -> Tensor:
        probes, groups, shape = u.shape[0], self.groups, self._weight.shape
        gradient = u.unflatten(2, (groups, -1)).movedim(0, 2).flatten(1, 3)
        if self.transposed:
            wide = (shape[0], probes * shape[1], *shape[2:])
        else:
            wide = (probes * shape[0], *shape[1:])
        template = x.new_zeros(()).expand(wide)
        weight = aten.convolution_backward(
            gradient, x, template, None, self.stride, self.padding, self.dilation, self.transposed,
            self.output_padding, groups, [False, True, False],
        )[1]  # fmt: skip
        if self.transposed:
            result: Tensor = weight.unflatten(1, (probes, shape[1])).transpose(0, 1)
            return result
        result = weight.unflatten(0, (groups, probes, -1)).transpose(0, 1).flatten(1, 2)
        return result


def fast_layout(t: Tensor) -> Tensor:
    """Images with their channels last; the layout of a weight decides that of the output."""
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def _each(value: Sequence[int], rank: int) -> list[int]:
    return list(value) * rank if len(value) == 1 else list(value)


@rule(aten.convolution.default)
def convolution(call: Call) -> Stage | None:
    return Convolution(call) if call["input"].ndim >= 3 else None
