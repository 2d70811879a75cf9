"""linear_tangents: every precision, on and off the tiles, in units of rounding."""

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
    samples_outside,
    strided,
)

FULL, TF32X3, TF32 = range(3)
# In eps of the sum of magnitudes: sums of products in float; factors rounded to 2^-11, two of them.
TOLERANCE = {FULL: 16.0, TF32X3: 24.0, TF32: 2.0**13}


def of_magnitudes(
    got: Outputs, expected: Outputs, t: Tensor, weight: Tensor, d: Tensor, precision: int
) -> float:
    """In eps of the same sums of absolute values."""
    unit = ref.linear_tangents_ref(t.abs(), weight.abs(), d.abs())
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, int, int],
    out: int,
    precision: int = FULL,
    dtype: torch.dtype = f32,
    t: Layout = as_is,
    weight: Layout = as_is,
    perf: bool = False,
) -> Case:
    probes, batch, size = shape

    def make(g: torch.Generator) -> Inputs:
        tangents, matrix, factor = (
            torch.randn(sizes, generator=g, dtype=dtype) for sizes in (shape, (out, size), (batch, out))
        )
        return t(tangents), weight(matrix), factor, precision

    flops = 2 * probes * batch * size * out
    moved = (probes * batch * (size + out) + size * out + batch * out) * dtype.itemsize
    return Case(name, make, flops, moved, TOLERANCE[precision], perf, precision == TF32)


def rows() -> Iterator[Case]:
    for precision in (FULL, TF32X3, TF32):
        name = ("full", "tf32x3", "tf32")[precision]
        yield row(f"{name}: one tile", (16, 8, 32), 64, precision)
        yield row(f"{name}: parts of tiles", (19, 7, 44), 70, precision)
        yield row(f"{name}: several tiles", (30, 9, 100), 130, precision)
        yield row(f"{name}: inputs not a multiple of four", (5, 3, 41), 9, precision)
        yield row(f"{name}: one input", (5, 3, 1), 9, precision)
        yield row(f"{name}: no inputs", (5, 3, 0), 9, precision)
        yield row(f"{name}: float64", (5, 3, 40), 9, precision, f64)
        yield row(f"{name}: t off a boundary", (5, 3, 40), 9, precision, t=offset)
        yield row(f"{name}: weight off a boundary", (5, 3, 40), 9, precision, weight=offset)
        yield row(f"{name}: t strided", (5, 3, 40), 9, precision, t=strided)
        yield row(
            f"{name}: one t for all samples", (5, 3, 40), 9, precision, t=lambda t: t[:, :1].expand_as(t)
        )
        yield row(f"{name}: samples outside", (5, 3, 40), 9, precision, t=samples_outside)
    yield row("no probes", (0, 3, 5), 4)
    yield row("no samples", (3, 0, 5), 4)
    yield row("no outputs", (3, 2, 5), 0)
    yield row("MLP: L=64 B=64 256 to 256", (64, 64, 256), 256, perf=True)
    yield row("tf32x3: L=16 B=16 256 to 256", (16, 16, 256), 256, TF32X3, perf=True)
    yield row("tf32: L=16 B=16 256 to 256", (16, 16, 256), 256, TF32, perf=True)


LINEAR_TANGENTS = Op(
    "linear_tangents",
    run=lambda ops, *arguments: (ops.linear_tangents(*arguments),),
    reference=lambda t, weight, d, precision: (ref.linear_tangents_ref(t, weight, d),),
    error=of_magnitudes,
    composed=lambda t, weight, d, precision: (t @ weight.mT) * d,
    cases=list(rows()),
    gpu_cases=[
        row(f"{name}: L=128 B=256 1024 to 1024", (128, 256, 1024), 1024, precision)
        for name, precision in (("full", FULL), ("tf32x3", TF32X3), ("tf32", TF32))
    ],
)
