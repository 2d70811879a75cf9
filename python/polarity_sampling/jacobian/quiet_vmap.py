"""`torch.func.vmap` without a word about operators that it runs one by one."""

from collections.abc import Callable
from typing import Any

import torch
from torch.func import vmap


def quiet_vmap(function: Callable[..., Any]) -> Callable[..., Any]:
    """``vmap(function)``.

    Torch would say at every call, past Python's filters, what `J.explain()` says once.
    """
    mapped = vmap(function)
    warn: Callable[[bool], None] = torch._C._functorch._set_vmap_fallback_warning_enabled  # type: ignore[attr-defined]

    def run(*args: Any) -> Any:
        warn(False)
        try:
            return mapped(*args)
        finally:
            warn(True)  # the default; it cannot be asked

    return run
