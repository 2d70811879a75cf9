"""Activation and its derivative in one pass, accurate where the activation saturates."""

import math
from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply
from polarity_ext.ops.layout import is_dense

# Names in the order of csrc/kernels/activation.h, with the default of their parameter alpha
# (None: the activation has no parameter).
ACTIVATIONS: dict[str, float | None] = {
    "relu": None,
    "leaky_relu": 0.01,  # slope left of zero
    "tanh": None,
    "sigmoid": None,
    "silu": None,
    "gelu": None,
    "softplus": 1.0,  # beta
    "elu": 1.0,  # minus the limit at -infinity
}
_CODES = {name: code for code, name in enumerate(ACTIVATIONS)}
_NAMES = list(ACTIVATIONS)


@torch.library.register_fake("polarity::activation")
def _fake(x: Tensor, kind: int, alpha: float) -> tuple[Tensor, Tensor]:
    if is_dense(x):
        return torch.empty_like(x), torch.empty_like(x)
    return x.new_empty(x.shape), x.new_empty(x.shape)


def second_derivative(x: Tensor, kind: str, alpha: float) -> Tensor:
    """f''(x), composed of differentiable torch ops and without cancellation in the tails."""
    if kind in ("relu", "leaky_relu"):
        return torch.zeros_like(x)
    if kind == "elu":
        return torch.where(x > 0, 0.0, alpha * torch.exp(torch.clamp(x, max=0.0)))
    if kind == "gelu":
        return torch.exp(-0.5 * x * x) * ((2.0 - x * x) / math.sqrt(2.0 * math.pi))
    if kind == "tanh":
        return -8.0 * torch.tanh(x) * torch.sigmoid(2.0 * x) * torch.sigmoid(-2.0 * x)
    if kind == "softplus":
        return alpha * torch.sigmoid(alpha * x) * torch.sigmoid(-alpha * x)
    slope = torch.sigmoid(x) * torch.sigmoid(-x)
    if kind == "sigmoid":
        return -slope * torch.tanh(0.5 * x)
    assert kind == "silu"
    return slope * (2.0 - x * torch.tanh(0.5 * x))


class _Activation(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, kind: int, alpha: float) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.polarity.activation(x, kind, alpha)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, int, float], output: tuple[Tensor, Tensor]) -> None:
        x, kind, alpha = inputs
        ctx.kind, ctx.alpha = _NAMES[kind], alpha
        ctx.save_for_backward(x, output[1])
        ctx.save_for_forward(x, output[1])

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_derivative: Tensor) -> tuple[Tensor, None, None]:
        x, derivative = ctx.saved_tensors
        return grad_y * derivative + grad_derivative * second_derivative(x, ctx.kind, ctx.alpha), None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _kind: None, _alpha: None) -> tuple[Tensor, Tensor]:
        x, derivative = ctx.saved_tensors
        return tangent * derivative, tangent * second_derivative(x, ctx.kind, ctx.alpha)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, None, None], x: Tensor, kind: int, alpha: float
    ) -> tuple[tuple[Tensor, Tensor], tuple[int | None, int | None]]:
        return apply(_Activation, x, kind, alpha), (in_dims[0], in_dims[0])


def code_and_alpha(kind: str, alpha: float | None) -> tuple[int, float]:
    """What the raw op takes for a kind by name and an alpha that may be left out."""
    if kind not in ACTIVATIONS:
        raise ValueError(f"activation: kind is {kind!r}; expected one of {', '.join(ACTIVATIONS)}")
    default = ACTIVATIONS[kind]
    if alpha is None:
        alpha = 0.0 if default is None else default
    elif default is None:
        raise ValueError(f"activation: {kind} takes no alpha, got {alpha}; leave it out")
    if not math.isfinite(alpha) or (kind == "softplus" and alpha <= 0):
        positive = ", > 0 for softplus" if kind == "softplus" else ""
        raise ValueError(f"activation: alpha is {alpha}; expected a finite number{positive}")
    return _CODES[kind], float(alpha)


def activation(x: Tensor, kind: str, alpha: float | None = None) -> tuple[Tensor, Tensor]:
    """``(f(x), f'(x))`` of an activation, each to a few units in the last place.

    Derivatives are formed without cancellation: the one of tanh is sech^2 from the pre-activation, not
    ``1 - tanh(x)**2``, which has no correct digit left where tanh saturates. At kinks the left derivative
    is taken, as torch does; at infinities the limit. Both outputs are differentiable (backward, jvp, vmap).

    Args:
        x: any shape, float32 or float64.
        kind: one of `ACTIVATIONS`: relu, leaky_relu, tanh, sigmoid, silu, gelu (exact), softplus, elu.
        alpha: slope of leaky_relu (0.01), beta of softplus (1), alpha of elu (1); other kinds have none.

    Returns:
        y and derivative, shaped like x, and laid out like it where x is dense (channels last, say).

    Raises:
        ValueError: unknown kind, alpha given to a kind without one, not finite, or <= 0 for softplus.
        RuntimeError: x is not float32/float64.
    """
    code, alpha = code_and_alpha(kind, alpha)
    out: tuple[Tensor, Tensor] = apply(_Activation, x, code, alpha)
    return out
