"""rectify, mask_tangents and its in-place twin: exact values, bits in every position, layouts."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, strided
from tests.ops.cases.scale_tangents import apart, first_expanded, wrongly_rounded

SIZES = (1, 7, 8, 9, 31, 32, 33, 64, 65)  # bits of a byte, of a warp


def rectify_rows(for_gpu: bool = False) -> Iterator[Case]:
    def row(name: str, shape: tuple[int, ...], slope: float, dtype: torch.dtype, x: Layout = as_is) -> Case:
        def make(g: torch.Generator) -> Inputs:
            values = torch.randn(shape, generator=g, dtype=dtype)
            flat = values.view(-1)
            flat[: min(3, flat.numel())] = torch.tensor([0.0, -math.inf, math.inf])[: flat.numel()]
            return x(values), slope

        count = math.prod(shape)
        return Case(name, make, count, 2 * count * dtype.itemsize + count // 8, 0.0, perf="B=64" in name)

    if for_gpu:
        yield row("convolution: B=4096 256x8x8", (4096, 256, 8, 8), 0.0, f32)
        return
    for size in SIZES:
        yield row(f"{size} numbers", (3, size), 0.0, f32)
    for dtype in (f32, f64):
        for slope in (0.0, 0.2, -1.5):
            yield row(f"images, slope {slope} {dtype}", (2, 3, 5, 7), slope, dtype)
    yield row("more than a piece", (2, 33_000), 0.1, f32)
    yield row("strided", (3, 4, 5), 0.1, f32, strided)
    yield row("no dimension but the samples", (5,), 0.1, f32)
    yield row("no samples", (0, 4), 0.1, f32)
    yield row("empty samples", (3, 0), 0.1, f32)
    yield row("convolution: B=64 256x8x8", (64, 256, 8, 8), 0.0, f32)


def rows(for_gpu: bool = False) -> Iterator[Case]:
    def row(
        name: str,
        shape: tuple[int, ...],
        dtype: torch.dtype = f32,
        slopes: tuple[float, float] = (0.2, 1.0),
        t: Layout = as_is,
        perf: bool = False,
    ) -> Case:
        size = math.prod(shape[2:])

        def make(g: torch.Generator) -> Inputs:
            bits = torch.randint(0, 256, (shape[1], -(-size // 8)), generator=g, dtype=torch.uint8)
            return t(torch.randn(shape, generator=g, dtype=dtype)), bits, *slopes

        moved = 2 * math.prod(shape) * dtype.itemsize + shape[1] * size // 8
        return Case(name, make, math.prod(shape), moved, 0.0, perf)

    if for_gpu:
        yield row("convolution: L=100 B=64 256x8x8", (100, 64, 256, 8, 8), slopes=(0.0, 1.0))
        return
    for size in SIZES:
        yield row(f"{size} numbers", (9, 2, size))
    for dtype in (f32, f64):
        yield row(f"images {dtype}", (9, 2, 4, 5, 6), dtype, (0.0, 1.0))
        yield row(f"t off a boundary {dtype}", (4, 3, 64), dtype, t=offset)
        yield row(f"t apart {dtype}", (4, 4, 64), dtype, t=apart)
    yield row("more than a piece", (2, 2, 33_000))
    yield row("samples outside", (6, 4, 65), t=lambda t: t.transpose(0, 1).contiguous().transpose(0, 1))
    yield row("other slopes", (3, 2, 20), slopes=(-0.7, 2**0.5))
    yield row("no inner dimension", (6, 4))
    yield row("no probes", (0, 2, 3))
    yield row("no samples", (3, 0, 4))
    yield row("empty samples", (3, 2, 0))
    yield row("convolution: L=100 B=4 256x8x8", (100, 4, 256, 8, 8), slopes=(0.0, 1.0), perf=True)
    yield row("MLP: L=64 B=64 256", (64, 64, 256), slopes=(0.0, 1.0), perf=True)


def wrong_bits(got: Outputs, expected: Outputs, *inputs: Any) -> float:
    return wrongly_rounded(got, expected) + float((got[1].cpu() != expected[1]).sum())


def in_place(ops: Any, t: Tensor, bits: Tensor, low: float, high: float) -> Outputs:
    ops.mask_tangents_(t, bits, low, high)
    return (t,)


def composed(t: Tensor, bits: Tensor, low: float, high: float) -> Tensor:
    places = torch.arange(8, dtype=torch.uint8, device=bits.device)
    on = (bits[:, :, None] >> places & 1).flatten(1)[:, : t[0, 0].numel()].view(t.shape[1:])
    return t * torch.where(on.bool(), t.new_tensor(high), t.new_tensor(low))


RECTIFY = Op(
    "rectify",
    run=lambda ops, x, slope: ops.rectify(x, slope),
    reference=ref.rectify_ref,
    error=wrong_bits,
    composed=lambda x, slope: (torch.nn.functional.leaky_relu(x, slope), x > 0),
    cases=list(rectify_rows()),
    gpu_cases=list(rectify_rows(for_gpu=True)),
)
MASK_TANGENTS = Op(
    "mask_tangents",
    run=lambda ops, *inputs: (ops.mask_tangents(*inputs),),
    reference=lambda *inputs: (ref.mask_tangents_ref(*inputs),),
    error=wrongly_rounded,
    composed=composed,
    cases=[
        *rows(),
        *(
            Case(
                name,
                lambda g, layout=layout: (
                    layout(torch.randn(3, 4, 65, generator=g)),
                    torch.randint(0, 256, (4, 9), generator=g, dtype=torch.uint8), 0.0, 1.0,
                ),
                780, 6300, 0.0,
            )
            for name, layout in (("t strided", strided), ("t expanded", first_expanded))
        ),
    ],
    gpu_cases=list(rows(for_gpu=True)),
)  # fmt: skip
MASK_TANGENTS_IN_PLACE = Op(
    "mask_tangents_",
    run=in_place,
    reference=lambda *inputs: (ref.mask_tangents_ref(*inputs),),
    error=wrongly_rounded,
    composed=composed,
    cases=list(rows()),
    gpu_cases=list(rows(for_gpu=True)),
)
