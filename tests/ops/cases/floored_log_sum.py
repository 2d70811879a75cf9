"""floored_log_sum: logarithms with 50 digits, in units of rounding of the terms; ranks exactly."""

from collections.abc import Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f64, in_roundings, offset, strided


def composed(sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int) -> Outputs:
    rank = (sigma > floor[:, None]).sum(1)
    sigma, delta, floor = sigma[:, :top_k], delta[:, :top_k], floor[:, None]
    clipped = torch.maximum(sigma, floor)
    least = torch.sqrt(torch.clamp(clipped.square() - delta, min=0.0)) - eta[:, None]
    most = torch.sqrt(clipped.square() + delta) + eta[:, None]
    error = torch.log(torch.maximum(clipped / torch.maximum(least, floor), most / clipped))
    error = torch.where(sigma > floor, error, torch.inf)
    return torch.log(clipped).sum(1), torch.where(torch.isnan(least), torch.nan, error).sum(1), rank


def error(
    got: Outputs, expected: Outputs, sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int
) -> float:
    """In eps of the sum of |log| for the value, of one for each term of the error."""
    assert torch.equal(got[2].cpu(), expected[2]), "rank"
    bound, wanted = got[1].cpu(), expected[1]
    assert torch.equal(bound.isnan(), wanted.isnan()), "NaN"
    assert torch.equal(bound.isinf(), wanted.isinf()), "infinite"
    finite = bound.isfinite()
    size = torch.maximum(sigma, floor[:, None])[:, :top_k].log().abs().sum(1).cpu()
    terms = torch.full_like(wanted, float(top_k))
    finite_value = expected[0].isfinite()
    assert torch.equal(got[0].cpu()[~finite_value], expected[0][~finite_value]), "value of no volume"
    return max(
        in_roundings(got[0].cpu()[finite_value], expected[0][finite_value], (size + 1)[finite_value]),
        in_roundings(bound[finite], wanted[finite], terms[finite] + wanted[finite]),
    )


def row(
    name: str,
    batch: int,
    n: int,
    top_k: int | None = None,
    layout: Layout = as_is,
    scale: float = 1.0,
    floor: float = 1e-9,
    unknown: bool = False,
    perf: bool = False,
) -> Case:
    count = n if top_k is None else top_k

    def make(g: torch.Generator) -> Inputs:
        sigma = scale * 10.0 ** (-12 * torch.rand(batch, n, generator=g, dtype=f64))
        sigma = sigma.sort(1, descending=True).values
        # The floor cuts every second row short.
        floors = scale * floor * torch.where(torch.arange(batch) % 2 == 0, 1.0, 1e-6).double()
        eta = 0.3 * floors * torch.rand(batch, generator=g, dtype=f64)
        delta = floors[:, None] ** 2 * torch.rand(batch, n, generator=g, dtype=f64)
        if unknown:
            eta[1::3] = torch.nan
        return layout(sigma), layout(floors), layout(eta), layout(delta), count

    moved = 8 * batch * (2 * n + 5)
    # Sums of `count` terms of one sign, most of them, each with a rounding of its own.
    return Case(name, make, 60 * batch * count, moved, tolerance=4 + 0.5 * count**0.5, perf=perf)


def rows() -> Iterator[Case]:
    for n in (1, 2, 31, 32, 33, 64, 100, 513):
        yield row(f"n={n}", 3, n)
    for batch in (0, 1, 7, 8, 9, 300):
        yield row(f"B={batch}", batch, 6)
    yield row("no values", 3, 0)
    for top_k in (0, 1, 5, 40):
        yield row(f"top {top_k} of 40", 4, 40, top_k=top_k)
    for layout in (offset, strided):
        yield row(layout.__name__, 5, 13, layout=layout)
    yield row("expanded", 5, 13, layout=lambda x: x[:1].expand_as(x))
    yield row("no floor", 4, 20, floor=0.0)
    yield row("all below the floor", 4, 20, floor=10.0)
    yield row("errors not known", 7, 20, unknown=True)
    for scale in (1e100, 1e-100, 0.0):
        yield row(f"scale {scale:g}", 4, 20, scale=scale)
    yield row("B=4096 n=30", 4096, 30, perf=True)
    yield row("B=1024 n=512 top 30", 1024, 512, top_k=30, perf=True)


FLOORED_LOG_SUM = Op(
    "floored_log_sum",
    run=lambda ops, *inputs: tuple(ops.floored_log_sum(*inputs)),
    reference=lambda *inputs: ref.floored_log_sum_ref(*inputs),
    error=error,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[row("B=1M n=30", 1 << 20, 30), row("B=64k n=512 top 30", 1 << 16, 512, top_k=30)],
)
