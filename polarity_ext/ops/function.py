"""How an op with derivatives of its own is called."""

import threading
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad


class _Thread(threading.local):
    no_derivatives = False


_thread = _Thread()


class no_derivatives:
    """Inside, ops of this thread take for granted that nobody asks for a derivative.

    Behind a large kernel, which has emptied the caches, these questions take as long as a small op: a program
    of many ops asks them once. Where the answer is yes, this changes nothing.

    Args:
        promise: False: ops ask again, within a block in which they would not.
    """

    def __init__(self, promise: bool = True) -> None:
        self._promise = promise

    def __enter__(self) -> None:
        self._before = _thread.no_derivatives
        _thread.no_derivatives = self._promise and not torch.is_grad_enabled() and not _transformed()

    def __exit__(self, *_: object) -> None:
        _thread.no_derivatives = self._before


def apply(function: type[torch.autograd.Function], *args: Any) -> Any:
    """``function.apply(*args)``, or its forward alone where nobody can ask for a derivative.

    torch binds the arguments to the signature of the forward at every call, which for a small tensor takes
    several times as long as the op.
    """
    if differentiable(*args):
        return function.apply(*args)
    return function.forward(*args)


def differentiable(*args: Any) -> bool:
    """Whether somebody may ask for a derivative, or torch.compile for one of its graph."""
    return not _thread.no_derivatives and (torch.compiler.is_compiling() or _differentiable(args))


def is_tracked(*args: Tensor) -> bool:
    """Whether any of them is being differentiated."""
    if _thread.no_derivatives or not _differentiable(args):
        return False
    recorded = torch.is_grad_enabled() and any(arg.requires_grad for arg in args)
    return recorded or any(forward_ad.unpack_dual(arg).tangent is not None for arg in args)


def refuse_derivatives(name: str, *args: Tensor) -> None:
    """Raises RuntimeError where a derivative may be asked of an op ``name``_ in place, which has none."""
    if _thread.no_derivatives or not _differentiable(args):
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


def was_written(t: Tensor) -> None:
    """Tells whoever saved t for a backward pass that an op in place has changed it."""
    if _thread.no_derivatives or torch.compiler.is_compiling():  # a compiled graph knows by the schema
        return
    if not t.is_inference():
        torch.autograd.graph.increment_version(t)


def _differentiable(args: tuple[Any, ...]) -> bool:
    if _transformed():
        return True
    return torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)


def _transformed() -> bool:
    return torch._C._are_functorch_transforms_active() or forward_ad._current_level >= 0
