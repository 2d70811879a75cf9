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


def _differentiable(args: tuple[Any, ...]) -> bool:
    if torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0:
        return True
    return torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
