"""Running somebody's float32 code in float64, and with operations that can be differentiated forward."""

import functools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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


class _GpuSwitches:
    """Convolutions and matrix products of a GPU in full float32, and the same bits in every run.

    By default torch rounds the operands of float32 convolutions to TF32, 10 bits, and cuDNN adds up some of
    them in the order in which threads finish. The switches are the process's, so the first call that comes
    sets them, and the last one that leaves puts back what it found.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._found: tuple[list[str], bool] = [], False

    @contextmanager
    def exact(self) -> Iterator[None]:
        with self._lock:
            if self._inside == 0:
                self._found = fp32_precisions(), torch.backends.cudnn.deterministic
                _switch(["ieee"] * len(fp32_kinds()), deterministic=True)
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    _switch(*self._found)


def fp32_kinds() -> list[Any]:
    """Where torch says how float32 numbers are multiplied on a GPU; not by the older ``allow_tf32``.

    Reading that is an error where the user has set these.
    """
    backends: Any = torch.backends
    return [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]


def fp32_precisions() -> list[str]:
    """How they are multiplied now."""
    return [kind.fp32_precision for kind in fp32_kinds()]


def set_fp32_precisions(precisions: list[str]) -> None:
    """For every one of `fp32_kinds`: "ieee", "tf32", or "none", which leaves it to torch."""
    for kind, precision in zip(fp32_kinds(), precisions, strict=True):
        kind.fp32_precision = precision


def _switch(precisions: list[str], deterministic: bool) -> None:
    set_fp32_precisions(precisions)
    torch.backends.cudnn.deterministic = deterministic


_gpu_switches = _GpuSwitches()


def in_full_precision(function: _Function) -> _Function:
    """`function` outside of the caller's autocast and TF32, whose rounding is not the generator's."""

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        autocast = any(map(torch.is_autocast_enabled, _AUTOCAST))
        on_gpu = torch.cuda.is_initialized()
        if not autocast and not on_gpu:  # costs a small network less than leaving none
            return function(*args, **kwargs)
        # Made for every call: one that threads or nested calls share would put back the wrong state.
        with (
            torch.autocast("cpu", enabled=False),
            torch.autocast("cuda", enabled=False),
            _gpu_switches.exact() if on_gpu else nullcontext(),
        ):
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
