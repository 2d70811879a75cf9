"""Operators that act on every element alone: a tangent is multiplied by the derivative there."""

import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

import polarity_ext
from polarity_ext.ops.layout import is_dense
from polarity_sampling.jacobian.stage import Call, Residual, Stage, rule

aten = torch.ops.aten

# What the hand-written ops compute in.
COMPILED = (torch.float32, torch.float64)
# Convolutions to so many channels at most leave them first in memory; others leave them last.
FEW_CHANNELS = 12

Factor = Tensor | float
"""A derivative, broadcast to the shape of the output."""


class Pointwise(Stage):
    """``out = sum of factor_i * tangent_i``, with broadcasting.

    Args:
        call: what this is the derivative of.
        factors: from (args, kwargs, out) of the primal pass, the derivative by every active input.
        fixed: the factors, where they do not depend on the latents.
    """

    def __init__(
        self,
        call: Call,
        factors: Callable[[Sequence[Any], Any, Any], Sequence[Factor]] | None = None,
        fixed: Sequence[Factor] | None = None,
    ) -> None:
        self._factors = factors
        self._setup([tuple(operand.shape) for operand in call.active], tuple(call.out.shape), fixed)

    def _setup(
        self, shapes: list[tuple[int, ...]], shape: tuple[int, ...], fixed: Sequence[Factor] | None
    ) -> None:
        self.shapes, self.shape = shapes, shape
        self.fixed = None if fixed is None else list(fixed)
        self.flops = 2 * len(self.shapes) * math.prod(self.shape)
        plain = fixed is not None and all(isinstance(f, float) and f == 1.0 for f in fixed)
        self.push_shares = plain and len(self.shapes) == 1
        self.pull_shares = plain or (fixed is not None and 1.0 in [f for f in fixed if isinstance(f, float)])
        self.any_batch = (
            fixed is not None
            and len(self.shape) > 0
            and all(shape[:1] == self.shape[:1] and len(shape) == len(self.shape) for shape in self.shapes)
            and not any(isinstance(f, Tensor) and _varies_by_sample(f, self.shape) for f in fixed)
        )
        self.broadcasts = not self.any_batch and all(len(shape) == len(self.shape) for shape in self.shapes)

    @property
    def keeps_shape(self) -> bool:
        """One tensor is multiplied by a factor, nothing is broadcast or added."""
        return self.shapes == [self.shape]

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        if self._factors is None:
            return ()
        # Numbers are kept as tensors, so that a residual is nothing but tensors.
        return tuple(torch.as_tensor(f, dtype=out.dtype) for f in self._factors(args, kwargs, out))

    def factors(self, residual: Residual) -> Sequence[Factor]:
        return residual if self.fixed is None else self.fixed

    def dense(self, residual: Residual) -> Tensor:
        """The factor of the one tensor, as numbers; only where there is a residual."""
        return residual[0]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        total: Tensor | None = None
        for t, factor, shape in zip(tangents, self.factors(residual), self.shapes, strict=True):
            missing = len(self.shape) - len(shape)
            if missing:
                t = t.reshape(t.shape[0], *(1,) * missing, *shape)
            if total is None:
                total = scaled(t, factor, owned)
                own = total is not t or owned
            elif own and total.shape == torch.broadcast_shapes(total.shape, t.shape) and is_dense(total):
                if isinstance(factor, Tensor):
                    total.addcmul_(t, factor.to(total.dtype))
                else:
                    total.add_(t, alpha=factor)
            else:
                total, own = total + scaled(t, factor, False), True
        assert total is not None
        wanted = (total.shape[1], *self.shape[1:]) if self.any_batch else self.shape
        if total.shape[1:] != wanted:
            total = total.expand(-1, *wanted)
        return (total,)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        owned = owned and len(self.shapes) == 1
        found = []
        for factor, shape in zip(self.factors(residual), self.shapes, strict=True):
            part = reduced(scaled(u, factor, owned), shape)
            found.append(part if self.any_batch else part.expand(-1, *shape))
        return found


def _varies_by_sample(factor: Tensor, shape: tuple[int, ...]) -> bool:
    return factor.ndim == len(shape) and factor.shape[:1] != (1,)


def scaled(t: Tensor, factor: Factor, owned: bool) -> Tensor:
    """Tangents [L, *S] times a factor that broadcasts with S; in place where nobody else needs t."""
    if not isinstance(factor, Tensor):
        if factor == 1.0:
            return t
        return t.mul_(factor) if owned and is_dense(t) else t * factor
    if not owned or not is_dense(t):
        return t * factor
    if factor.shape == t.shape[1:] and t.ndim > 1 and is_dense(t, 2) and t.dtype in COMPILED:
        return polarity_ext.scale_tangents_(t, factor)
    fits = torch.broadcast_shapes(t.shape, factor.shape) == t.shape
    return t.mul_(factor) if fits else t * factor


def reduced(u: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Cotangents [L, *out] summed over what was broadcast from ``shape``."""
    extra = u.ndim - 1 - len(shape)
    dims = list(range(1, 1 + extra))
    dims += [1 + extra + i for i, size in enumerate(shape) if size == 1 and u.shape[1 + extra + i] != 1]
    if dims:
        u = u.sum(dims, keepdim=True)
    return u.reshape(u.shape[0], *shape) if extra else u


class Chain(Pointwise):
    """Several scales of one tensor, multiplied once for all probes.

    Args:
        links: stages that keep the shape.
    """

    def __init__(self, links: Sequence[Pointwise]) -> None:
        self.links: list[Pointwise] = [
            part for link in links for part in (link.links if isinstance(link, Chain) else [link])
        ]
        fixed = [link.fixed[0] for link in self.links if link.fixed is not None]
        self._constant = math.prod(fixed[1:], start=fixed[0]) if fixed else 1.0
        everything = len(fixed) == len(self.links)
        super()._setup(self.links[0].shapes, self.links[0].shape, [self._constant] if everything else None)

    def join(self, residuals: Sequence[Residual]) -> Residual:
        pairs = zip(self.links, residuals, strict=True)
        factors = [link.dense(residual) for link, residual in pairs if residual]
        if not factors:
            return ()
        product = math.prod(factors[1:], start=factors[0])
        plain = isinstance(self._constant, float) and self._constant == 1.0
        return (product if plain else product * self._constant,)


def pointwise_stage(call: Call) -> Stage | None:
    """For any operator tagged pointwise: its derivatives by autograd of this operator alone."""
    if len(call.outputs) != 1 or not call.out.dtype.is_floating_point:
        return None
    # Positions of the active inputs among all tensors of the call.
    active = [operand.active for operand in call.operands]
    shape = call.out.shape

    def factors(args: Sequence[Any], kwargs: Any, out: Any) -> Sequence[Factor]:
        leaves, spec = pytree.tree_flatten((list(args), kwargs))
        places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        inputs = []
        with torch.enable_grad():
            for i, is_active in zip(places, active, strict=True):
                if is_active:
                    # A copy for every element of the output makes the sum's gradient the derivative.
                    leaves[i] = leaves[i].detach().expand(shape).requires_grad_()
                    inputs.append(leaves[i])
            args, kwargs = pytree.tree_unflatten(leaves, spec)
            found = call.op(*args, **kwargs)
            if not found.requires_grad:
                return [0.0] * len(inputs)
            grads = torch.autograd.grad(found.sum(), inputs, allow_unused=True)
        return [0.0 if g is None else g for g in grads]

    return Pointwise(call, factors)


class Activation(Pointwise):
    """Value and derivative in one pass over the pre-activation, without cancellation where it saturates."""

    def __init__(self, call: Call, kind: str, alpha: float | None = None) -> None:
        super().__init__(call, lambda args, kwargs, out: ())
        self._kind, self._alpha = kind, alpha

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        value, derivative = polarity_ext.activation(args[0], self._kind, self._alpha)
        return value, (derivative,)


class Rectifier(Pointwise):
    """ReLU and leaky ReLU: the derivative has two values, and one bit for each unit is kept.

    Attributes:
        keeps_bits: False where the derivative itself is kept, for one of many stages in one: `dense`.
        slopes: below zero and above.
        channels_last: bits are in the order of rows, columns, channels, as images lie in memory.
    """

    def __init__(self, call: Call, slope: float) -> None:
        super().__init__(call, lambda args, kwargs, out: ())
        self._slope = slope
        self.keeps_bits = True
        self.slopes = (slope, 1.0)
        self.channels_last = len(self.shape) == 4 and self.shape[1] > FEW_CHANNELS

    def scaled(self, factor: float) -> "Rectifier":
        """With a scale before it or behind it."""
        stage = copy.copy(self)
        stage.slopes = (self.slopes[0] * factor, self.slopes[1] * factor)
        return stage

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        if not self.keeps_bits:
            value, derivative = polarity_ext.activation(args[0], "leaky_relu", self._slope)
            return value, (derivative,)
        value, bits = polarity_ext.rectify(self._in_memory(args[0]), self._slope)
        return self._from_memory(value), (bits,)

    def dense(self, residual: Residual) -> Tensor:
        (derivative,) = residual
        return derivative if self.slopes[1] == 1.0 else derivative * self.slopes[1]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return (self._masked(tangents[0], residual[0], owned),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (self._masked(u, residual[0], owned),)

    def _masked(self, t: Tensor, bits: Tensor, owned: bool) -> Tensor:
        full = t if t.shape[1:] == self.shape else t.expand(-1, *self.shape)
        ordered = self._in_memory(full)
        if owned and full is t and ordered.is_contiguous():
            polarity_ext.mask_tangents_(ordered, bits, *self.slopes)
            return t
        return self._from_memory(polarity_ext.mask_tangents(ordered, bits, *self.slopes))

    def _in_memory(self, t: Tensor) -> Tensor:
        """The dimensions in the order that bits have, which is that of images in memory."""
        return t.movedim(-3, -1) if self.channels_last else t

    def _from_memory(self, t: Tensor) -> Tensor:
        return t.movedim(-1, -3) if self.channels_last else t


def _activation(op: torch._ops.OpOverload, kind: Callable[[Call], tuple[str, float | None] | None]) -> None:
    @rule(op)
    def make(call: Call) -> Stage | None:
        found = kind(call) if call.out.dtype in (torch.float32, torch.float64) else None
        return None if found is None else Activation(call, *found)


@rule(aten.relu.default, aten.leaky_relu.default)
def rectifier(call: Call) -> Stage | None:
    if call.out.dtype not in COMPILED or call.out.ndim == 0:
        return None
    return Rectifier(call, float(call.arguments.get("negative_slope", 0.0)))


_activation(aten.tanh.default, lambda call: ("tanh", None))
_activation(aten.sigmoid.default, lambda call: ("sigmoid", None))
_activation(aten.silu.default, lambda call: ("silu", None))
_activation(aten.gelu.default, lambda call: ("gelu", None) if call["approximate"] == "none" else None)
_activation(
    aten.elu.default,
    lambda call: ("elu", float(call["alpha"])) if call["scale"] == call["input_scale"] == 1 else None,
)


# Pointwise, though torch does not tag it so.
rule(aten.hardswish.default)(pointwise_stage)


@rule(aten._prelu_kernel.default)
def leaky_by_channel(call: Call) -> Stage | None:
    """PReLU, the slopes of which are weights."""
    if not call.only_active("self"):
        return None
    return Pointwise(call, lambda args, kwargs, out: (torch.where(args[0] > 0, 1.0, args[1]),))
