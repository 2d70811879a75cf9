"""layer_gram: with many or few active units, in units of float64 rounding."""

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Layout, Op, Outputs, as_is, f32, f64, offset, strided


def error(got: Outputs, expected: Outputs, x: Tensor, weight: Tensor, factor: Tensor) -> float:
    """In eps64 of the sums of absolute values; the size in its own."""
    out, size = (tensor.cpu() for tensor in got)
    assert bool((out == out.mT).all()), "not symmetric"
    if not out.numel():
        return 0.0
    unit = ref.layer_gram_ref(x.abs(), weight.abs(), factor.abs())[0] * 2.0**-52
    difference = (out - expected[0]).abs()
    assert bool((difference[unit == 0] == 0).all()), "not zero where every unit is inactive"
    torch.testing.assert_close(size, expected[1], rtol=1e-12, atol=0)
    return float((difference / unit)[unit > 0].max()) if bool((unit > 0).any()) else 0.0


def row(
    name: str,
    shape: tuple[int, int, int, int],
    active: float | int = 0.4,
    dtype: torch.dtype = f32,
    x_layout: Layout = as_is,
    weight_layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    """``shape`` is (L, B, in, out); ``active`` a part of the units, or how many of them in every sample."""
    probes, batch, units, outputs = shape
    part = active / units if isinstance(active, int) else active

    def make(g: torch.Generator) -> Inputs:
        x, weight, factor = (
            torch.randn(size, generator=g, dtype=f64).to(dtype)
            for size in ((probes, batch, units), (outputs, units), (batch, outputs))
        )
        draw = torch.rand(batch, units, generator=g)
        is_active = draw.argsort(1) < active if isinstance(active, int) else draw < active
        x = torch.where(is_active, x, 0.0)
        return x_layout(x), weight_layout(weight), factor

    count = part * units
    flops = int(batch * (outputs * count * (count + 1) + 2 * probes * count * (count + probes)))
    moved = (probes * batch * units + outputs * units + batch * outputs) * dtype.itemsize
    moved += 8 * batch * (probes * probes + 1)
    # Rounding of both sums, of as many blocks as gram's, and of the reference.
    tolerance = 4 + math.sqrt(min(outputs, 256)) + math.sqrt(outputs / 256) + math.sqrt(units)
    return Case(name, make, flops, moved, tolerance, perf)


def rows() -> Iterator[Case]:
    for probes in (1, 7, 31, 32, 33, 65):
        yield row(f"L={probes}", (probes, 2, 20, 45))
    for units in (1, 8, 31, 33, 64, 100):
        yield row(f"all of {units} units", (9, 2, units, 45), 1.0)
        yield row(f"some of {units} units", (9, 3, units, 45), 0.3)
    for active in (1, 7, 8, 9, 31, 32, 33, 38, 64, 65):  # parts of blocks of columns, and tiles beyond 64
        yield row(f"{active} of 80 units", (38, 2, 80, 601), active)
    for outputs in (1, 7, 8, 9, 33, 300):
        yield row(f"{outputs} outputs", (9, 2, 40, outputs))
    yield row("none active", (5, 3, 20, 30), 0.0)
    yield row("no samples", (5, 0, 20, 30))
    yield row("no probes", (0, 2, 20, 30))
    yield row("no units", (5, 2, 0, 30))
    yield row("no outputs", (5, 2, 20, 0))
    for dtype in (f32, f64):
        for layout in (strided, offset):
            yield row(f"{layout.__name__} x, {dtype}", (9, 3, 20, 45), 0.4, dtype, x_layout=layout)
            yield row(f"{layout.__name__} weight, {dtype}", (9, 3, 20, 45), 0.4, dtype, weight_layout=layout)
        yield row(
            f"transposed weight, {dtype}", (9, 3, 20, 45), 0.4, dtype,
            weight_layout=lambda weight: weight.mT.contiguous().mT,
        )  # fmt: skip
    yield row("MNIST GAN: L=64 B=64, 14% of 256 active", (64, 64, 256, 784), 0.14, f64, perf=True)


def composed(x: Tensor, weight: Tensor, factor: Tensor) -> Tensor:
    """All units, in float64."""
    tangents = ((x.double() @ weight.double().mT) * factor.double()).permute(1, 2, 0)
    return tangents.mT @ tangents


LAYER_GRAM = Op(
    "layer_gram",
    run=lambda ops, *inputs: ops.layer_gram(*inputs),
    reference=lambda *inputs: ref.layer_gram_ref(*inputs),
    error=error,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[row("MNIST GAN: L=64 B=1024, 14% of 256 active", (64, 1024, 256, 784), 0.14, f64)],
)
