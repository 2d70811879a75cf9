"""Running somebody's float32 code in float64, and with operations that can be differentiated forward."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.overrides import TorchFunctionMode

_Function = TypeVar("_Function", bound=Callable[..., Any])

_AUTOCAST = ("cpu", "cuda")
_LOW = (torch.float32, torch.float16, torch.bfloat16)
_CASTS = (Tensor.float, Tensor.half, Tensor.bfloat16)


class Float64(TorchFunctionMode):
    """Inside it no operation returns less than float64.

    A copy of a module in float64 is not enough where its forward makes constants (``torch.zeros(...)``) or
    casts (``x.float()``): those would bring float32, and with it the rounding that is to be measured.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        if func in _CASTS:
            func = Tensor.double
        args = tuple(_raised(value) for value in args)
        kwargs = {name: _raised(value) for name, value in (kwargs or {}).items()}
        out = func(*args, **kwargs)
        return out.double() if isinstance(out, Tensor) and out.dtype in _LOW else out


def _raised(value: Any) -> Any:
    return torch.float64 if isinstance(value, torch.dtype) and value in _LOW else value


def in_full_precision(function: _Function) -> _Function:
    """`function` outside of the caller's autocast, whose rounding is not the generator's."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if not any(map(torch.is_autocast_enabled, _AUTOCAST)):  # costs a small network less than leaving none
            return function(*args, **kwargs)
        # Made for every call: one that threads or nested calls share would put back the wrong state.
        with torch.autocast("cpu", enabled=False), torch.autocast("cuda", enabled=False):
            return function(*args, **kwargs)

    return cast(_Function, run)


def in_grad_mode(function: _Function) -> _Function:
    """`function` outside of the caller's ``no_grad`` and ``inference_mode``: derivatives may need a graph."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        if torch.is_grad_enabled() and not torch.is_inference_mode_enabled():  # as above
            return function(*args, **kwargs)
        with torch.inference_mode(False):
            return function(*args, **kwargs)

    return cast(_Function, run)


@contextmanager
def differentiable_attention() -> Iterator[None]:
    """Attention as plain matrix products and softmax.

    The fused CPU attention and the fused transformer layers of torch have no forward-mode derivative.
    """
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with sdpa_kernel(SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
