"""Matrix products, with tangents in either factor or in both."""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.pointwise import reduced
from polarity_sampling.jacobian.stage import Call, Operand, Residual, Stage, rule

aten = torch.ops.aten


class Product(Stage):
    """``out = scale * left @ right (+ bias)``, matrices or batches of matrices."""

    def __init__(
        self, call: Call, left: str, right: str, bias: str | None = None, scale: float = 1.0
    ) -> None:
        self.left, self.right = call[left], call[right]
        self._bias: Operand | None = call[bias] if bias else None
        self._scale = scale
        self._bias_scale = float(call.arguments.get("beta", 1.0))
        names = [argument.name for argument in call.op._schema.arguments]
        self._places = names.index(left), names.index(right)
        sides = self.left.active + self.right.active
        self.flops = 2 * sides * math.prod(call.out.shape) * self.left.shape[-1]
        # Rows are samples, the weights are theirs in common.
        self.any_batch = (
            self.left.ndim == 2 and self.left.active and self.right.kind == "constant"
            and not (self._bias is not None and self._bias.active)
        )  # fmt: skip
        self._out_shape = tuple(call.out.shape)
        self.weight: Tensor | None = self.right.value if self.any_batch else None
        """The right factor, where it is fixed and has no tangent."""

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        kept = []
        if self.right.active:
            kept.append(args[self._places[0]])
        if self.left.active and self.weight is None:
            kept.append(args[self._places[1]])
        return tuple(kept)

    def scaled(self, factor: Tensor | float) -> "Product | None":
        """The product followed by a scale of every column, or None if that is not what the factor is."""
        if self.weight is None or (
            isinstance(factor, Tensor) and factor.shape.numel() != factor.shape[-1:].numel()
        ):
            return None
        scaled = copy.copy(self)
        scaled.weight = self.weight * (factor.reshape(-1) if isinstance(factor, Tensor) else factor)
        return scaled

    @property
    def matrix(self) -> Tensor:
        """All that a product with a fixed right factor does."""
        assert self.weight is not None
        return self.weight if self._scale == 1.0 else self.weight * self._scale

    def _right(self, kept: Iterator[Tensor]) -> Tensor | None:
        if self.weight is not None:
            return self.weight
        return next(iter(kept)) if self.left.active else None

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        given, kept = iter(tangents), iter(residual)
        bias = next(given) if self._bias is not None and self._bias.active else None
        left = next(kept) if self.right.active else None
        right = self._right(kept)
        total: Tensor | None = None
        if right is not None:
            total = self._in_compute(times, next(given), right)
        if left is not None:
            other = self._in_compute(times_left, left, next(given))
            total = other if total is None else total.add_(other)
        if self._scale != 1.0 and total is not None:
            total = total.mul_(self._scale)
        if bias is not None:
            missing = len(self._out_shape) - (bias.ndim - 1)
            bias = bias.reshape(bias.shape[0], *(1,) * missing, *bias.shape[1:]) * self._bias_scale
            total = bias.expand(-1, *self._out_shape) if total is None else total.add_(bias)
        assert total is not None
        return (total,)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        kept = iter(residual)
        found = []
        if self._bias is not None and self._bias.active:
            found.append(reduced(u * self._bias_scale, tuple(self._bias.shape)))
        left = next(kept) if self.right.active else None
        right = self._right(kept)
        if right is not None:
            found.append(self._scaled(self._in_compute(times, u, right.mT)))
        if left is not None:
            found.append(self._scaled(self._in_compute(times_left, left.mT, u)))
        return found

    def _in_compute(self, product: Callable[[Tensor, Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        if self.compute is None:
            return product(a, b)
        return product(a.to(self.compute), b.to(self.compute)).to(a.dtype)

    def _scaled(self, product: Tensor) -> Tensor:
        return product if self._scale == 1.0 else product.mul_(self._scale)


def times(t: Tensor, right: Tensor) -> Tensor:
    """Tangents [L, (B,) n, k] times a matrix [(B,) k, m]."""
    if right.ndim == 2:
        rows = t.reshape(-1, t.shape[-1])
        out: Tensor = (rows @ right).unflatten(0, t.shape[:-1])
        return out
    return torch.matmul(t, right)


def times_left(left: Tensor, t: Tensor) -> Tensor:
    """A matrix [(B,) n, k] times tangents [L, (B,) k, m]."""
    return torch.matmul(left, t)


@rule(aten.mm.default)
def mm(call: Call) -> Stage:
    return Product(call, "self", "mat2")


@rule(aten.bmm.default)
def bmm(call: Call) -> Stage:
    return Product(call, "self", "mat2")


@rule(aten.addmm.default)
def addmm(call: Call) -> Stage:
    return Product(call, "mat1", "mat2", "self", float(call["alpha"]))


@rule(aten.baddbmm.default)
def baddbmm(call: Call) -> Stage:
    return Product(call, "batch1", "batch2", "self", float(call["alpha"]))
