"""convolve_to_few: kernels, strides, borders and layouts, against the convolution in float64."""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

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


def reference(
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: list[int],
    size: list[int],
    factor: Tensor | None = None,
) -> Tensor:
    """The whole transposed convolution and what is wanted of it, in the dtype of x."""
    whole = F.conv_transpose2d(x.flatten(0, -4), weight, stride=stride)
    beyond = [n for p, w, wanted in zip(padding[::-1], whole.shape[:1:-1], size[::-1], strict=True)
              for n in (-p, wanted + p - w)]  # fmt: skip
    out = F.pad(whole, beyond).unflatten(0, x.shape[:-3])
    return out if factor is None else out * factor


def of_terms(got: Outputs, expected: Outputs, x: Tensor, weight: Tensor, *settings: Any) -> float:
    """In eps of the sum of absolute values."""
    *geometry, factor = settings if len(settings) == 4 else (*settings, None)
    unit = reference(x.double().abs(), weight.double().abs(), *geometry)
    if factor is not None:
        unit = unit * factor.double().abs()
    return in_roundings(got[0], expected[0], unit)


def row(
    name: str,
    shape: tuple[int, ...],
    channels: int,
    kernel: tuple[int, int] = (4, 4),
    stride: int = 2,
    padding: tuple[int, int] = (1, 1),
    more: int = 0,
    dtype: torch.dtype = f32,
    x: Layout = channels_last,
    factor: Layout | None = None,
    perf: bool = False,
) -> Case:
    """``more``: rows and columns of the result behind those of the convolution (negative: fewer).

    ``factor``: results are multiplied by one that lies so in memory.
    """
    sizes = [(n - 1) * stride - 2 * p + k + more for n, p, k in zip(shape[-2:], padding, kernel, strict=True)]
    size = [max(0, n) for n in sizes]

    def make(g: torch.Generator) -> Inputs:
        given = x(torch.randn(images, inner, height, width, generator=g, dtype=dtype))
        weight = torch.randn(inner, channels, *kernel, generator=g, dtype=dtype)
        arguments = given.unflatten(0, leading), weight, stride, list(padding), size
        if factor is None:
            return arguments
        return *arguments, factor(torch.randn(leading[-1], channels, *size, generator=g, dtype=dtype))

    *leading, inner, height, width = shape
    images = math.prod(leading)
    taps = inner * channels * kernel[0] * kernel[1]
    moved = images * (inner * height * width + channels * size[0] * size[1]) + taps
    # A sum of so many terms, one after the other.
    terms = inner * -(-kernel[0] // stride) * -(-kernel[1] // stride)
    tolerance = 2.0 + terms**0.5
    return Case(name, make, 2 * images * height * width * taps, moved * dtype.itemsize, tolerance, perf)


def rows() -> Iterator[Case]:
    small = (2, 5, 7, 6)
    for dtype in (f32, f64):
        for channels in (1, 2, 3, 5):
            yield row(f"4 x 4 at stride 2, {channels} channels {dtype}", small, channels, dtype=dtype)
        yield row(f"3 x 3 {dtype}", small, 3, (3, 3), 1, dtype=dtype)
        yield row(f"whole vectors {dtype}", (2, 35, 18, 33), 3, dtype=dtype)
        yield row(f"whole vectors, channels first {dtype}", (2, 35, 18, 33), 3, dtype=dtype, x=as_is)
    yield row("5 x 4 at stride 3", small, 2, (5, 4), 3, (2, 1))
    yield row("3 x 3 at stride 2: phases with a tap less", small, 3, (3, 3))
    yield row("2 x 2 at stride 3: phases without a tap", small, 3, (2, 2), 3, (0, 0))
    yield row("7 x 7 without a stride", small, 3, (7, 7), 1, (3, 3))
    yield row("1 x 1", small, 3, (1, 1), 1, (0, 0))
    yield row("1 x 5", small, 4, (1, 5), 1, (0, 2))
    yield row("without padding", small, 3, padding=(0, 0))
    yield row("padding of more than the kernel", small, 3, padding=(5, 4))
    yield row("more pixels than the convolution has", small, 3, more=9)
    yield row("fewer pixels", small, 3, more=-3)
    yield row("probes", (3, *small), 3)
    yield row("probes, channels first", (3, *small), 3, x=as_is)
    yield row("one pixel", (3, 4, 1, 1), 2)
    yield row("one channel", (2, 1, 5, 9), 1)
    yield row("many channels of both", (1, 70, 5, 4), 33)
    yield row("bands of rows", (1, 130, 40, 36), 3, (3, 3), 1)
    yield row("no images", (0, 3, 4, 5), 2)
    yield row("no results", small, 2, more=-20)
    yield row("storage offset", small, 4, x=offset)
    yield row("strided", small, 4, x=strided)
    yield row("expanded", small, 4, x=lambda x: x[:1].expand_as(x))
    for dtype in (f32, f64):
        yield row(f"scaled: probes {dtype}", (3, *small), 3, dtype=dtype, factor=as_is)
        yield row(f"scaled: 3 x 3 {dtype}", small, 2, (3, 3), 1, dtype=dtype, factor=as_is)
    yield row("scaled: 5 x 4 at stride 3, channels first", small, 2, (5, 4), 3, (2, 1), x=as_is, factor=as_is)
    yield row("scaled: bands of rows", (2, 1, 130, 40, 36), 3, (3, 3), 1, factor=as_is)
    yield row("scaled: more pixels than the convolution has", (3, *small), 3, more=9, factor=as_is)
    yield row("scaled: strided factor", (3, *small), 3, factor=strided)
    yield row("scaled: no probes", (0, *small), 3, factor=as_is)
    yield row("scaled: no samples", (3, 0, 3, 4, 5), 3, factor=as_is)
    yield row("up to RGB: 64 x 64 x 32 x 32", (64, 64, 32, 32), 3, perf=True)
    yield row("up to grey: 64 x 64 x 14 x 14", (64, 64, 14, 14), 1, perf=True)
    yield row("3 x 3 to RGB: 16 x 64 x 64 x 64", (16, 64, 64, 64), 3, (3, 3), 1, perf=True)


CONVOLVE_TO_FEW = Op(
    "convolve_to_few",
    run=lambda ops, *arguments: (ops.convolve_to_few(*arguments),),
    reference=lambda x, weight, *settings: (reference(x.double(), weight.double(), *settings),),
    error=of_terms,
    composed=reference,
    cases=list(rows()),
    gpu_cases=[
        row("up to RGB: 1024 x 64 x 32 x 32", (1024, 64, 32, 32), 3),
        row("3 x 3 to RGB: 256 x 64 x 64 x 64", (256, 64, 64, 64), 3, (3, 3), 1),
    ],
)
