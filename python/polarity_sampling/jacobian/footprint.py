"""What one forward pass tells of a generator: the size of its samples and of what lies in between."""

import math
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from polarity_sampling.generator import Generator, Version

# Alive at once around the widest operation: input tangent, output tangent, and a temporary of each
# (layout conversion of a convolution, product of a nonlinearity).
_LIVE = 4


@dataclass(frozen=True)
class Footprint:
    dim_out: int
    """D, the size of one flattened sample."""
    dtype: torch.dtype
    """Of samples."""
    widest: int
    """Bytes of the widest intermediate of one latent."""
    narrowest: int
    """Numbers in the narrowest one."""

    @property
    def bytes_per_tangent(self) -> int:
        """For one probe of one latent on its way through the module."""
        return _LIVE * self.widest


class _OutputSizes(TorchDispatchMode):
    """Records how many numbers every tensor has that an operation returns, and the bytes of one; in order."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.found: list[tuple[int, int]] = []

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for leaf in out if isinstance(out, tuple | list) else (out,):
            if isinstance(leaf, Tensor):
                self.found.append((math.prod(leaf.shape), leaf.element_size()))
        return out


_known: "weakref.WeakKeyDictionary[nn.Module, tuple[Version, torch.dtype, Footprint]]" = (
    weakref.WeakKeyDictionary()
)


def footprint(generator: Generator, z: Tensor, label: Tensor | None) -> Footprint:
    """Measured once for every state of the weights, by two forward passes of one and two latents."""
    version = generator.version()
    kept = _known.get(generator.module)
    if kept is None or kept[:2] != (version, z.dtype):
        one, two = _OutputSizes(), _OutputSizes()
        _run(generator, z, label, 1, one)
        samples = _run(generator, z, label, 2, two)
        # What grows with the batch is an activation; what does not is a view or product of weights.
        pairs = zip(one.found, two.found, strict=False)
        grown = [(b[0] - a[0], b[1]) for a, b in pairs if b[0] > a[0]] or [(1, 1)]
        widest, narrowest = max(count * size for count, size in grown), min(count for count, _ in grown)
        kept = (version, z.dtype, Footprint(samples.shape[1], samples.dtype, widest, narrowest))
        _known[generator.module] = kept
    return kept[2]


def _run(generator: Generator, z: Tensor, label: Tensor | None, batch: int, sizes: _OutputSizes) -> Tensor:
    labels = None if label is None else label[:1].expand(batch)
    with torch.no_grad(), sizes:
        return generator.flat(z[:1].expand(batch, -1), labels)
