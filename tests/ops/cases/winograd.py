"""winograd: kernels, strides, borders, layouts and masks, against the convolution in float64."""

import math
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
    kernel, stride, *_, transposed = settings[:5]
    plain = ref.winograd_plain(weight, kernel, stride, transposed)
    unit = ref.winograd_composed(x.double().abs().flatten(0, -4), plain.abs(), *settings[:5])
    whole = unit.amax() if unit.numel() else unit.new_zeros(())
    slopes = [abs(slope) for slope in settings[6:]] or [1.0]
    return in_roundings(got[0], expected[0], (max(slopes) * whole).expand_as(expected[0]))


def row(
    name: str,
    shape: tuple[int, ...],
    channels: int,
    kernel: int = 3,
    stride: int = 1,
    padding: tuple[int, int] = (1, 1),
    transposed: bool = False,
    cut: int = 0,
    tile: int = 4,
    dtype: torch.dtype = f32,
    x: Layout = channels_last,
    slopes: tuple[float, float] | None = None,
    perf: bool = False,
) -> Case:
    """``cut``: rows and columns of the result that are left out at the end (negative: zeros).

    ``slopes``: by which results are masked, with random bits.
    """
    *leading, inner, height, width = shape
    images = math.prod(leading)
    sizes = [
        (n - 1) * stride - 2 * p + kernel if transposed else (n + 2 * p - kernel) // stride + 1
        for n, p in zip((height, width), padding, strict=True)
    ]
    size = [max(0, n - cut) for n in sizes]

    def make(g: torch.Generator) -> Inputs:
        given = x(torch.randn(images, inner, height, width, generator=g, dtype=dtype))
        sides = (inner, channels) if transposed else (channels, inner)
        weight = torch.randn(*sides, kernel, kernel, generator=g, dtype=dtype) / kernel
        transformed = winograd_weight(weight, stride, transposed, tile=tile)
        settings = kernel, stride, list(padding), size, transposed
        if slopes is None:
            return given.unflatten(0, leading), transformed, *settings
        numbers = channels * size[0] * size[1]
        bits = torch.randint(0, 256, (leading[-1], -(-numbers // 8)), generator=g, dtype=torch.uint8)
        return given.unflatten(0, leading), transformed, *settings, bits, *slopes

    pixels = height * width if transposed else sizes[0] * sizes[1]
    out = images * channels * size[0] * size[1]
    moved = images * inner * height * width + out + tile**2 * stride**2 * channels * inner
    flops = 2 * images * pixels * inner * channels * kernel**2
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
    probes = (3, 2, 5, 7, 6)
    yield row("probes", probes, 4)
    for dtype in (f32, f64):
        for kernel, stride, tile in ((3, 1, 4), (4, 2, 5), (3, 1, 6), (5, 2, 6)):
            for transposed in (False, True):
                way = f"{kernel} x {kernel} at stride {stride}{' transposed' * transposed}"
                yield row(
                    f"masked: {way}, tiles of {tile} {dtype}",
                    probes, 40, kernel, stride, (1, 2), transposed, tile=tile, dtype=dtype, slopes=(0.2, 1.5),
                )  # fmt: skip
    yield row(
        "masked: more than the tiles reach", probes, 8, 4, 2, transposed=True, cut=-9, slopes=(0.5, 2.0)
    )
    yield row("masked: fewer pixels", probes, 8, cut=2, slopes=(0.0, 1.0))
    yield row("masked: no bytes of a pixel's own", probes, 12, slopes=(0.2, 1.0))
    yield row("masked: no probes", (0, 2, 3, 4, 5), 8, slopes=(0.2, 1.0))
    yield row("masked: no samples", (2, 0, 3, 4, 5), 8, slopes=(0.2, 1.0))
    yield row("masked: blocks of tiles", (2, 3, 3, 20, 20), 64, slopes=(0.0, 1.0))
    yield row("masked: images", (3, 5, 7, 6), 16, slopes=(-0.3, 1.0))
    yield row("3 x 3, 128 channels: 16 x 128 x 32 x 32", (16, 128, 32, 32), 128, perf=True)
    yield row("tiles of 6, 128 channels: 16 x 128 x 32 x 32", (16, 128, 32, 32), 128, tile=6, perf=True)
    up = (64, 256, 8, 8)
    yield row("up by 4 x 4, 256 to 128 channels", up, 128, 4, 2, transposed=True, perf=True)
    yield row("up, tiles of 5, 256 to 128 channels", up, 128, 4, 2, tile=5, transposed=True, perf=True)


def composed(x: Tensor, weight: Tensor, kernel: int, stride: int, *settings: Any) -> Tensor:
    """The library's convolution of images, by a kernel of the same shape."""
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
    gpu_cases=[
        row("3 x 3, 128 channels: 256 x 128 x 32 x 32", (256, 128, 32, 32), 128),
        row("up by 4 x 4, 256 to 128 channels: 1024 images", (1024, 256, 8, 8), 128, 4, 2, transposed=True),
    ],
)
