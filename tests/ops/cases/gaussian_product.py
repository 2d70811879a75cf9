"""gaussian_product: the very numbers of `gaussian`, multiplied in float64."""

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
from tests.ops.cases.gram import probe_major


def error(got: Outputs, expected: Outputs, y: Tensor, rows: int, seed: int, start: int) -> float:
    """In eps64 |omega_r| |y_l|."""
    norms = ref.gaussian_ref(seed, start, (rows, y.shape[1])).double().norm(dim=1)
    unit = norms[:, None] * y.cpu().double().norm(dim=1)[:, None, :]
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, int, int],
    rows: int,
    dtype: torch.dtype = f32,
    layout: Layout = probe_major,
    start: int = 0,
    perf: bool = False,
) -> Case:
    b, d, columns = shape

    def make(g: torch.Generator) -> Inputs:
        y = torch.randn(shape, generator=g, dtype=f64).to(dtype)
        return layout(y), rows, int(torch.randint(2**62, (1,), generator=g)), start

    flops = 2 * b * d * columns * rows + 24 * rows * d
    moved = b * d * columns * dtype.itemsize + 8 * b * rows * columns
    # Six standard errors of sums of 256 products, and of the sum of those; the reference has its own.
    return Case(name, make, flops, moved, 2 + math.sqrt(min(d, 256)) + math.sqrt(d / 256), perf)


def rows() -> Iterator[Case]:
    for count in (1, 2, 31, 32, 33, 70):
        yield row(f"rows={count}", (2, 45, 5), count)
    for d in (1, 3, 4, 31, 32, 33, 255, 257, 700):
        yield row(f"D={d}", (2, d, 6), 5)
    for columns in (1, 31, 32, 33, 64, 65, 100):
        yield row(f"L={columns}", (2, 40, columns), 7)
    for start in (1, 2, 3, 2**33 + 5, 2**62 + 7):
        yield row(f"from {start}", (2, 37, 5), 9, start=start)
    yield row("no samples", (0, 5, 3), 4)
    yield row("no rows of y", (2, 0, 3), 4)
    yield row("no columns", (2, 5, 0), 4)
    yield row("no rows", (2, 5, 3), 0)
    yield row("many samples", (130, 20, 3), 40)
    yield row("expanded", (3, 50, 7), 9, layout=lambda y: y[:1].expand(3, -1, -1))
    for dtype in (f32, f64):
        for layout in (as_is, probe_major, strided, offset):
            yield row(f"{layout.__name__} {dtype}", (3, 70, 12), 10, dtype, layout)
    yield row("faces: B=4 D=12288 L=16 rows=200", (4, 12288, 16), 200, perf=True)
    yield row("MLP: B=64 D=784 L=64 rows=128", (64, 784, 64), 128, perf=True)


GAUSSIAN_PRODUCT = Op(
    "gaussian_product",
    run=lambda ops, *inputs: (ops.gaussian_product(*inputs),),
    reference=lambda y, count, seed, start: (
        ref.gaussian_ref(seed, start, (count, y.shape[1])).double() @ y.double(),
    ),
    error=error,
    composed=lambda y, count, seed, start: (
        torch.randn(count, y.shape[1], device=y.device).double() @ y.double()
    ),
    cases=list(rows()),
    gpu_cases=[
        row("faces: B=64 D=12288 L=100 rows=200", (64, 12288, 100), 200),
        row("MLP: B=4096 D=784 L=64 rows=128", (4096, 784, 64), 128),
    ],
)
