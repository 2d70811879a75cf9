"""winograd: kernels, strides, borders and layouts, against the convolution in float64."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from polarity_ext import winograd_weight
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


def of_magnitudes(got: Outputs, expected: Outputs, x: Tensor, weight: Tensor, *settings: Any) -> float:
    """In eps of the largest sum of absolute values: a tile shares the rounding of its largest number."""
    plain = ref.winograd_plain(weight, settings[0], settings[1], settings[-1])
    unit = ref.winograd_composed(x.double().abs(), plain.abs(), *settings)
    whole = unit.amax() if unit.numel() else unit.new_zeros(())
    return in_roundings(got[0], expected[0], whole.expand_as(unit))


def row(
    name: str,
    shape: tuple[int, int, int, int],
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    padding: tuple[int, int] = (1, 1),
    transposed: bool = False,
    cut: int = 0,
    tile: int = 4,
    dtype: torch.dtype = f32,
    x: Layout = channels_last,
    perf: bool = False,
) -> Case:
    """``cut``: rows and columns of the result that are left out at the end (negative: zeros)."""
    sizes = [
        (n - 1) * stride - 2 * p + kernel if transposed else (n + 2 * p - kernel) // stride + 1
        for n, p in zip(shape[2:], padding, strict=True)
    ]
    size = [max(0, n - cut) for n in sizes]

    def make(g: torch.Generator) -> Inputs:
        images = x(torch.randn(shape, generator=g, dtype=dtype))
        sides = (shape[1], channels) if transposed else (channels, shape[1])
        weight = torch.randn(*sides, kernel, kernel, generator=g, dtype=dtype) / kernel
        transformed = winograd_weight(weight, stride, transposed, tile=tile)
        return images, transformed, kernel, stride, list(padding), size, transposed

    pixels = shape[2] * shape[3] if transposed else sizes[0] * sizes[1]
    out = shape[0] * channels * size[0] * size[1]
    moved = shape[0] * shape[1] * shape[2] * shape[3] + out + tile**2 * stride**2 * channels * shape[1]
    flops = 2 * shape[0] * pixels * shape[1] * channels * kernel**2
    # Points further from 0 enlarge the rounding of what is transformed.
    return Case(name, make, flops, moved * dtype.itemsize, 8.0 if tile == 4 else 32.0, perf)


def rows() -> Iterator[Case]:
    small = (2, 5, 7, 6)
    for dtype in (f32, f64):
        yield row(f"3 x 3 {dtype}", small, 6, dtype=dtype)
        yield row(f"4 x 4 at stride 2 {dtype}", small, 3, 4, 2, dtype=dtype)
        yield row(f"4 x 4 at stride 2 transposed {dtype}", small, 3, 4, 2, transposed=True, dtype=dtype)
        yield row(f"tiles of 6 {dtype}", small, 6, tile=6, dtype=dtype)
        yield row(f"tiles of 5 {dtype}", small, 3, 4, 2, tile=5, dtype=dtype)
        yield row(f"tiles of 5 transposed {dtype}", small, 3, 4, 2, tile=5, transposed=True, dtype=dtype)
    yield row("tiles of 6 transposed", small, 4, tile=6, transposed=True)
    yield row("tiles of 6 for 5 x 5 at stride 2", small, 4, 5, 2, (2, 2), tile=6)
    yield row("tiles of 6 for 5 x 5 at stride 2 transposed", small, 4, 5, 2, (2, 1), True, tile=6)
    yield row("tiles of 6 for 6 x 6 at stride 2 transposed", small, 4, 6, 2, (2, 1), True, tile=6)
    yield row("tiles of 5 for 2 x 2", small, 4, 2, 1, (0, 0), tile=5)
    yield row("tiles of 5 for 3 x 3 at stride 2", small, 4, 3, 2, tile=5)
    yield row("tiles of 5 for 3 x 3 at stride 2 transposed", small, 4, 3, 2, (0, 0), True, tile=5)
    yield row("tiles of 6 for 4 x 4", small, 4, 4, 1, (2, 1), tile=6)
    yield row("tiles of 6 for 4 x 4 transposed", small, 4, 4, 1, (0, 1), True, tile=6)
    yield row("tiles of 6 for 7 x 7 at stride 2", small, 4, 7, 2, (3, 3), tile=6)
    yield row("tiles of 6 for 7 x 7 at stride 2 transposed", small, 4, 7, 2, (3, 2), True, tile=6)
    yield row("more than the tiles reach, transposed", small, 4, 4, 2, transposed=True, cut=-9)
    yield row("3 x 3 transposed", small, 4, transposed=True)
    yield row("3 x 3 without padding", small, 4, padding=(0, 0))
    yield row("3 x 3 padded by more than the kernel", small, 4, padding=(5, 4))
    yield row("3 x 3 at stride 2", small, 4, 3, 2)
    yield row("3 x 3 at stride 2 transposed", small, 4, 3, 2, padding=(0, 0), transposed=True)
    yield row("5 x 5 at stride 2 transposed", small, 4, 5, 2, (2, 2), transposed=True)
    yield row("6 x 6 at stride 2", small, 4, 6, 2, (2, 1))
    yield row("2 x 2", small, 4, 2, 1, (0, 0))
    yield row("7 x 7 at stride 3 transposed", small, 4, 7, 3, (3, 2), transposed=True)
    yield row("one pixel more", small, 4, 4, 2, transposed=True, cut=-1)
    yield row("fewer pixels", small, 4, cut=2)
    yield row("one pixel", (3, 4, 1, 1), 5)
    yield row("no images", (0, 3, 4, 5), 2)
    yield row("no results", small, 2, cut=20)
    for channels in (15, 33, 70):  # vectors, panels, rests of both
        yield row(f"{channels} channels", (1, channels, 5, 4), channels + 1)
    yield row("64 channels at stride 2", (1, 40, 9, 7), 64, 3, 2, (0, 0))
    yield row("64 channels at stride 2 transposed", (1, 40, 5, 4), 64, 3, 2, (0, 0), True)
    yield row("blocks of tiles", (3, 3, 20, 20), 33)
    yield row("more blocks of tiles", (6, 3, 20, 20), 32)
    yield row("blocks of tiles of 6", (8, 3, 20, 20), 32, tile=6)
    yield row("blocks of tiles that overlap", (9, 3, 9, 10), 64, 4, 2, transposed=True, tile=5)
    yield row("32 numbers of 8 channels, transposed", small, 8, 4, 2, transposed=True, tile=5)
    yield row("channels first", small, 4, x=as_is)
    yield row("storage offset", small, 4, x=offset)
    yield row("strided", small, 4, x=strided)
    yield row("expanded", small, 4, x=lambda x: x[:1].expand_as(x))
    yield row("3 x 3, 128 channels: 16 x 128 x 32 x 32", (16, 128, 32, 32), 128, perf=True)
    yield row("tiles of 6, 128 channels: 16 x 128 x 32 x 32", (16, 128, 32, 32), 128, tile=6, perf=True)
    up = (64, 256, 8, 8)
    yield row("up by 4 x 4, 256 to 128 channels", up, 128, 4, 2, transposed=True, perf=True)
    yield row("up, tiles of 5, 256 to 128 channels", up, 128, 4, 2, tile=5, transposed=True, perf=True)


def composed(x: Tensor, weight: Tensor, kernel: int, stride: int, *settings: Any) -> Tensor:
    """The library's convolution, by a kernel of the same shape."""
    inner = x.shape[1]
    plain = weight.flatten()[: weight[0].numel() // stride**2 * kernel**2]
    return ref.winograd_composed(x, plain.view(inner, -1, kernel, kernel), kernel, stride, *settings)


WINOGRAD = Op(
    "winograd",
    run=lambda ops, *arguments: (ops.winograd(*arguments),),
    reference=lambda *arguments: (ref.winograd_ref(*arguments),),
    error=of_magnitudes,
    composed=composed,
    cases=list(rows()),
)
