"""How much memory one tangent of one latent takes while it travels through a generator."""

import math
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from polarity_sampling.generator import Generator, Version

# Alive at once around the widest operation: input tangent, output tangent, and a temporary of each
# (layout conversion of a convolution, product of a nonlinearity).
LIVE = 4


class _OutputSizes(TorchDispatchMode):
    """Records the bytes of every tensor that an operation returns, in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.bytes: list[int] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, tuple | list) else (out,):
            if isinstance(leaf, Tensor):
                self.bytes.append(math.prod(leaf.shape) * leaf.element_size())
        return out


_known: "weakref.WeakKeyDictionary[nn.Module, tuple[Version, torch.dtype, int]]" = weakref.WeakKeyDictionary()


def bytes_per_tangent(generator: Generator, z: Tensor, label: Tensor | None) -> int:
    """Bytes for one probe of one latent on its way through the module."""
    return LIVE * widest_tangent(generator, z, label)


def widest_tangent(generator: Generator, z: Tensor, label: Tensor | None) -> int:
    """Bytes of the widest intermediate of a forward pass, for one latent."""
    version = generator.version()
    kept = _known.get(generator.module)
    if kept is None or kept[:2] != (version, z.dtype):
        one, two = (_output_sizes(generator, z, label, batch) for batch in (1, 2))
        # What grows with the batch is an activation; what does not is a view or product of weights.
        widest = max((b - a for a, b in zip(one, two, strict=False)), default=0)
        kept = (version, z.dtype, max(1, widest))
        _known[generator.module] = kept
    return kept[2]


def _output_sizes(generator: Generator, z: Tensor, label: Tensor | None, batch: int) -> list[int]:
    labels = None if label is None else label[:1].expand(batch)
    sizes = _OutputSizes()
    with torch.no_grad(), sizes:
        generator.flat(z[:1].expand(batch, -1), labels)
    return sizes.bytes
