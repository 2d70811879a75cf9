"""gaussian and uniform: bit for bit, at any offset of the stream."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from tests.ops import references as ref
from tests.ops.cases.case import Case, Inputs, Op, Outputs, f32, f64

SHAPES = {"empty": (0,), "one": (1,), "ragged": (7, 13), "step": (64,), "steps+1": (641,), "long": (40_001,)}
STARTS = {"": 0, " odd": 3, " past 2^32": 2**33 + 5, " near 2^62": 2**62 - 21}


def fill(op: Callable[..., None], out: Tensor, seed: int, start: int) -> Outputs:
    op(out, seed, start)
    return (out,)


def differing_bits(got: Outputs, expected: Outputs, *_: Any) -> float:
    """How many numbers are not the same bit for bit."""
    view = torch.int32 if got[0].dtype == f32 else torch.int64
    return float((got[0].cpu().view(view) != expected[0].view(view)).sum())


def rows(dtype: torch.dtype, flops: int, for_gpu: bool = False) -> Iterator[Case]:
    def row(name: str, shape: tuple[int, ...], start: int, perf: bool = False) -> Case:
        def make(g: torch.Generator) -> Inputs:
            return torch.empty(shape, dtype=dtype), int(torch.randint(2**62, (1,), generator=g)), start

        n = math.prod(shape)
        return Case(f"f{8 * dtype.itemsize} {name}", make, flops * n, dtype.itemsize * n, 0, perf)

    if for_gpu:
        yield row("256M", (1 << 28,), 0)
        return
    for shape_name, shape in SHAPES.items():
        for start_name, start in STARTS.items():
            yield row(shape_name + start_name, shape, start)
    yield row("1M", (1 << 20,), 0, perf=True)


GAUSSIAN = Op(
    "gaussian",
    run=lambda ops, out, seed, start: fill(ops.gaussian_, out, seed, start),
    reference=lambda out, seed, start: (ref.gaussian_ref(seed, start, tuple(out.shape)),),
    error=differing_bits,
    composed=lambda out, seed, start: out.normal_(),
    cases=list(rows(f32, flops=24)),
    gpu_cases=list(rows(f32, flops=24, for_gpu=True)),
)
UNIFORM = Op(
    "uniform",
    run=lambda ops, out, seed, start: fill(ops.uniform_, out, seed, start),
    reference=lambda out, seed, start: (ref.uniform_ref(seed, start, tuple(out.shape), out.dtype),),
    error=differing_bits,
    composed=lambda out, seed, start: out.uniform_(),
    cases=[*rows(f32, flops=2), *rows(f64, flops=2)],
    gpu_cases=[*rows(f32, flops=2, for_gpu=True), *rows(f64, flops=2, for_gpu=True)],
)
