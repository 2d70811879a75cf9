"""In which precision a product is formed; asked for by request, never a global setting."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import torch

from polarity_sampling.precision import fp32_kinds

Precision = Literal["fp32", "tf32", "bf16"]
"""Of the multiplications of tangents by weights."""
Primal = Literal["working", "float64"]
"""Of the forward pass that decides masks and slopes."""


def check_precision(precision: str, dtype: torch.dtype, device: torch.device) -> None:
    """Raises ValueError unless the precision is known and can be had."""
    if precision not in ("fp32", "tf32", "bf16"):
        raise ValueError(f"precision is {precision!r}; expected 'fp32', 'tf32' or 'bf16'")
    if precision != "fp32" and dtype != torch.float32:
        raise ValueError(f"precision is {precision!r}, but the generator computes in {dtype}; use 'fp32'")
    if precision == "tf32" and device.type != "cuda":
        raise ValueError(f"precision is 'tf32', which only CUDA devices have, not '{device}'; use 'fp32'")


def check_primal(primal: str) -> None:
    """Raises ValueError unless it is one of `Primal`."""
    if primal not in ("working", "float64"):
        raise ValueError(f"primal is {primal!r}; expected 'working' or 'float64'")


def compute_dtype(precision: Precision) -> torch.dtype | None:
    """Of matrix products and convolutions; None for that of the tangents."""
    return torch.bfloat16 if precision == "bf16" else None


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """TF32 where it was asked for, within functions that are `in_full_precision`."""
    if precision != "tf32":
        yield
        return
    kinds = fp32_kinds()
    before = [kind.fp32_precision for kind in kinds]
    for kind in kinds:
        kind.fp32_precision = "tf32"
    try:
        yield
    finally:
        for kind, precision_before in zip(kinds, before, strict=True):
            kind.fp32_precision = precision_before
