"""One row of the benchmark: a kernel beside a copy, a matrix product and its peers."""

from dataclasses import dataclass

import torch

from benchmarks.kernels import device, peers
from benchmarks.kernels.timing import Call, Spread, ratio, side_by_side
from tests.ops.backends import Backend
from tests.ops.cases import Case, Op
from tests.ops.cases.case import Outputs


@dataclass(frozen=True)
class Row:
    op: str
    case: str
    seconds: dict[str, Spread]  # of the kernel, the copy, the product and the peers, warm
    cold_seconds: dict[str, Spread]
    bytes_per_second: float
    flop_per_second: float
    # Larger is better: roofline (1 is its time) and the time of each peer over the kernel's.
    figures: dict[str, Spread]
    cold_figures: dict[str, Spread]


def figures(seconds: dict[str, list[float]], flops: int, gemm_flops: int) -> dict[str, Spread]:
    """Roofline: the time of the copy, or of the flops at the speed of the product, whichever is longer."""
    kernel = seconds["kernel"]
    pairs = zip(seconds["copy"], seconds["gemm"], strict=True)
    least = [max(copy, gemm * flops / gemm_flops) for copy, gemm in pairs]
    return {"roofline": ratio(least, kernel)} | {
        name: ratio(seconds[name], kernel) for name in peers.PEERS if name in seconds
    }


def precision_of(outputs: Outputs) -> torch.dtype:
    """That of the arithmetic: gram's is float64. Rows drawn and other whole numbers say nothing about it."""
    return torch.float64 if outputs[0].dtype == torch.float64 else torch.float32


def measure(op: Op, case: Case, backend: Backend, wanted: tuple[str, ...]) -> Row:
    """Times the raw op, as a compiled program calls it."""
    with device.tf32(backend.device, allowed=case.tf32):
        return _measure(op, case, backend, wanted)


def _measure(op: Op, case: Case, backend: Backend, wanted: tuple[str, ...]) -> Row:
    inputs = case.inputs(0, backend.device)
    fresh = inputs[0].clone()
    source = torch.ones(case.bytes // 2, dtype=torch.uint8, device=backend.device)
    target = torch.empty_like(source)
    factor = device.gemm_operand(backend.device, precision_of(op.run(backend.ops, *inputs)))
    calls: dict[str, Call] = {
        "kernel": lambda: op.run(backend.ops, *inputs),
        "copy": lambda: target.copy_(source),
        "gemm": lambda: factor @ factor,
        **peers.calls(op, inputs, backend.device, wanted),
    }

    def prepare() -> None:  # an op in place must not run on its own results: they underflow
        if op.name.endswith("_"):
            inputs[0].copy_(fresh)

    warm = side_by_side(calls, prepare, backend.device, cold=False)
    cold = side_by_side(calls, prepare, backend.device, cold=True)
    kernel = Spread.of(warm["kernel"]).median
    gemm_flops = 2 * len(factor) ** 3
    return Row(
        op.name,
        case.name,
        {name: Spread.of(values) for name, values in warm.items()},
        {name: Spread.of(values) for name, values in cold.items()},
        case.bytes / kernel,
        case.flops / kernel,
        figures(warm, case.flops, gemm_flops),
        figures(cold, case.flops, gemm_flops),
    )
