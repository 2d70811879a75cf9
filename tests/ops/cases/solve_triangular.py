"""solve_triangular: the residual of every number, in units of rounding of the sum it comes from."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, strided
from tests.ops.cases.gram import probe_major
from tests.ops.cases.symmetric_eigenvalues import transposed


def error(got: Outputs, expected: Outputs, y: Tensor, r: Tensor) -> float:
    """Largest element of X R - Y in eps64 |X| |R|: what a substitution leaves, however ill-conditioned R."""
    x, upper = got[0].cpu(), torch.triu(r.cpu())
    if x.numel() == 0:
        return 0.0
    unit = x.abs() @ upper.abs() * 2.0**-52
    residual = (x @ upper - y.cpu().double()).abs()
    return float(torch.where(residual == 0, 0.0, residual / unit).max())


def row(
    name: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype = f64,
    layout: Layout = as_is,
    r_layout: Layout = as_is,
    decades: int = 0,
    perf: bool = False,
) -> Case:
    b, d, columns = shape

    def make(g: torch.Generator) -> Inputs:
        y = torch.randn(shape, generator=g, dtype=f64)
        r = torch.randn(b, columns, columns, generator=g, dtype=f64) / math.sqrt(max(columns, 1))
        r.diagonal(dim1=1, dim2=2).add_(2.0)
        r = r * torch.logspace(0, -decades, columns, dtype=f64)[:, None]
        return layout(y.to(dtype)), r_layout(r)

    flops = b * d * columns * columns
    moved = b * (d * columns * (dtype.itemsize + 8) + 4 * columns * (columns + 1))
    # Two sums of as many products as there are columns: the substitution's and that of the residual.
    return Case(name, make, flops, moved, tolerance=2 + math.sqrt(columns), perf=perf)


def rows() -> Iterator[Case]:
    for columns in (1, 2, 3, 4, 5, 31, 32, 33, 70):
        yield row(f"L={columns}", (2, 37, columns))
    for d in (1, 7, 8, 31, 32, 33, 100, 300):
        yield row(f"D={d}", (3, d, 6))
    yield row("B=9", (9, 5, 7))
    yield row("L=384", (1, 5, 384))
    for shape in ((0, 5, 3), (2, 0, 3), (2, 5, 0)):
        yield row(f"{shape}", shape)
    yield row("graded", (2, 40, 30), decades=20)
    for dtype in (f32, f64):
        for layout in (probe_major, strided, offset):
            yield row(f"{layout.__name__} {dtype}", (3, 45, 12), dtype, layout)
    for r_layout in (transposed, strided, offset):
        yield row(f"R {r_layout.__name__}", (3, 45, 12), r_layout=r_layout)
    yield row("R expanded", (3, 45, 12), r_layout=lambda r: r[:1].expand_as(r))
    yield row("faces: B=2 D=12288 L=100", (2, 12288, 100), f32, probe_major, perf=True)
    yield row("MLP: B=32 D=784 L=64", (32, 784, 64), f32, probe_major, perf=True)
    yield row("latents: B=64 D=512 L=40", (64, 512, 40), perf=True)


SOLVE_TRIANGULAR = Op(
    "solve_triangular",
    run=lambda ops, y, r: (ops.solve_triangular(y, r),),
    reference=lambda y, r: (ref.solve_triangular_ref(y, r),),
    error=error,
    composed=lambda y, r: torch.linalg.solve_triangular(r, y.double(), upper=True, left=False),
    cases=list(rows()),
    gpu_cases=[
        row("faces: B=64 D=12288 L=100", (64, 12288, 100), f32, probe_major),
        row("latents: B=2048 D=512 L=40", (2048, 512, 40)),
    ],
)
