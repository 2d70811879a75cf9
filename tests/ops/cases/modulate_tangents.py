"""modulate_tangents and modulate_cotangents: channels first and last, in units of rounding."""

import math
from collections.abc import Iterator
from typing import Any

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
    channels_last,
    f32,
    f64,
    in_roundings,
    offset,
    strided,
)


def tangents_error(got: Outputs, expected: Outputs, tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> float:
    """In eps (|tx s| + |x ts|)."""
    unit = ref.modulate_tangents_ref(tx.abs(), x.abs(), s.abs(), ts.abs())
    return in_roundings(got[0], expected[0], unit)


def cotangents_error(got: Outputs, expected: Outputs, u: Tensor, x: Tensor, s: Tensor) -> float:
    """In eps |u s|, and in eps of the sum of |u x|."""
    units = ref.modulate_cotangents_ref(u.abs(), x.abs(), s.abs())
    return max(in_roundings(*three) for three in zip(got, expected, units, strict=True))


def row(
    name: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = f32,
    t: Layout = as_is,
    x: Layout = as_is,
    perf: bool = False,
    *,
    pull: bool,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        tangents, image, style, style_tangents = (
            torch.randn(size, generator=g, dtype=dtype) for size in (shape, shape[1:], shape[1:3], shape[:3])
        )
        return (t(tangents), x(image), style) if pull else (t(tangents), x(image), style, style_tangents)

    elements, sample, styles = math.prod(shape), math.prod(shape[1:]), math.prod(shape[:3])
    moved = (2 * elements + sample + styles + math.prod(shape[1:3])) * dtype.itemsize
    return Case(name, make, 3 * elements, moved, 8.0, perf)


def rows(pull: bool) -> Iterator[Case]:
    images = (9, 2, 3, 5, 7)
    for dtype in (f32, f64):
        yield row(f"images {dtype}", images, dtype, pull=pull)
        yield row(f"channels last {dtype}", images, dtype, channels_last, channels_last, pull=pull)
        # Runs of a multiple of four: CUDA takes vectors, unless something is not aligned.
        yield row(f"vectors {dtype}", (9, 2, 3, 8, 8), dtype, pull=pull)
        yield row(
            f"vectors, channels last {dtype}",
            (9, 2, 36, 3, 5),
            dtype,
            channels_last,
            channels_last,
            pull=pull,
        )
        yield row(f"storage offset {dtype}", (3, 2, 4, 64), dtype, offset, offset, pull=pull)
    yield row("t channels last", images, t=channels_last, pull=pull)
    yield row("x channels last", images, x=channels_last, pull=pull)
    yield row("t strided", (3, 2, 4, 6), t=strided, pull=pull)
    yield row("x strided", (3, 2, 4, 6), x=strided, pull=pull)
    yield row("t expanded", (3, 2, 4, 6), t=lambda t: t[:1].expand_as(t), pull=pull)
    yield row("volumes", (3, 2, 4, 3, 2, 5), pull=pull)
    yield row("no pixels' dimension", (3, 2, 37), pull=pull)
    yield row("one channel", (3, 2, 1, 6, 4), pull=pull)
    yield row("one pixel", (3, 2, 6, 1, 1), pull=pull)
    yield row("more than a tile", (2, 1, 2, 5000), pull=pull)
    yield row("more channels than a tile", (2, 1, 300, 5, 9), t=channels_last, x=channels_last, pull=pull)
    yield row("many pixels, channels last", (2, 1, 33, 40, 41), t=channels_last, x=channels_last, pull=pull)
    yield row("no probes", (0, 2, 3, 4), pull=pull)
    yield row("no samples", (3, 0, 3, 4), pull=pull)
    yield row("no channels", (3, 2, 0, 4), pull=pull)
    yield row("no pixels", (3, 2, 4, 0), pull=pull)
    large = (32, 2, 64, 32, 32)
    yield row("StyleGAN2 32 px: L=32 B=2 C=64", large, perf=True, pull=pull)
    yield row("StyleGAN2 32 px, channels last", large, t=channels_last, x=channels_last, perf=True, pull=pull)


def gpu_rows(pull: bool) -> Iterator[Case]:
    large = (32, 8, 64, 64, 64)
    yield row("StyleGAN2 64 px: L=32 B=8 C=64", large, pull=pull)
    yield row("StyleGAN2 64 px, channels last: L=32 B=8", large, t=channels_last, x=channels_last, pull=pull)


def on(x: Tensor, style: Tensor) -> Tensor:
    return style[(..., *[None] * (x.dim() - 2))]


MODULATE_TANGENTS = Op(
    "modulate_tangents",
    run=lambda ops, tx, x, s, ts: (ops.modulate_tangents(tx, x, s, ts),),
    reference=lambda tx, x, s, ts: (ref.modulate_tangents_ref(tx, x, s, ts),),
    error=tangents_error,
    composed=lambda tx, x, s, ts: tx * on(x, s) + x * on(x, ts),
    cases=list(rows(pull=False)),
    gpu_cases=list(gpu_rows(pull=False)),
)


def in_place_rows() -> Iterator[Case]:
    """Where tx and x lie in memory alike."""
    alike = ("images", "channels last", "vectors", "storage offset", "no ", "StyleGAN2")
    return (case for case in rows(pull=False) if case.name.startswith(alike))


def in_place_error(got: Outputs, expected: Outputs, tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> float:
    """In eps of what |tx s| + |x ts| is at most: tx itself is overwritten."""
    return in_roundings(got[0], expected[0], expected[0].abs() + 2 * (x * on(x, ts)).abs().cpu().double())


def in_place(ops: Any, tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Outputs:
    ops.modulate_tangents_(tx, x, s, ts)
    return (tx,)


MODULATE_TANGENTS_IN_PLACE = Op(
    "modulate_tangents_",
    run=in_place,
    reference=lambda tx, x, s, ts: (ref.modulate_tangents_ref(tx, x, s, ts),),
    error=in_place_error,
    composed=lambda tx, x, s, ts: tx * on(x, s) + x * on(x, ts),
    cases=list(in_place_rows()),
    gpu_cases=list(gpu_rows(pull=False)),
)
MODULATE_COTANGENTS = Op(
    "modulate_cotangents",
    run=lambda ops, u, x, s: tuple(ops.modulate_cotangents(u, x, s)),
    reference=ref.modulate_cotangents_ref,
    error=cotangents_error,
    composed=lambda u, x, s: (u * on(x, s), (u * x).flatten(3).sum(3)),
    cases=list(rows(pull=True)),
    gpu_cases=list(gpu_rows(pull=True)),
)
