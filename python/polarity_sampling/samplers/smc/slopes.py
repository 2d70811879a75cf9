"""The slopes of a generator's activations at given latents, whether modules or functions.

The Jacobian is a product of weights, which are the same everywhere, and of these slopes, which are not: which
units of a ReLU are active, how far a tanh is saturated. One forward pass shows them all.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from polarity_sampling.generator import Generator

# Numbers of a sample or of a layer that are looked at, evenly spread over it; more show nothing new.
ENTRIES = 1 << 12

Key = tuple[int, str, int]
"""Which of the elementwise operators of a forward pass, its name, how many entries it has."""


def forward(
    generator: Generator, z: Tensor, label: Tensor | None, wanted: Container[Key] | None = None
) -> dict[Key, Tensor]:
    """Some entries of the samples and of elementwise operators' slopes, float32 [n, E_i] on the CPU.

    Of operators with one operand, those in `wanted` or all: slopes of a product of two are its operands.
    """
    z, label = generator.inputs(z.to(generator.fixed_dtype), label)
    with torch.no_grad(), _Recorder(len(z)) as recorder:
        samples = generator.flat(z, label)
    found = {(0, "sample", samples.shape[1]): _entries(samples)}
    found |= {key: slope() for key, slope in recorder.slopes.items() if wanted is None or key in wanted}
    # A slope need not be finite everywhere, but a guess must.
    return {key: block.float().cpu().nan_to_num(0.0, 0.0, 0.0) for key, block in found.items()}


class _Recorder(TorchDispatchMode):
    """Remembers what elementwise operators are given that work on something of each latent."""

    def __init__(self, rows: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._rows, self._seen = rows, 0
        self.slopes: dict[Key, Callable[[], Tensor]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        entries = None
        if torch.Tag.pointwise in func.tags:
            self._seen += 1
            if self._is_of_latents(args[0]) and not _tensors([*args[1:], *kwargs.values()]):
                entries = _entries(args[0]).clone()  # the operator may write over it
        out = func(*args, **kwargs)
        if entries is not None and self._is_of_latents(out) and out.shape == args[0].shape:
            name = func._schema.name
            plain = _out_of_place(func)

            def slope() -> Tensor:
                return _slope(lambda x: plain(x, *args[1:], **kwargs), entries)

            self.slopes[self._seen, name, entries.shape[1]] = slope
        return out

    def _is_of_latents(self, value: Any) -> bool:
        return isinstance(value, Tensor) and value.is_floating_point() and value.shape[:1] == (self._rows,)


def _slope(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Of an elementwise function."""
    x.requires_grad_()
    with torch.enable_grad():
        y = function(x)
        return torch.autograd.grad(y.sum(), x)[0] if y.requires_grad else torch.zeros_like(x)


def _entries(values: Tensor) -> Tensor:
    """[n, *] -> [n, E], evenly spread."""
    rows = values.reshape(len(values), -1)
    return rows[:, :: -(-rows.shape[1] // ENTRIES)]


def _tensors(values: list[Any]) -> bool:
    return any(isinstance(value, Tensor) for value in values)


def _out_of_place(func: Any) -> Any:
    """`relu` of `relu_`."""
    space, name = func._schema.name.split("::")
    if not name.endswith("_"):
        return func
    return getattr(getattr(getattr(torch.ops, space), name[:-1]), func._overloadname)
