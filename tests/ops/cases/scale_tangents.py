"""scale_tangents and its in-place twin: the correctly rounded product, in every layout."""

import math
from collections.abc import Iterator
from typing import Any

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
    channels_last,
    f32,
    f64,
    offset,
    samples_outside,
    strided,
)


def apart(x: Tensor) -> Tensor:
    """A gap of one number after each sample."""
    return torch.nn.functional.pad(x, (0, 1))[..., :-1]


def first_expanded(x: Tensor) -> Tensor:
    return x[:1].expand_as(x)


def wrongly_rounded(got: Outputs, expected: Outputs, *_: Any) -> float:
    """How many numbers are not the rounded product (NaN is NaN's)."""
    return float((~torch.isclose(got[0].cpu(), expected[0], rtol=0, atol=0, equal_nan=True)).sum())


def row(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = f32,
    t: Layout = as_is,
    d: Layout = as_is,
    perf: bool = False,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        tangents = torch.randn(shape, generator=g, dtype=dtype)
        return t(tangents), d(torch.randn(shape[1:], generator=g, dtype=dtype))

    elements, factors = math.prod(shape), math.prod(shape[1:])
    return Case(name, make, elements, (2 * elements + factors) * dtype.itemsize, tolerance=0, perf=perf)


def rows() -> Iterator[Case]:
    images = (9, 2, 3, 5, 7)
    for dtype in (f32, f64):
        yield row(f"flat {dtype}", (5, 3, 37), dtype)
        yield row(f"images {dtype}", images, dtype)
        yield row(f"channels last {dtype}", images, dtype, t=channels_last, d=channels_last)
        yield row(f"t channels last {dtype}", images, dtype, t=channels_last)
        yield row(f"d channels last {dtype}", images, dtype, d=channels_last)
        yield row(f"storage offset {dtype}", (4, 3, 130), dtype, t=offset, d=offset)
        # Samples of a multiple of four: CUDA takes vectors, unless something is not aligned.
        yield row(f"vectors {dtype}", (9, 3, 64), dtype)
        yield row(f"t off a boundary {dtype}", (4, 3, 64), dtype, t=offset)
        yield row(f"d off a boundary {dtype}", (4, 3, 64), dtype, d=offset)
        yield row(f"t apart {dtype}", (4, 4, 64), dtype, t=apart)
        yield row(f"d apart {dtype}", (4, 4, 64), dtype, d=apart)
    yield row("more than a piece", (3, 2, 5000))
    yield row("no inner dimension", (6, 4))
    yield row("one number", (1, 1, 1))
    yield row("no probes", (0, 2, 3))
    yield row("no samples", (3, 0, 4))
    yield row("empty samples", (3, 2, 0))
    yield row("L=512", (512, 1, 33))
    yield row("samples outside", (6, 4, 65), t=samples_outside)
    yield row("d strided", (6, 4, 65), d=strided)
    yield row("d expanded", (6, 4, 65), d=first_expanded)
    yield row("convolution: L=100 B=4 256x8x8", (100, 4, 256, 8, 8), perf=True)
    yield row("convolution, channels last", (100, 4, 256, 8, 8), t=channels_last, d=channels_last, perf=True)
    yield row("MLP: L=64 B=64 256", (64, 64, 256), perf=True)


def gpu_rows() -> Iterator[Case]:
    shape = (100, 64, 256, 8, 8)
    yield row("convolution: L=100 B=64 256x8x8", shape)
    yield row("convolution, channels last: L=100 B=64", shape, t=channels_last, d=channels_last)


def in_place(ops: Any, t: Tensor, d: Tensor) -> Outputs:
    ops.scale_tangents_(t, d)
    return (t,)


SCALE_TANGENTS = Op(
    "scale_tangents",
    run=lambda ops, t, d: (ops.scale_tangents(t, d),),
    reference=lambda t, d: (ref.scale_tangents_ref(t, d),),
    error=wrongly_rounded,
    composed=lambda t, d: t * d,
    cases=[*rows(), row("t strided", (3, 4, 65), t=strided), row("t expanded", (3, 4, 65), t=first_expanded)],
    gpu_cases=list(gpu_rows()),
)
SCALE_TANGENTS_IN_PLACE = Op(
    "scale_tangents_",
    run=in_place,
    reference=lambda t, d: (ref.scale_tangents_ref(t, d),),
    error=wrongly_rounded,
    composed=lambda t, d: t.mul_(d),
    cases=list(rows()),
    gpu_cases=list(gpu_rows()),
)
