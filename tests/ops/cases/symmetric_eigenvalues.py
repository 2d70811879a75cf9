"""symmetric_eigenvalues: planted spectra, in units of rounding of the matrix's norm."""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, repeated, strided

LARGEST_ON_CPU = 128
Spectrum = Callable[[int, torch.Generator], Tensor]


def indefinite(n: int, g: torch.Generator) -> Tensor:
    return torch.randn(n, generator=g, dtype=f64)


def graded(n: int, g: torch.Generator) -> Tensor:
    return torch.logspace(0, -12, n, dtype=f64)


def clustered(n: int, g: torch.Generator) -> Tensor:
    """Three values, each many times, split by a few units of rounding."""
    values = torch.tensor([3.0, 1.0, 1e-3], dtype=f64)[torch.arange(n) % 3]
    return values + 1e-15 * torch.randn(n, generator=g, dtype=f64)


def equal(n: int, g: torch.Generator) -> Tensor:
    return torch.ones(n, dtype=f64)


def rank_deficient(n: int, g: torch.Generator) -> Tensor:
    return torch.rand(n, generator=g, dtype=f64) * (torch.arange(n) < (n + 2) // 3)


def symmetric(batch: int, n: int, spectrum: Spectrum, g: torch.Generator) -> Tensor:
    """Matrices [batch, n, n] with (about) a given spectrum in random directions; exactly symmetric."""
    q, _ = torch.linalg.qr(torch.randn(batch, n, n, generator=g, dtype=f64))
    values = torch.stack([spectrum(n, g) for _ in range(batch)]) if batch else torch.zeros(0, n, dtype=f64)
    a = (q * values[:, None, :]) @ q.mT
    return torch.tril(a) + torch.tril(a, -1).mT


def diagonal(a: Tensor) -> Tensor:
    return torch.diag_embed(a.diagonal(dim1=1, dim2=2))


def tridiagonal(a: Tensor) -> Tensor:
    return torch.triu(torch.tril(a, 1), -1)


def arrow(a: Tensor) -> Tensor:
    """Only the first row and column, and the diagonal."""
    kept = torch.eye(a.shape[1], dtype=torch.bool)
    kept[0] = kept[:, 0] = True
    return a * kept


def transposed(a: Tensor) -> Tensor:
    return a.mT.contiguous().mT


def error(got: Outputs, expected: Outputs, a: Tensor, top_k: int) -> float:
    """In eps |A|, eps that of the output's precision."""
    values, exact = got[0].cpu().double(), expected[0]
    if values.numel() == 0:
        return 0.0
    assert bool((values[:, 1:] <= values[:, :-1]).all()), "not descending"
    norm = torch.linalg.matrix_norm(a.cpu().double(), 2).clamp(min=torch.finfo(f64).tiny)
    return float(((values - exact).abs().amax(1) / norm).max()) / torch.finfo(a.dtype).eps


def row(
    name: str,
    batch: int,
    n: int,
    spectrum: Spectrum = indefinite,
    dtype: torch.dtype = f64,
    scale: float = 1.0,
    top_k: int | None = None,
    layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    count = n if top_k is None else top_k

    def make(g: torch.Generator) -> Inputs:
        return layout((symmetric(batch, n, spectrum, g) * scale).to(dtype)), count

    flops = batch * 4 * n**3 // 3
    moved = batch * dtype.itemsize * (n * (n + 1) // 2 + count)
    # Each of n reflections rotates the matrix with an error of a few eps |A|, in random directions; so
    # does the reference.
    tolerance = 8 + 4 * math.sqrt(n)
    return Case(name, make, flops, moved, tolerance, perf=perf, cuda_only=n > LARGEST_ON_CPU)


def rows() -> Iterator[Case]:
    for n in (1, 2, 3, 4, 5, 8, 9, 31, 32, 33, 64, 65, 100, 128):
        yield row(f"n={n}", 3, n)
    for batch in (0, 1, 2, 7, 8, 9, 33):
        yield row(f"B={batch}", batch, 6)
    yield row("no rows", 2, 0)
    for spectrum in (graded, clustered, equal, rank_deficient):
        for n in (7, 40):
            yield row(f"{spectrum.__name__} n={n}", 9, n, spectrum)
        yield row(f"{spectrum.__name__} f32", 3, 20, spectrum, f32)
    for scale in (1e150, 1e-150, 1e300, 1e-300, 0.0):
        yield row(f"scale {scale:g}", 3, 11, graded, scale=scale)
    yield row("scale 1e-36 f32", 3, 11, graded, f32, scale=1e-36)
    for top_k in (0, 1, 12):
        yield row(f"top {top_k} of 30", 5, 30, top_k=top_k)
    for layout in (offset, strided, transposed, diagonal, tridiagonal, arrow):
        yield row(layout.__name__, 5, 13, layout=layout)
        yield row(f"{layout.__name__} f32", 5, 13, dtype=f32, layout=layout)
    yield row("expanded", 5, 13, layout=lambda a: a[:1].expand_as(a))
    # Two small rows of them, for the slow builds of the emulator (tests/ops/small_rows.py), and larger ones.
    for n, batch in ((129, 2), (144, 4), (200, 2)):
        yield row(f"n={n}", batch, n)
    for spectrum in (graded, clustered, equal, rank_deficient):
        yield row(f"{spectrum.__name__} n=131", 5, 131, spectrum)
    for scale in (1e150, 1e-300, 0.0):
        yield row(f"scale {scale:g} n=130", 5, 130, graded, scale=scale)
    yield row("top 3 of 140", 4, 140, top_k=3)
    for layout, batch in ((transposed, 3), (offset, 7), (tridiagonal, 7)):
        yield row(f"{layout.__name__} n=150 f32", batch, 150, dtype=f32, layout=layout)
    for batch, n in ((256, 32), (64, 64), (32, 100), (32, 128), (64, 256), (64, 512)):
        yield row(f"B={batch} n={n}", batch, n, graded, perf=True)


SYMMETRIC_EIGENVALUES = Op(
    "symmetric_eigenvalues",
    run=lambda ops, a, top_k: (ops.symmetric_eigenvalues(a, top_k),),
    reference=lambda a, top_k: (ref.symmetric_eigenvalues_ref(a, top_k),),
    error=error,
    composed=lambda a, top_k: torch.linalg.eigvalsh(a).flip(1)[:, :top_k],
    cases=list(rows()),
    gpu_cases=[repeated(row(f"B=4096 n={n}", 64, n, graded), 64) for n in (32, 64, 128)],
)
