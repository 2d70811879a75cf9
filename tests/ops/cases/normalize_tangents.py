"""normalize_tangents: every arrangement of a group in memory, in units of rounding."""

import math
from collections.abc import Iterator

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

IMAGES = (64, 16, 64, 32, 32)  # that fill a GPU


def of_magnitudes(got: Outputs, expected: Outputs, t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> float:
    """In eps of the magnitudes that are subtracted from one another."""
    t, xhat, r = t.double(), xhat.double(), r.double()
    group = tuple(i - r.dim() for i, size in enumerate(r.shape) if size == 1)
    mean = t.abs().mean(group, keepdim=True) if group else t.abs()
    slope = (xhat * t).abs()
    slope = slope.mean(group, keepdim=True) if group else slope
    unit = r.abs() * (t.abs() + mean + xhat.abs() * slope)
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, ...],
    group: tuple[int, ...],
    dtype: torch.dtype = f32,
    center: bool = True,
    t: Layout = as_is,
    xhat: Layout = as_is,
    perf: bool = False,
) -> Case:
    """``group``: the dimensions of a sample, t[0], that a group takes whole."""

    def make(g: torch.Generator) -> Inputs:
        tangents = torch.randn(shape, generator=g, dtype=f64) + 1
        x = torch.randn(shape[1:], generator=g, dtype=f64)
        mean = x.mean(group, keepdim=True) if center else torch.zeros(())
        r = 1 / ((x - mean).square().mean(group, keepdim=True) + 1e-3).sqrt()
        return t(tangents.to(dtype)), xhat(((x - mean) * r).to(dtype)), r.to(dtype), center

    elements, sample = math.prod(shape), math.prod(shape[1:])
    return Case(name, make, 8 * elements, (2 * elements + sample) * dtype.itemsize, 12.0, perf)


def rows() -> Iterator[Case]:
    images, last = (3, 2, 6, 5, 7), (-1,)
    for dtype in (f32, f64):
        yield row(f"layer norm {dtype}", (5, 3, 37), last, dtype)
        yield row(f"RMS norm {dtype}", (5, 3, 64), last, dtype, center=False)
        yield row(f"instance norm {dtype}", images, (2, 3), dtype)
        yield row(
            f"instance norm, channels last {dtype}",
            images,
            (2, 3),
            dtype,
            t=channels_last,
            xhat=channels_last,
        )
        yield row(f"pixel norm {dtype}", images, (1,), dtype, center=False)
        yield row(
            f"pixel norm, channels last {dtype}", images, (1,), dtype, False, channels_last, channels_last
        )
        yield row(f"group norm {dtype}", (3, 2, 3, 4, 5, 7), (2, 3, 4), dtype)
        yield row(f"group norm, channels last {dtype}", (3, 2, 35, 3, 4), (1, 3), dtype)
        yield row(f"storage offset {dtype}", (4, 3, 128), last, dtype, t=offset, xhat=offset)
    yield row("t channels last", images, (2, 3), t=channels_last)
    yield row("xhat strided", (4, 3, 50), last, xhat=strided)
    yield row("t expanded", (4, 3, 50), last, t=lambda t: t[:1].expand_as(t))
    yield row("probes apart", (4, 3, 52), last, t=lambda t: torch.cat([t, t], 2)[:, :, :52])
    yield row("a group of one", (4, 3, 1), last)
    yield row("a group for each number", (4, 3, 5), ())
    yield row("one group", (4, 3, 5), (0, 1))
    yield row("no probes", (0, 3, 5), last)
    yield row("no groups", (3, 0, 5), last)
    yield row("empty groups", (3, 4, 0), last)
    for size in (31, 33, 1023, 1024, 1025, 4100, 10_000):  # a warp, a block; chunks of sums
        yield row(f"N={size}", (2, 3, size), last)
    for channels in (1, 31, 33, 63):  # tiles of columns that are whole or not
        yield row(f"columns: {channels}", (2, 2, 40, channels), (1,))
        yield row(f"columns: groups of {channels}", (2, 2, 9, 3, channels), (1, 3))
    yield row("columns: groups of 300", (1, 1, 70, 2, 300), (1, 3))
    yield row("columns: 1100 rows", (2, 1, 1100, 33), (1,))
    yield row("layer norm: L=32 B=2 T=64 C=512", (32, 2, 64, 512), last, perf=True)
    yield row("instance norm: L=32 B=2 32x32x32", (32, 2, 32, 32, 32), (2, 3), perf=True)
    yield row(
        "instance norm, channels last",
        (32, 2, 32, 32, 32),
        (2, 3),
        t=channels_last,
        xhat=channels_last,
        perf=True,
    )
    yield row("group norm, channels last: 8 groups of 4", (32, 2, 1024, 8, 4), (1, 3), perf=True)


def composed(t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> Tensor:
    group = tuple(i - r.dim() for i, size in enumerate(r.shape) if size == 1)
    rest = t - xhat * (xhat * t).mean(group, keepdim=True)
    return r * (rest - t.mean(group, keepdim=True) if center else rest)


NORMALIZE_TANGENTS = Op(
    "normalize_tangents",
    run=lambda ops, t, xhat, r, center: (ops.normalize_tangents(t, xhat, r, center),),
    reference=lambda t, xhat, r, center: (ref.normalize_tangents_ref(t, xhat, r, center),),
    error=of_magnitudes,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[
        row("layer norm: L=64 B=8 T=256 C=512", (64, 8, 256, 512), (-1,)),
        row("instance norm: L=64 B=16 64x32x32", IMAGES, (2, 3)),
        row("instance norm, channels last: L=64 B=16", IMAGES, (2, 3), t=channels_last, xhat=channels_last),
    ],
)
