"""upfirdn2d: factors, paddings, filters and layouts, in units of rounding."""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
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

Two = tuple[int, int]
Four = tuple[int, int, int, int]


def of_magnitudes(
    got: Outputs, expected: Outputs, x: Tensor, taps: Tensor, up: Two, down: Two, padding: Four
) -> float:
    """In eps of the same sums of absolute values."""
    unit = ref.upfirdn2d_ref(x.abs(), taps.abs(), up, down, padding)
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, int, int, int],
    taps: Two,
    up: Two = (1, 1),
    down: Two = (1, 1),
    padding: Four = (0, 0, 0, 0),
    dtype: torch.dtype = f32,
    x: Layout = as_is,
    perf: bool = False,
) -> Case:
    def make(g: torch.Generator) -> Inputs:
        images = x(torch.randn(shape, generator=g, dtype=dtype))
        return images, torch.randn(taps, generator=g, dtype=dtype), list(up), list(down), list(padding)

    height = (shape[2] * up[1] + padding[2] + padding[3] - taps[0]) // down[1] + 1
    width = (shape[3] * up[0] + padding[0] + padding[1] - taps[1]) // down[0] + 1
    out = shape[0] * shape[1] * height * width
    flops = 2 * out * taps[0] * taps[1] // (up[0] * up[1])
    return Case(name, make, flops, (out + math.prod(shape)) * dtype.itemsize, 16.0, perf)


def rows() -> Iterator[Case]:
    small = (2, 3, 7, 9)
    for layout in (as_is, channels_last):
        last = " channels last" if layout is channels_last else ""
        for dtype in (f32, f64):
            yield row(f"filter{last} {dtype}", small, (4, 4), padding=(2, 1, 2, 1), dtype=dtype, x=layout)
            yield row(
                f"up 2{last} {dtype}", small, (4, 4), (2, 2), padding=(2, 1, 2, 1), dtype=dtype, x=layout
            )
            yield row(f"down 2{last} {dtype}", small, (4, 4), (1, 1), (2, 2), (1, 1, 1, 1), dtype, layout)
        yield row(f"up 3, 2 down 2, 5{last}", small, (5, 6), (3, 2), (2, 5), (4, 1, 3, 0), x=layout)
        yield row(f"up 4 down 2{last}", small, (12, 7), (4, 4), (2, 2), (5, 6, 3, 4), x=layout)
        yield row(f"cropped{last}", small, (3, 3), (2, 2), (1, 1), (-3, -2, -1, -4), x=layout)
        yield row(
            f"padded by more than the image{last}",
            (1, 5, 2, 3),
            (4, 5),
            (2, 2),
            (3, 1),
            (9, 11, 8, 13),
            x=layout,
        )
        yield row(f"fewer taps than up{last}", small, (1, 2), (3, 4), x=layout)
        yield row(f"one tap for one pixel{last}", (2, 3, 1, 1), (1, 1), x=layout)
        yield row(f"16 x 16 taps{last}", (1, 2, 20, 33), (16, 16), (2, 2), (1, 1), (8, 7, 8, 7), x=layout)
        yield row(f"no images{last}", (0, 3, 4, 5), (2, 2), x=layout)
    for channels in (1, 15, 17, 65, 100):  # vectors, groups of vectors, rests
        yield row(
            f"{channels} channels", (1, channels, 4, 5), (3, 3), (2, 2), (1, 1), (1, 1, 1, 1), x=channels_last
        )
    yield row("storage offset", small, (3, 3), x=offset)
    yield row("strided", small, (3, 3), x=strided)
    yield row("expanded", small, (3, 3), x=lambda x: x[:1].expand_as(x))
    images = (32, 64, 32, 32)
    up_2 = {"taps": (4, 4), "up": (2, 2), "padding": (2, 1, 2, 1), "perf": True}
    yield row("up 2, 4 x 4 taps: 32 x 64 x 32 x 32", images, **up_2)
    yield row("up 2, channels last", images, x=channels_last, **up_2)
    yield row("down 2, 4 x 4 taps", images, (4, 4), (1, 1), (2, 2), (1, 1, 1, 1), perf=True)
    yield row("filter, 4 x 4 taps", images, (4, 4), padding=(2, 1, 2, 1), perf=True)


def gpu_rows() -> Iterator[Case]:
    images, size = (128, 64, 64, 64), "128 x 64 x 64 x 64"
    up_2 = {"taps": (4, 4), "up": (2, 2), "padding": (2, 1, 2, 1)}
    yield row(f"up 2, 4 x 4 taps: {size}", images, **up_2)
    yield row(f"up 2, channels last: {size}", images, x=channels_last, **up_2)
    yield row(f"down 2, 4 x 4 taps: {size}", images, (4, 4), (1, 1), (2, 2), (1, 1, 1, 1))
    yield row(f"filter, 4 x 4 taps: {size}", images, (4, 4), padding=(2, 1, 2, 1))


def composed(x: Tensor, taps: Tensor, up: Two, down: Two, padding: Four) -> Tensor:
    """Zeros inserted by reshaping, then a depthwise convolution."""
    n, channels, height, width = x.shape
    zeros = F.pad(x[:, :, :, None, :, None], (0, up[0] - 1, 0, 0, 0, up[1] - 1))
    padded = F.pad(zeros.reshape(n, channels, height * up[1], width * up[0]), padding)
    weight = taps.expand(channels, 1, -1, -1)
    return F.conv2d(padded, weight, stride=(down[1], down[0]), groups=channels)


UPFIRDN2D = Op(
    "upfirdn2d",
    run=lambda ops, *arguments: (ops.upfirdn2d(*arguments),),
    reference=lambda *arguments: (ref.upfirdn2d_ref(*arguments),),
    error=of_magnitudes,
    composed=composed,
    cases=list(rows()),
    gpu_cases=list(gpu_rows()),
)
