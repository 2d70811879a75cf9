"""Convolutions of every kind, with tangents in the input, in the weight or in both."""

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.convolution_forms import (
    Form,
    Geometry,
    ToFew,
    Winograd,
    best_form,
    fast_layout,
    form_bytes,
    library,
)
from polarity_sampling.jacobian.rules.pointwise import reduced
from polarity_sampling.jacobian.stage import Call, Operand, Residual, Stage, rule

aten = torch.ops.aten

# As many times the multiplications may two filters take that are made one.
_MORE_TAPS = 2


class Convolution(Stage):
    """Probes are folded into the batch for tangents of the input, into the channels for those of a weight."""

    def __init__(self, call: Call) -> None:
        self.input: Operand = call["input"]
        self._weight: Operand = call["weight"]
        self._bias: Operand | None = call["bias"]
        self.out_shape = tuple(call.out.shape)
        rank = len(self.out_shape) - 2
        self.geometry = Geometry(
            transposed=bool(call["transposed"]),
            stride=_each(call["stride"], rank),
            padding=_each(call["padding"], rank),
            dilation=_each(call["dilation"], rank),
            output_padding=_each(call["output_padding"], rank),
            groups=int(call["groups"]),
            before=tuple(self.input.shape[2:]),
            after=self.out_shape[2:],
        )
        self.weight = None if self._weight.value is None else fast_layout(self._weight.value)
        self._of_primal = self.weight, self.geometry
        self.any_batch = self.weight is not None and not self._bias_active
        pixels = math.prod(self.geometry.before if self.geometry.transposed else self.geometry.after)
        each = 2 * self.input.shape[0] * pixels * math.prod(self._weight.shape)
        self.flops = each * (self.input.active + self._weight.active)

    @property
    def _bias_active(self) -> bool:
        return self._bias is not None and self._bias.active

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        if self._primal is None:
            return super().primal(call, args, kwargs)
        out = self._primal(args[0])
        if args[2] is not None:
            out = out + args[2].reshape(-1, *(1,) * (len(self.out_shape) - 2))
        return out, self.residual(args, kwargs, out)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        kept = []
        if self.input.active and self.weight is None:
            kept.append(fast_layout(args[1]))
        if self._weight.active:
            kept.append(args[0])
        return tuple(kept)

    def scaled(self, factor: Tensor | float) -> "Convolution | None":
        """The convolution followed by a scale of every channel, or None if that is not what the factor is."""
        if self.weight is None or not self.any_batch:
            return None
        if isinstance(factor, Tensor):
            rank = len(self.out_shape)
            shape = (1,) * (rank - factor.ndim) + tuple(factor.shape)
            if any(size != 1 for dim, size in enumerate(shape) if dim != 1):
                return None
            channels = factor.reshape(-1).expand(self.out_shape[1])
            if self.geometry.transposed:
                # [C, O / groups, ...]: rows of one group share their output channels.
                rows = channels.reshape(self.geometry.groups, 1, -1).expand(
                    -1, self.weight.shape[0] // self.geometry.groups, -1
                )
                factor = rows.reshape(*self.weight.shape[:2], *(1,) * (rank - 2))
            else:
                factor = channels.reshape(-1, *(1,) * (rank - 1))
        scaled = copy.copy(self)  # before any form of it was made
        scaled.weight = fast_layout(self.weight * factor)
        return scaled

    def behind(self, factor: tuple[int, int]) -> "Convolution | None":
        """The convolution of an image whose every pixel is first repeated ``factor`` times, or None.

        That is a transposed convolution of the small image, by sums of the weights that meet the same pixel:
        3x3 behind doubling takes 4 multiplications for an output instead of 9.
        """
        g = self.geometry
        if (
            self.weight is None
            or not self.any_batch
            or g.transposed
            or any(size != 1 for size in (*g.stride, *g.dilation))
            or any(p >= k for p, k in zip(g.padding, self.weight.shape[2:], strict=True))
        ):
            return None
        kernel = self.weight.shape[2:]
        flipped = self.weight.flip(2, 3).unflatten(0, (g.groups, -1)).transpose(1, 2).flatten(0, 1)
        wide = flipped.new_zeros(
            *flipped.shape[:2], *(k + f - 1 for k, f in zip(kernel, factor, strict=True))
        )
        for i in range(factor[0]):
            for j in range(factor[1]):
                wide[:, :, i : i + kernel[0], j : j + kernel[1]] += flipped
        stage = copy.copy(self)  # before any form of it was made
        stage.weight = fast_layout(wide)
        stage.geometry = replace(
            g,
            transposed=True,
            stride=factor,
            padding=tuple(k - 1 - p for k, p in zip(kernel, g.padding, strict=True)),
            before=tuple(size // f for size, f in zip(g.before, factor, strict=True)),
        )
        stage.flops = 2 * self.input.shape[0] * math.prod(stage.geometry.before) * wide.numel()
        return stage

    def padded(self, pad: Sequence[int]) -> "Convolution | None":
        """The convolution of an image with zeros around it (pairs, the last dimension's first), or None."""
        g = self.geometry
        margins = tuple(reversed(pad[::2]))
        even = list(pad[::2]) == list(pad[1::2]) and len(margins) == len(g.before) and min(pad) >= 0
        if self.weight is None or not self.any_batch or g.transposed or not even:
            return None
        stage = copy.copy(self)  # before any form of it was made
        stage.geometry = replace(
            g,
            padding=tuple(p + m for p, m in zip(g.padding, margins, strict=True)),
            before=tuple(size - 2 * m for size, m in zip(g.before, margins, strict=True)),
        )
        return stage

    def filtering(self, first: "Convolution") -> "Convolution | None":
        """A filter of every channel behind another one, as one filter; None where that is not what they are.

        Filters of images read and write much more than they multiply: one pass of 4 x 4 taps takes half the
        time of 4 along rows and 4 along columns.
        """
        if self.weight is None or first.weight is None or any(self.geometry.padding):
            return None
        if not (first._filters_images and self._filters_images):
            return None
        a, b = first.weight.double().transpose(0, 1), self.weight.double()
        beyond = [size - 1 for size in b.shape[2:]]
        taps = aten.convolution(
            a, b.flip(2, 3), None, [1, 1], beyond, [1, 1], False, [0, 0], a.shape[1]
        ).transpose(0, 1)
        if taps.numel() > _MORE_TAPS * (a.numel() + b.numel()):
            return None
        stage = copy.copy(self)  # before any form of it was made
        stage.weight = fast_layout(taps.to(self.weight.dtype))
        stage.geometry = replace(self.geometry, padding=first.geometry.padding, before=first.geometry.before)
        stage.flops = 2 * self.input.shape[0] * math.prod(self.geometry.after) * taps.numel()
        return stage

    @property
    def _filters_images(self) -> bool:
        """By a fixed filter for each channel, pixel by pixel."""
        g = self.geometry
        plain = not g.transposed and set(g.stride) == set(g.dilation) == {1}
        return self.any_batch and plain and len(g.before) == 2 and self._weight.shape[:2] == (g.groups, 1)

    def form(self, transposed: bool) -> Form | None:
        """Of tangents or, transposed, of cotangents; None where the weight depends on the latents."""
        return self._backward if transposed else self._forward

    @cached_property
    def _primal(self) -> Form | None:
        weight, geometry = self._of_primal
        return None if weight is None else self._best(weight, geometry)

    @cached_property
    def _forward(self) -> Form | None:
        if self._is_primal:
            return self._primal
        return None if self.weight is None else self._form(self.weight, self.geometry)

    @cached_property
    def _backward(self) -> Form | None:
        return None if self.weight is None else self._form(self.weight, self._adjoint(self.weight))

    def directed(self, transposed: bool) -> Geometry:
        """Of tangents or, transposed, of cotangents; for a fixed weight."""
        assert self.weight is not None
        return self._adjoint(self.weight) if transposed else self.geometry

    def _adjoint(self, weight: Tensor) -> Geometry:
        return self.geometry.adjoint(tuple(weight.shape[2:]))

    @property
    def _is_primal(self) -> bool:
        """Whether tangents go through the convolution of the primal pass, as nothing was made part of it."""
        weight, geometry = self._of_primal
        return self.weight is weight and self.geometry == geometry and self.compute is None

    @property
    def primal_bytes(self) -> int:  # type: ignore[override]
        weight, geometry = self._of_primal
        return 0 if weight is None else weight.nbytes + self._bytes(weight, geometry)

    @property
    def push_bytes(self) -> int:  # type: ignore[override]
        if self.weight is None or self._is_primal:
            return 0
        return self.weight.nbytes + self._bytes(self.weight, self.geometry)

    @property
    def pull_bytes(self) -> int:  # type: ignore[override]
        return 0 if self.weight is None else self._bytes(self.weight, self._adjoint(self.weight))

    def _bytes(self, weight: Tensor, geometry: Geometry) -> int:
        return 0 if self.lean else form_bytes(weight, geometry)

    def _best(self, weight: Tensor, geometry: Geometry) -> Form:
        return (library if self.lean else best_form)(weight, geometry)

    def _form(self, weight: Tensor, geometry: Geometry) -> Form:
        if self.compute is None:
            return self._best(weight, geometry)
        return _rounded(self._best(weight.to(self.compute), geometry), self.compute)

    def _library(self, weight: Tensor, geometry: Geometry) -> Form:
        if self.compute is None:
            return library(weight, geometry)
        return _rounded(library(weight.to(self.compute), geometry), self.compute)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        given, kept = iter(tangents), iter(residual)
        total: Tensor | None = None
        if self.input.active:
            form = self._forward or self._library(next(kept), self.geometry)
            total = _folded(form, next(given))
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
            form = self._backward
            if form is None:
                form = self._library(next(kept), self.geometry.adjoint(tuple(self._weight.shape[2:])))
            found.append(_folded(form, u))
        if self._weight.active:
            found.append(self._pull_to_weight(next(kept), u))
        if self._bias_active:
            sums = reduced(u, (1, self.out_shape[1], *(1,) * (len(self.out_shape) - 2)))
            found.append(sums.reshape(u.shape[0], -1))
        return found

    def _apply_to_weight(self, x: Tensor, t: Tensor) -> Tensor:
        """Tangents of the weight [L, *W] as L times as many output channels of one convolution."""
        g, probes, groups = self.geometry, t.shape[0], self.geometry.groups
        if self.geometry.transposed:
            weight = t.transpose(0, 1).flatten(1, 2)
        else:
            weight = t.unflatten(1, (groups, -1)).transpose(0, 1).flatten(0, 2)
        out = aten.convolution(
            x, weight, None, g.stride, g.padding, g.dilation, g.transposed, g.output_padding, groups
        )  # fmt: skip
        out = out.unflatten(1, (groups, probes, -1)).movedim(2, 0)
        result: Tensor = out.flatten(2, 3)
        return result

    def _pull_to_weight(self, x: Tensor, u: Tensor) -> Tensor:
        g, probes, shape = self.geometry, u.shape[0], self._weight.shape
        groups = g.groups
        gradient = u.unflatten(2, (groups, -1)).movedim(0, 2).flatten(1, 3)
        if self.geometry.transposed:
            wide = (shape[0], probes * shape[1], *shape[2:])
        else:
            wide = (probes * shape[0], *shape[1:])
        template = x.new_zeros(()).expand(wide)
        weight = aten.convolution_backward(
            gradient, x, template, None, g.stride, g.padding, g.dilation, g.transposed,
            g.output_padding, groups, [False, True, False],
        )[1]  # fmt: skip
        if self.geometry.transposed:
            result: Tensor = weight.unflatten(1, (probes, shape[1])).transpose(0, 1)
            return result
        result = weight.unflatten(0, (groups, probes, -1)).transpose(0, 1).flatten(1, 2)
        return result


def _rounded(form: Form, dtype: torch.dtype) -> Form:
    """The form on images rounded to another dtype."""
    return lambda x: form(x.to(dtype)).to(x.dtype)


def _folded(form: Form, t: Tensor) -> Tensor:
    """A convolution of every tangent [L, B, C, *]."""
    if isinstance(form, Winograd | ToFew):
        return form(t)
    out = form(t.flatten(0, 1))
    return out.view(*t.shape[:2], *out.shape[1:])


def _each(value: Sequence[int], rank: int) -> tuple[int, ...]:
    return tuple(value) * rank if len(value) == 1 else tuple(value)


@rule(aten.convolution.default)
def convolution(call: Call) -> Stage | None:
    return Convolution(call) if call["input"].ndim >= 3 else None
