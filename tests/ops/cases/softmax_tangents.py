"""softmax_tangents: short and long rows, in units of rounding."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import (
    Case,
    Inputs,
    Layout,
    Op,
    Outputs,
    as_is,
    f32,
    f64,
    in_roundings,
    offset,
    strided,
)


def of_magnitudes(got: Outputs, expected: Outputs, t: Tensor, y: Tensor) -> float:
    """In eps y (|t| + y . |t|)."""
    t, y = t.double(), y.double()
    unit = y * (t.abs() + (y * t.abs()).sum(-1, keepdim=True))
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = f32,
    t: Layout = as_is,
    y: Layout = as_is,
    perf: bool = False,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        value = torch.randn(shape[1:], generator=g, dtype=f64).softmax(-1).to(dtype)
        return t(torch.randn(shape, generator=g, dtype=dtype)), y(value)

    elements, sample = math.prod(shape), math.prod(shape[1:])
    return Case(name, make, 4 * elements, (2 * elements + sample) * dtype.itemsize, 12.0, perf)


def rows() -> Iterator[Case]:
    for dtype in (f32, f64):
        yield row(f"attention {dtype}", (3, 2, 4, 5, 16), dtype)
        yield row(f"ragged {dtype}", (3, 5, 37), dtype)
        yield row(f"storage offset {dtype}", (3, 4, 64), dtype, t=offset, y=offset)
        yield row(f"long {dtype}", (2, 3, 4100), dtype)
        yield row(f"long, ragged {dtype}", (2, 2, 4101), dtype)
    for size in (1, 3, 33, 1024, 1025, 9000):  # a warp, a block; chunks of sums
        yield row(f"N={size}", (2, 2, size))
    yield row("one row", (3, 8))
    yield row("t strided", (3, 4, 50), t=strided)
    yield row("y strided", (3, 4, 50), y=strided)
    yield row("t expanded", (3, 4, 50), t=lambda t: t[:1].expand_as(t))
    yield row("samples outside", (6, 4, 64), t=lambda t: t.transpose(0, 1).contiguous().transpose(0, 1))
    yield row("no probes", (0, 3, 5))
    yield row("no rows", (3, 0, 5))
    yield row("empty rows", (3, 4, 0))
    yield row("attention: L=32 2x4 heads 64x64", (32, 2, 4, 64, 64), perf=True)
    yield row("long rows: L=8 64 of 4096", (8, 64, 4096), perf=True)


SOFTMAX_TANGENTS = Op(
    "softmax_tangents",
    run=lambda ops, t, y: (ops.softmax_tangents(t, y),),
    reference=lambda t, y: (ref.softmax_tangents_ref(t, y),),
    error=of_magnitudes,
    composed=lambda t, y: y * (t - (y * t).sum(-1, keepdim=True)),
    cases=list(rows()),
    gpu_cases=[
        row("attention: L=32 4x8 heads 256x256", (32, 4, 8, 256, 256)),
        row("long rows: L=16 1024 of 4096", (16, 1024, 4096)),
    ],
)
