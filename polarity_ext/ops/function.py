"""How an op with derivatives of its own is called."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


def apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """``function.apply(*args)``, or its forward alone where nobody can ask for a derivative.

    torch binds the arguments to the signature of the forward at every call, which for a small tensor takes
    several times as long as the op.
    """
    if torch.compiler.is_compiling() or _differentiable(args):
        return function.apply(*args)
    return function.forward(*args)


def is_tracked(*args: Tensor) -> bool:
    """Whether any of them is being differentiated."""
    if not _differentiable(args):
        return False
    recorded = torch.is_grad_enabled() and any(arg.requires_grad for arg in args)
    return recorded or any(forward_ad.unpack_dual(arg).tangent is not None for arg in args)


def refuse_derivatives(name: str, *args: Tensor) -> None:
    """Raises RuntimeError where a derivative may be asked of an op ``name``_ in place, which has none."""
    if not _differentiable(args):
        return
    dual = any(forward_ad.unpack_dual(arg).tangent is not None for arg in args)
    if dual or torch._C._are_functorch_transforms_active():
        raise RuntimeError(
            f"{name}_: called under torch.func or forward-mode differentiation, of which it knows nothing; "
            f"use {name}"
        )
    if torch.is_grad_enabled() and any(arg.requires_grad for arg in args):
        raise RuntimeError(
            f"{name}_: an argument requires a gradient and this op has none; use {name}, or call it under "
            "torch.no_grad()"
        )


def _differentiable(args: tuple[Any, ...]) -> bool:
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
