"""cholesky: backward error in units of rounding, and the order of the minor where it breaks down."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, repeated, strided
from tests.ops.cases.symmetric_eigenvalues import Spectrum, graded, symmetric, transposed


def positive(n: int, g: torch.Generator) -> Tensor:
    return 0.1 + torch.rand(n, generator=g, dtype=f64)


def broken_at(order: int) -> Layout:
    """The first leading minor that is not positive is that of this order, in every second matrix."""

    def change(a: Tensor) -> Tensor:
        a[::2, order - 1, order - 1] = -1.0
        return a

    return change


def not_finite(a: Tensor) -> Tensor:
    a[1, 3, 3], a[2, 4, 1], a[4, 0, 0] = torch.inf, torch.nan, torch.nan
    return a


def error(got: Outputs, expected: Outputs, a: Tensor) -> float:
    """Largest element of L L^T - A in eps sqrt(A_ii A_jj), over the columns before a breakdown."""
    lower, info = got[0].cpu().double(), got[1].cpu()
    assert torch.equal(info, expected[1]), "info"
    if a.numel() == 0:
        return 0.0
    assert bool((torch.triu(lower, 1) == 0).all()), "not lower-triangular"
    n = a.shape[1]
    good = torch.where(info == 0, n, info - 1)
    done = torch.arange(n) < good[:, None]
    held = torch.tril(torch.ones(n, n, dtype=torch.bool))
    both = done[:, :, None] & done[:, None, :]  # rows and columns before the breakdown
    assert bool(lower.isfinite()[both & held].all()), "NaN before the breakdown"
    assert bool(lower.isnan()[~done[:, None, :] & held].all()), "a number in a column after it"
    kept = torch.where(both, lower, 0.0)
    target = torch.where(both, ref.lower_mirrored(a), 0.0)
    size = target.diagonal(dim1=1, dim2=2).clamp(min=torch.finfo(f64).tiny).sqrt()
    return float(((kept @ kept.mT - target) / (size[:, :, None] * size[:, None, :])).abs().max()) / (
        torch.finfo(a.dtype).eps
    )


def row(
    name: str,
    batch: int,
    n: int,
    spectrum: Spectrum = positive,
    dtype: torch.dtype = f64,
    scale: float = 1.0,
    layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        return (layout((symmetric(batch, n, spectrum, g) * scale).to(dtype)),)

    moved = batch * dtype.itemsize * (n * (n + 1) // 2 + n * n)
    # Sums of n products of rounding errors that are apart (Higham, Accuracy and Stability, 10.3).
    return Case(name, make, batch * n**3 // 3, moved, tolerance=4 + 2 * math.sqrt(n), perf=perf)


def rows() -> Iterator[Case]:
    for n in (1, 2, 3, 7, 8, 9, 16, 17, 33, 64, 100, 128, 129, 150):
        yield row(f"n={n}", 3, n)
    for batch in (0, 1, 7, 8, 9, 33):
        yield row(f"B={batch}", batch, 6)
    yield row("no rows", 2, 0)
    for scale in (1e150, 1e-150, 1e300, 1e-300):
        yield row(f"scale {scale:g}", 3, 11, scale=scale)
    yield row("graded", 5, 20, lambda n, g: graded(n, g) + 1e-10)
    for order in (1, 5, 12, 13):
        yield row(f"breaks down at {order}", 9, 13, layout=broken_at(order))
        yield row(f"breaks down at {order} f32", 9, 13, dtype=f32, layout=broken_at(order))
    yield row("breaks down at 140", 2, 150, layout=broken_at(140))
    yield row("not finite", 9, 6, layout=not_finite)
    for layout in (offset, strided, transposed):
        yield row(layout.__name__, 5, 13, layout=layout)
        yield row(f"{layout.__name__} f32", 5, 13, dtype=f32, layout=layout)
    yield row("expanded", 5, 13, layout=lambda a: a[:1].expand_as(a))
    for batch, n in ((256, 32), (64, 64), (32, 128), (4, 256)):
        yield row(f"B={batch} n={n}", batch, n, perf=True)


CHOLESKY = Op(
    "cholesky",
    run=lambda ops, a: tuple(ops.cholesky(a)),
    reference=lambda a: ref.cholesky_ref(a),
    error=error,
    composed=lambda a: torch.linalg.cholesky_ex(a),
    cases=list(rows()),
    gpu_cases=[
        repeated(row(f"B={64 * times} n={n}", 64, n), times) for times, n in ((256, 32), (64, 64), (32, 128))
    ],
)
