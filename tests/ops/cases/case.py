"""What a row of the case table declares, and the memory layouts rows ask for."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

Inputs = tuple[Any, ...]
Outputs = tuple[Tensor, ...]
Layout = Callable[[Tensor], Tensor]
f32, f64 = torch.float32, torch.float64


@dataclass(frozen=True)
class Case:
    name: str
    make: Callable[[torch.Generator], Inputs]  # fresh inputs, on torch's default device
    flops: int
    bytes: int  # read and written at least
    tolerance: float  # in the op's unit of error, see Op.error
    perf: bool = False  # also a row of benchmarks/kernels
    tf32: bool = False  # the op multiplies in TF32: what it is compared with may, too
    cuda_only: bool = False  # larger than the CPU kernel takes

    def inputs(self, seed: int, device: str = "cpu") -> Inputs:
        """Drawn where they are wanted; other numbers on another device."""
        with torch.device(device):
            return self.make(torch.Generator(device).manual_seed(seed))

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class Op:
    name: str
    run: Callable[..., Outputs]  # run(ops, *inputs) with ops = torch.ops.polarity
    reference: Callable[..., Outputs]
    error: Callable[..., float]  # error(got, expected, *inputs): the largest, in a unit natural to the op
    composed: Callable[..., Any]  # the same from ATen ops: the peer in benchmarks
    cases: list[Case]
    gpu_cases: list[Case] = field(
        default_factory=list
    )  # that fill a GPU: its benchmark's, and no other test's


def repeated(case: Case, times: int) -> Case:
    """The batch of the first input as many times over: to draw all of it would take longer than the op."""

    def make(g: torch.Generator) -> Inputs:
        first, *others = case.make(g)
        return first.repeat(times, *[1] * (first.dim() - 1)), *others

    return replace(case, make=make, flops=times * case.flops, bytes=times * case.bytes)


def in_roundings(got: Tensor, expected: Tensor, unit: Tensor) -> float:
    """The largest error in eps of `unit`, float64, the magnitudes that rounding is proportional to."""
    difference = (got.cpu().double() - expected.double()).abs()
    error = torch.where(difference == 0, 0.0, difference / unit)  # where the unit is zero, too
    return float(error.max()) / torch.finfo(got.dtype).eps if error.numel() else 0.0


# Layouts: the same numbers, elsewhere in memory.


def as_is(x: Tensor) -> Tensor:
    return x


def offset(x: Tensor) -> Tensor:
    """In the middle of a larger storage, not on a vector boundary."""
    room = x.new_zeros(x.numel() + 6)
    return room[3 : 3 + x.numel()].view(x.shape).copy_(x)


def strided(x: Tensor) -> Tensor:
    """Every second number of a last dimension twice as long."""
    return torch.stack([x, torch.zeros_like(x)], dim=-1).flatten(-2)[..., ::2]


def channels_last(x: Tensor) -> Tensor:
    """Dimension -3 innermost, whatever comes before it."""
    return x.movedim(-3, -1).contiguous().movedim(-1, -3)


def samples_outside(t: Tensor) -> Tensor:
    """[L, B, ...] stored as [B, L, ...]."""
    return t.transpose(0, 1).contiguous().transpose(0, 1)
