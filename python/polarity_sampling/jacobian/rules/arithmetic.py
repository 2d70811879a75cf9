"""Sums, differences, products and quotients of tensors and numbers."""

from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.rules.pointwise import Factor, Pointwise
from polarity_sampling.jacobian.rules.style import Modulation
from polarity_sampling.jacobian.stage import Call, Operand, Stage, rule

aten = torch.ops.aten


def constant(value: Any) -> Factor | None:
    """An argument as a factor, if it does not depend on the latents."""
    if isinstance(value, Operand):
        return value.value if value.kind == "constant" else None
    return float(value)


@rule(
    aten.clone.default, aten.alias.default, aten.lift_fresh_copy.default, aten.positive.default,
    aten.contiguous.default,
)  # fmt: skip
def identity(call: Call) -> Stage:
    return Pointwise(call, fixed=[1.0])


@rule(aten.neg.default)
def negative(call: Call) -> Stage:
    return Pointwise(call, fixed=[-1.0])


@rule(aten.add.Tensor, aten.add.Scalar, aten.sub.Tensor, aten.sub.Scalar)
def add(call: Call) -> Stage:
    sign = -1.0 if call.op in (aten.sub.Tensor, aten.sub.Scalar) else 1.0
    second = [sign * float(call["alpha"])] * _is_active(call["other"])
    return Pointwise(call, fixed=[1.0] * _is_active(call["self"]) + second)


@rule(aten.rsub.Scalar, aten.rsub.Tensor)
def subtract_from(call: Call) -> Stage:
    first = [-float(call["alpha"])] * _is_active(call["self"])
    return Pointwise(call, fixed=first + [1.0] * _is_active(call["other"]))


@rule(aten.mul.Tensor, aten.mul.Scalar)
def multiply(call: Call) -> Stage:
    first, second = call["self"], call["other"]
    if _is_active(first) and _is_active(second):
        if Modulation.fits(call):
            return Modulation(call)
        return Pointwise(call, lambda args, kwargs, out: (args[1], args[0]))
    place = 1 if _is_active(first) else 0
    fixed = constant((first, second)[place])
    if fixed is not None:
        return Pointwise(call, fixed=[fixed if not isinstance(fixed, Tensor) else fixed.to(call.out.dtype)])
    return Pointwise(call, lambda args, kwargs, out: (args[place],))


@rule(aten.div.Tensor, aten.div.Scalar)
def divide(call: Call) -> Stage | None:
    if _is_active(call["other"]):
        return None
    fixed = constant(call["other"])
    if fixed is not None:
        inverse = fixed.to(call.out.dtype).reciprocal() if isinstance(fixed, Tensor) else 1.0 / fixed
        return Pointwise(call, fixed=[inverse])
    return Pointwise(call, lambda args, kwargs, out: (args[1].reciprocal(),))


@rule(aten.pow.Tensor_Scalar)
def power(call: Call) -> Stage | None:
    exponent = float(call["exponent"])
    if exponent == 0.0:  # not 0 * x**-1
        return None
    return Pointwise(call, lambda args, kwargs, out: (exponent * args[0] ** (exponent - 1.0),))


@rule(aten.rsqrt.default)
def inverse_root(call: Call) -> Stage:
    return Pointwise(call, lambda args, kwargs, out: (-0.5 * out**3,))


def _is_active(value: Any) -> bool:
    return isinstance(value, Operand) and value.active
