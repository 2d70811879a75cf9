"""jacobi_singular_values: columns of any size, each value in units of rounding of its own."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, repeated, strided
from tests.ops.cases.symmetric_eigenvalues import transposed

MAX_SWEEPS = 30
Columns = Callable[[Tensor, torch.Generator], Tensor]


def level(b: Tensor, g: torch.Generator) -> Tensor:
    return b


def powers(b: Tensor, decades: int, g: torch.Generator) -> Tensor:
    """Sizes of the columns from 1 to 10^-decades, in random order."""
    sizes = torch.logspace(0, -decades, b.shape[2], dtype=f64)
    return b * sizes[torch.randperm(b.shape[2], generator=g)]


def graded(b: Tensor, g: torch.Generator) -> Tensor:
    return powers(b, 12, g)


def steep(b: Tensor, g: torch.Generator) -> Tensor:
    return powers(b, 100, g)


def orthonormal(b: Tensor, g: torch.Generator) -> Tensor:
    return torch.linalg.qr(b)[0]


def triangular(b: Tensor, g: torch.Generator) -> Tensor:
    return torch.linalg.qr(graded(b, g))[1]


def rank_deficient(b: Tensor, g: torch.Generator) -> Tensor:
    return b[:, :, torch.arange(b.shape[2]) % ((b.shape[2] + 2) // 3)]


def zero_columns(b: Tensor, g: torch.Generator) -> Tensor:
    return b * (torch.arange(b.shape[2]) % 3 > 0)


def not_finite(a: Tensor) -> Tensor:
    a[1, 3, 3], a[2, 4, 1], a[4, 0, 0] = torch.inf, torch.nan, -torch.inf
    return a


def unit(a: Tensor, values: Tensor) -> Tensor:
    """[B, n]: rounding of the result, and what the rounding of columns of length one moves values by."""
    wide = a.cpu().double()
    wide = wide / wide.abs().amax(1, keepdim=True)  # whose squares are numbers
    b = wide / wide.norm(dim=1, keepdim=True)
    smallest = torch.linalg.svdvals(b.nan_to_num(0.0))[:, -1:] - a.shape[2] * 2.0**-52
    moved = torch.minimum(values / smallest.clamp(min=0.0), values[:, :1]).nan_to_num(0.0)
    return torch.finfo(a.dtype).eps * values + 2.0**-52 * moved


def error(got: Outputs, expected: Outputs, a: Tensor, max_sweeps: int) -> float:
    values, info = got[0].cpu().double(), got[1].cpu()
    exact = expected[0]
    assert torch.equal(info, expected[1]), "info"
    failed = info != 0
    assert bool(values[failed].isnan().all()), "a number where info is not 0"
    if values.numel() == 0:
        return 0.0
    values, exact = values[~failed], exact[~failed]
    assert bool((values[:, 1:] <= values[:, :-1]).all()), "not descending"
    difference = (values - exact).abs()
    allowed = unit(a.cpu()[~failed], exact)
    return float(torch.where(difference == 0, 0.0, difference / allowed).max())


def row(
    name: str,
    batch: int,
    shape: tuple[int, int],
    columns: Columns = graded,
    dtype: torch.dtype = f64,
    scale: float = 1.0,
    layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    m, n = shape

    def make(g: torch.Generator) -> Inputs:
        b = torch.randn(batch, m, n, generator=g, dtype=f64)
        return layout((columns(b, g) * scale).to(dtype)), MAX_SWEEPS

    # A sweep is n^2 / 2 rotations of 12 m operations; six of them are usual at n = 64.
    flops = batch * 6 * n * n * 6 * m
    moved = batch * (dtype.itemsize * (m * n + n) + 8)
    return Case(name, make, flops, moved, tolerance=8 + 2 * math.sqrt(n), perf=perf)


def rows() -> Iterator[Case]:
    for n in (1, 2, 3, 5, 8, 17):
        yield row(f"n={n}", 2, (n, n))
    yield row("36 x 34", 1, (36, 34))
    for m in (6, 7, 40, 2100):  # the last does not fit in shared memory
        yield row(f"{m} x 6", 2, (m, 6))
    for batch in (0, 1, 7, 9, 17):
        yield row(f"B={batch}", batch, (4, 4))
    yield row("no columns", 2, (3, 0))
    yield row("no rows", 2, (0, 0))
    for columns in (level, steep, orthonormal, triangular, rank_deficient, zero_columns):
        yield row(columns.__name__, 3, (9, 9), columns)
        yield row(f"{columns.__name__} f32", 2, (9, 8), columns, f32)
    for scale in (1e150, 1e-150, 1e300, 1e-280, 0.0):
        yield row(f"scale {scale:g}", 2, (5, 5), scale=scale)
    yield row("scale 1e-30 f32", 2, (5, 5), level, f32, scale=1e-30)
    yield row("not finite", 6, (5, 5), layout=not_finite)
    for layout in (offset, strided, transposed):
        yield row(layout.__name__, 3, (7, 6), layout=layout)
    yield row("expanded", 3, (7, 6), layout=lambda a: a[:1].expand_as(a))
    for batch, n in ((256, 32), (64, 64), (16, 100), (8, 128)):
        yield row(f"B={batch} n={n}", batch, (n, n), triangular, perf=True)


JACOBI_SINGULAR_VALUES = Op(
    "jacobi_singular_values",
    run=lambda ops, a, max_sweeps: tuple(ops.jacobi_singular_values(a, max_sweeps)),
    reference=lambda a, max_sweeps: ref.jacobi_singular_values_ref(a),
    error=error,
    composed=lambda a, max_sweeps: torch.linalg.svdvals(a),
    cases=list(rows()),
    gpu_cases=[
        repeated(row(f"B={64 * times} n={n}", 64, (n, n), triangular), times)
        for times, n in ((16, 32), (8, 64), (4, 128))
    ],
)
