"""gram: against exact sums, in units of float64 rounding."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, strided


def probe_major(y: Tensor) -> Tensor:
    """[B, D, L] stored as [L, B, D]."""
    return y.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def graded(columns: int) -> Tensor:
    """Scales of the columns from 1 to 1e-12."""
    return torch.logspace(0, -12, columns, dtype=f64)


def error(got: Outputs, expected: Outputs, y: Tensor) -> float:
    """In eps64 |y_i| |y_j|: some entries against exact sums, all of them against a float64 product."""
    gram, y = got[0].cpu(), y.cpu()
    norm = y.double().norm(dim=1)
    unit = norm[:, :, None] * norm[:, None, :] * 2.0**-52
    assert bool(((gram - expected[0]).abs() <= 4 * math.sqrt(y.shape[1]) * unit).all()), "far from y^T y"
    assert bool((gram == gram.mT).all()), "not symmetric"
    worst = 0.0
    sample = torch.randperm(gram.numel(), generator=torch.Generator().manual_seed(0))[:24]
    for b, i, j in zip(*torch.unravel_index(sample, gram.shape), strict=True):
        difference = abs(float(gram[b, i, j]) - ref.exact_dot(y[b, :, i], y[b, :, j]))
        worst = max(worst, difference / float(unit[b, i, j]) if difference else 0.0)
    return worst


def row(
    name: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype = f32,
    layout: Layout = probe_major,
    scale: Callable[[int], Tensor] = torch.ones,
    perf: bool = False,
) -> Case:
    b, d, columns = shape

    def make(g: torch.Generator) -> Inputs:
        y = torch.randn(shape, generator=g, dtype=f64) * scale(columns)
        return (layout(y.to(dtype)),)

    flops = b * d * columns * (columns + 1)
    moved = b * d * columns * dtype.itemsize + 8 * b * columns * columns
    # Six standard errors of sums of 256 rows, and of the sum of those.
    tolerance = 1 + math.sqrt(min(d, 256)) + math.sqrt(d / 256)
    return Case(name, make, flops, moved, tolerance, perf)


def rows() -> Iterator[Case]:
    for columns in (1, 2, 7, 8, 9, 31, 32, 33, 38, 63, 64, 65, 100):
        yield row(f"L={columns}", (2, 97, columns))
    for columns in (
        3,
        4,
        5,
        10,
        20,
        24,
    ):  # whole blocks of columns that are worked off along the rows, and parts
        yield row(f"few: L={columns}", (2, 601, columns))
    for d in (1, 7, 8, 9, 255, 1025, 5003):
        yield row(f"D={d}", (3, d, 18))
    yield row("D=60001", (70, 60_001, 1))
    yield row("L=512", (1, 129, 512))
    yield row("no samples", (0, 5, 3))
    yield row("no rows", (2, 0, 3))
    yield row("no columns", (2, 5, 0))
    yield row("one number", (1, 1, 1))
    yield row("many samples", (70, 40, 12))
    yield row("expanded", (3, 300, 45), layout=lambda y: y[:1].expand(3, -1, -1))
    for dtype in (f32, f64):
        for layout in (as_is, probe_major, strided, offset):
            yield row(f"{layout.__name__} {dtype}", (3, 300, 45), dtype, layout)
        yield row(f"graded columns {dtype}", (2, 2100, 40), dtype, scale=graded)
    yield row("faces: B=4 D=12288 L=100", (4, 12288, 100), perf=True)
    yield row("faces, contiguous", (4, 12288, 100), layout=as_is, perf=True)
    yield row("MLP: B=64 D=784 L=64", (64, 784, 64), perf=True)
    yield row("narrow: B=32 D=3072 L=20", (32, 3072, 20), perf=True)


GRAM = Op(
    "gram",
    run=lambda ops, y: (ops.gram(y),),
    reference=lambda y: (ref.gram_ref(y),),
    error=error,
    composed=lambda y: y.double().mT @ y.double(),
    cases=list(rows()),
    gpu_cases=[
        row("faces: B=256 D=12288 L=100", (256, 12288, 100)),
        row("MLP: B=4096 D=784 L=64", (4096, 784, 64)),
        row("wide: B=64 D=12288 L=512", (64, 12288, 512)),
        row("narrow: B=1024 D=3072 L=20", (1024, 3072, 20)),
    ],
)
