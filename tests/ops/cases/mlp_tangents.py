"""mlp_tangents, both ways: networks with many or few active units, in units of rounding."""

from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, strided

MNIST = (64, 256, 256, 784)  # the generator of a real GAN; 30% and 14% of its hidden units are active


def in_roundings(
    got: Outputs, expected: Outputs, v: Tensor, weights: list[Tensor], factors: list[Tensor], adjoint: bool
) -> float:
    """In eps of the same sums of absolute values."""
    absolute = [[x.abs() for x in matrices] for matrices in (weights, factors)]
    unit = ref.mlp_tangents_ref(v.abs(), absolute[0], absolute[1], adjoint) * torch.finfo(got[0].dtype).eps
    difference = (got[0].cpu().double() - expected[0].double()).abs()
    assert bool((difference[unit == 0] == 0).all()), "not zero where every unit is inactive"
    error = difference[unit > 0] / unit[unit > 0]
    return float(error.max()) if error.numel() else 0.0


def side_by_side(v: Tensor) -> Tensor:
    """With the probes last in memory, as those of [B, K, L] are."""
    return v.movedim(0, -1).contiguous().movedim(-1, 0)


def row(
    name: str,
    widths: tuple[int, ...],
    probes: int = 3,
    batch: int = 2,
    active: tuple[float, ...] = (0.5,),
    dtype: torch.dtype = f32,
    adjoint: bool = False,
    is_shared: bool = True,
    v: Layout = as_is,
    perf: bool = False,
) -> Case:
    """``active``: part of the units of each hidden layer whose factor is not zero; the last one goes on."""
    layers = len(widths) - 1
    hidden = [*active, *[active[-1]] * layers][: layers - 1]
    parts = [*hidden, active[layers - 1] if len(active) >= layers else 1.0]

    def make(g: torch.Generator) -> Inputs:
        weights = [
            torch.randn(out, max(size, 1), generator=g, dtype=dtype)[:, :size] / max(size, 1) ** 0.5
            for size, out in pairwise(widths)
        ]
        factors = []
        for width, part in zip(widths[1:], parts, strict=True):
            kept = torch.rand(batch, width, generator=g) < part
            factors.append(torch.where(kept, torch.randn(batch, width, generator=g, dtype=dtype), 0.0))
        size = widths[-1] if adjoint else widths[0]
        shape = (probes, size) if is_shared else (probes, batch, size)
        return v(torch.randn(shape, generator=g, dtype=dtype)), weights, factors, adjoint

    kept = [1.0, *parts]
    pairs = [a * m * b * n for a, m, b, n in zip(kept, widths, kept[1:], widths[1:], strict=False)]
    if is_shared and not adjoint and layers > 1:
        pairs[0] = widths[0] * widths[1] / max(batch, 1)
    flops = int(2 * probes * batch * sum(pairs))
    ends = widths[0] / max(batch, 1) + widths[-1] if is_shared else widths[0] + widths[-1]
    constants = sum(m * n for m, n in pairwise(widths)) + batch * sum(widths[1:])
    moved = int((probes * batch * ends + constants) * dtype.itemsize)
    return Case(name, make, flops, moved, 8.0 * layers, perf)


def rows() -> Iterator[Case]:
    for dtype in (f32, f64):
        for adjoint in (False, True):
            for is_shared in (False, True):
                what = f"{'adjoint, ' if adjoint else ''}{'shared' if is_shared else 'own'} v, {dtype}"
                yield row(what, (5, 37, 29, 11), 9, 3, (0.4,), dtype, adjoint, is_shared)
    for part in (0.0, 0.1, 0.9, 1.0):
        yield row(f"{part:.0%} active", (7, 50, 60, 9), 5, 4, (part,))
        yield row(f"adjoint, {part:.0%} active", (7, 50, 60, 9), 5, 4, (part,), adjoint=True)
    for width in (1, 31, 33, 47, 97, 129):
        yield row(f"width {width}", (width, 2 * width, width), 5, 2)
    for probes in (1, 8, 17, 65, 130):  # a tile of probes is 64 on the CPU, 8 to 32 on CUDA
        yield row(f"L={probes}", (6, 20, 13), probes, 3, (0.3,))
    for probes in (3, 11, 21, 33, 65, 97):  # in rows of every height, and in one part or several
        for dtype in (f32, f64):
            what = f"many outputs, L={probes} {dtype}"
            yield row(what, (6, 60, 130), probes, 2, (0.4,), dtype)
    yield row("one sample", (6, 20, 13), 5, 1)
    yield row("one layer", (6, 20), active=(0.3,))
    yield row("one layer, adjoint", (6, 20), active=(0.3,), adjoint=True)
    yield row("eight layers", (3, 9, 8, 7, 9, 8, 7, 5, 4))
    yield row("inactive outputs", (6, 20, 40), 9, 3, active=(0.3, 0.2))
    yield row("inactive outputs, adjoint", (6, 20, 40), 9, 3, active=(0.3, 0.2), adjoint=True)
    yield row("wider than shared memory", (4, 5000, 3), active=(0.2,))
    yield row("wide: 16 probes to a block", (20, 700, 9), 20, active=(0.05,))
    yield row("wide: 8 probes to a block", (20, 1500, 9), 20, active=(0.05,))
    yield row("v strided", (6, 20, 13), v=strided)
    for dtype, probes in ((f32, 37), (f64, 21), (f32, 70)):  # whole vectors of probes and of units, and rests
        for part in (0.4, 1.0):
            yield row(
                f"L={probes} side by side, {part:.0%} active, {dtype}",
                (43, 40, 21), probes, 3, (part,), dtype, is_shared=False, v=side_by_side,
            )  # fmt: skip
        yield row(
            f"adjoint, L={probes} side by side, {dtype}",
            (5, 40, 50), probes, 3, (0.4, 0.8), dtype, adjoint=True, is_shared=False, v=side_by_side,
        )  # fmt: skip
        what = f"shared, L={probes} side by side, {dtype}"
        yield row(what, (43, 40, 9), probes, dtype=dtype, v=side_by_side)
    yield row("v expanded", (6, 20, 13), is_shared=False, v=lambda v: v[:1].expand_as(v))
    yield row("no probes", (6, 20, 13), probes=0)
    yield row("no samples", (6, 20, 13), batch=0)
    yield row("no inputs", (0, 20, 13))
    yield row("no hidden units", (6, 0, 13))
    yield row("no outputs", (6, 20, 0))
    mnist = {"probes": 64, "batch": 64, "perf": True}
    yield row("MNIST GAN: L=64 B=64, 30% and 14% active", MNIST, active=(0.3, 0.14), **mnist)
    yield row("MNIST GAN, adjoint", MNIST, active=(0.3, 0.14), adjoint=True, is_shared=False, **mnist)
    yield row("MNIST GAN, all active", MNIST, 64, 16, active=(1.0,), perf=True)


def composed(v: Tensor, weights: list[Tensor], factors: list[Tensor], adjoint: bool) -> Tensor:
    """A dense product for all samples, then the factor, in place."""
    if adjoint:
        u = v * factors[-1]
        for weight, factor in zip(weights[:0:-1], factors[-2::-1], strict=True):
            u = (u @ weight).mul_(factor)
        return u @ weights[0]
    t = v
    for weight, factor in zip(weights, factors, strict=True):
        t = t @ weight.mT
        t = t.mul_(factor) if t.dim() == 3 else t[:, None] * factor
    return t


MLP_TANGENTS = Op(
    "mlp_tangents",
    run=lambda ops, *arguments: (ops.mlp_tangents(*arguments),),
    reference=lambda *arguments: (ref.mlp_tangents_ref(*arguments),),
    error=in_roundings,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[
        row("MNIST GAN: L=64 B=4096, 30% and 14% active", MNIST, 64, 4096, (0.3, 0.14)),
        row("MNIST GAN, adjoint, B=4096", MNIST, 64, 4096, (0.3, 0.14), adjoint=True, is_shared=False),
        row("MNIST GAN, all active, B=4096", MNIST, 64, 4096, (1.0,)),
    ],
)
