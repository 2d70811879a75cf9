"""weighted_draw: the very rows, in their order, for every seed."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f64, offset, strided

Weights = Callable[[int, torch.Generator], Tensor]


def spread(n: int, g: torch.Generator) -> Tensor:
    return 3 * torch.randn(n, generator=g, dtype=f64)


def equal(n: int, g: torch.Generator) -> Tensor:
    return torch.full((n,), -700.0, dtype=f64)


def collapsed(n: int, g: torch.Generator) -> Tensor:
    """A few rows carry everything; logarithms far outside what exp could hold."""
    return 1e4 * torch.randn(n, generator=g, dtype=f64)


def sorted_by_weight(n: int, g: torch.Generator) -> Tensor:
    return torch.linspace(-50, 50, n, dtype=f64)


def half_without_weight(n: int, g: torch.Generator) -> Tensor:
    return torch.where(torch.arange(n) % 2 == 0, torch.randn(n, generator=g, dtype=f64), -torch.inf)


def wrong_rows(got: Outputs, expected: Outputs, log_weights: Tensor, n: int, *_: int) -> float:
    """How many places hold another row."""
    assert got[1].tolist() == [n, -1], "status"
    return float((got[0].cpu() != expected[0]).sum())


def row(
    name: str,
    count: int,
    n: int,
    weights: Weights = spread,
    start: int = 0,
    layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        return layout(weights(count, g)), n, int(torch.randint(2**62, (1,), generator=g)), start

    # Of every row a sixteenth of a counter and a comparison; of every row drawn two counters, two logarithms.
    return Case(name, make, 8 * count + 220 * n, 8 * count + 8 * n, tolerance=0, perf=perf)


def rows() -> Iterator[Case]:
    for count in (1, 2, 15, 16, 17, 255, 256, 257, 5000):
        yield row(f"{min(count, 7)} of {count}", count, min(count, 7))
        yield row(f"all {count}", count, count)
    yield row("none of 9", 9, 0)
    yield row("none of none", 0, 0)
    for start in (1, 255, 256, 300, 2**32 - 100, 2**62 + 3):
        yield row(f"from {start}", 700, 40, start=start)
    for weights in (equal, collapsed, sorted_by_weight, half_without_weight):
        yield row(weights.__name__, 3000, 200, weights)
        yield row(f"{weights.__name__}, many", 20_000, 900, weights)
    yield row("strided", 600, 30, layout=strided)
    yield row("storage offset", 600, 30, layout=offset)
    yield row("1000 of 131072", 1 << 17, 1000, perf=True)


def composed(log_weights: Tensor, n: int, *_: int) -> Tensor:
    return torch.topk(log_weights - torch.empty_like(log_weights).exponential_().log(), n).indices


WEIGHTED_DRAW = Op(
    "weighted_draw",
    run=lambda ops, log_weights, n, seed, start: tuple(ops.weighted_draw(log_weights, n, seed, start)),
    reference=lambda log_weights, n, seed, start: (
        ref.weighted_draw_ref(log_weights, n, seed, start),
        torch.empty(2, dtype=torch.int64),
    ),
    error=wrong_rows,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[row("1000 of 10M", 10**7, 1000), row("10000 of 100M", 10**8, 10_000)],
)
