"""activation: y and derivative in units in the last place."""

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from polarity_ext.ops.activation import ACTIVATIONS
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
    offset,
    strided,
)

KINDS = list(ACTIVATIONS)

# Floating-point operations for each element, as csrc/kernels/activation_point.h writes them.
FLOPS = {
    "relu": 2,
    "leaky_relu": 3,
    "tanh": 30,
    "sigmoid": 24,
    "silu": 29,
    "gelu": 65,
    "softplus": 45,
    "elu": 24,
}


def default_alpha(kind: str) -> float:
    return ACTIVATIONS[kind] or 0.0


def in_ulps(got: Tensor, expected: Tensor, size: Tensor) -> float:
    """max |got - expected| in units in the last place of ``size``, at least 128 smallest normal numbers."""
    if got.numel() == 0:
        return 0.0
    info = torch.finfo(got.dtype)
    unit = 2.0 ** torch.floor(torch.log2(size.clamp(min=128 * info.smallest_normal))) * info.eps
    return float(((got.double() - expected).abs() / unit).max())


def error(got: Outputs, expected: Outputs, x: Tensor, kind: int, alpha: float) -> float:
    """In units in the last place of y, and of the larger term of the derivative where that is a sum."""
    y, derivative = (g.cpu() for g in got)
    terms = expected[1].abs()
    if KINDS[kind] in ("silu", "gelu"):  # f'(x) = f(x) / x + another term: it crosses zero
        nonzero = torch.where(x == 0, 1, x).cpu()
        terms = torch.maximum(terms, (expected[0] / nonzero).abs())
    return max(in_ulps(y, expected[0], expected[0].abs()), in_ulps(derivative, expected[1], terms))


def row(
    name: str,
    kind: str,
    shape: tuple[int, ...],
    dtype: torch.dtype = f32,
    alpha: float | None = None,
    layout: Layout = as_is,
    perf: bool = False,
) -> Case:
    value = default_alpha(kind) if alpha is None else alpha

    def make(g: torch.Generator) -> Inputs:
        x = 4 * torch.randn(shape, generator=g, dtype=f64)
        return layout(x.to(dtype)), KINDS.index(kind), value

    n = math.prod(shape)
    return Case(f"{kind} {name}", make, FLOPS[kind] * n, 3 * n * dtype.itemsize, tolerance=8, perf=perf)


def rows() -> Iterator[Case]:
    for kind in KINDS:
        yield row("f32", kind, (3, 517))
        yield row("f64", kind, (2, 67), f64)
        yield row("channels last", kind, (2, 3, 5, 7), layout=channels_last)
        yield row("strided", kind, (4, 33), layout=strided)
        yield row("storage offset", kind, (130,), layout=offset)
        yield row("1M", kind, (1 << 20,), perf=True)
    yield row("alpha=0.2", "leaky_relu", (300,), alpha=0.2)
    yield row("alpha=3.7", "softplus", (300,), alpha=3.7)
    yield row("alpha=0.7", "elu", (300,), alpha=0.7)
    yield row("empty", "tanh", (0, 4))
    yield row("scalar", "tanh", ())
    for size in (1, 15, 17, 8193):
        yield row(f"size {size}", "tanh", (size,))


def composed(x: Tensor, kind: int, alpha: float) -> tuple[Tensor, Tensor]:
    """What one writes without the op; its derivatives of tanh and sigmoid cancel where they saturate."""
    return COMPOSED[KINDS[kind]](x, alpha)


def _tanh(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    y = torch.tanh(x)
    return y, 1 - y * y


def _sigmoid(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    y = torch.sigmoid(x)
    return y, y * (1 - y)


def _silu(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    s = torch.sigmoid(x)
    return x * s, s * (1 + x * (1 - s))


def _gelu(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    cdf = 0.5 * (1 + torch.erf(x * math.sqrt(0.5)))
    return x * cdf, cdf + x * torch.exp(-0.5 * x * x) / math.sqrt(2 * math.pi)


COMPOSED: dict[str, Callable[[Tensor, float], tuple[Tensor, Tensor]]] = {
    "relu": lambda x, a: (F.relu(x), (x > 0).to(x.dtype)),
    "leaky_relu": lambda x, a: (F.leaky_relu(x, a), torch.where(x > 0, 1.0, a)),
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "silu": _silu,
    "gelu": _gelu,
    "softplus": lambda x, a: (F.softplus(x, a), torch.sigmoid(a * x)),
    "elu": lambda x, a: (F.elu(x, a), torch.where(x > 0, 1.0, a * torch.exp(x))),
}

ACTIVATION = Op(
    "activation",
    run=lambda ops, x, kind, alpha: tuple(ops.activation(x, kind, alpha)),
    reference=lambda x, kind, alpha: ref.activation_ref(x, KINDS[kind], alpha),
    error=error,
    composed=composed,
    cases=list(rows()),
    gpu_cases=[row("64M", kind, (1 << 26,)) for kind in KINDS],
)
