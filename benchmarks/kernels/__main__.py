"""``python -m benchmarks.kernels``: every kernel beside ATen and torch.compile, in one run.

For each perf row of the case table: median and quartiles, warm and cold; the part it reaches of a plain copy
of as many bytes (timed beside it) and of a matrix product's flop/s (timed before); the same computation
composed of ATen ops, and that composition through torch.compile. Ratios of one run mean something; times of
a busy machine do not.
The raw ops are timed, as a compiled program calls them; the Python functions with their derivative rules
cost some 50 microseconds more a call.
"""

import argparse
import json
import platform
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import polarity_ext
from benchmarks.kernels.timing import Call, gemm_ceiling, side_by_side
from tests.ops.backends import Backend
from tests.ops.cases import OPS, Case, Op

PEERS = ("aten", "compile")
IN_DOUBLE = ("gram", "symmetric_eigenvalues")  # ops whose products are double whatever their input
COLUMNS = "{:<44} {:>9} {:>15} {:>9} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8}"
HEADINGS = ("row", "warm ms", "quartiles", "cold ms", "GB/s", "GFLOP/s", "copy", "GEMM", "ATen", "compile")


def measure(op: Op, case: Case, backend: Backend, ceilings: dict[str, float]) -> dict[str, Any]:
    inputs = tuple(backend.place(value) for value in case.inputs(seed=0))
    compiled = torch.compile(op.composed, dynamic=False)
    source = torch.ones(case.bytes // 2, dtype=torch.uint8, device=backend.device)
    target = torch.empty_like(source)
    calls: dict[str, Call] = {
        "kernel": lambda: op.run(backend.ops, *inputs),
        "copy": lambda: target.copy_(source),
        "aten": lambda: op.composed(*inputs),
        "compile": lambda: compiled(*inputs),
    }
    fresh = inputs[0].clone()

    def prepare() -> None:  # an op in place must not run on its own results: they underflow
        if op.name.endswith("_"):
            inputs[0].copy_(fresh)

    try:
        compiled(*inputs)
    except Exception as error:  # no C++ compiler, say: the other peer is still worth having
        print(f"torch.compile: {str(error).splitlines()[0]}")
        del calls["compile"]
    warm = side_by_side(calls, prepare, backend.device, cold=False)
    cold = side_by_side(calls, prepare, backend.device, cold=True)
    seconds = warm["kernel"].median
    return {
        "op": op.name,
        "case": case.name,
        "warm": {name: asdict(times) for name, times in warm.items()},
        "cold": {name: asdict(times) for name, times in cold.items()},
        "bytes_per_second": case.bytes / seconds,
        "flop_per_second": case.flops / seconds,
        "part_of_copy": warm["copy"].median / seconds,
        "cold_part_of_copy": cold["copy"].median / cold["kernel"].median,
        "part_of_gemm": case.flops / seconds / ceilings["f64" if op.name in IN_DOUBLE else "f32"],
        "speedup": {name: warm[name].median / seconds for name in PEERS if name in warm},
        "cold_speedup": {name: cold[name].median / cold["kernel"].median for name in PEERS if name in cold},
    }


def show(row: dict[str, Any]) -> None:
    kernel, ratios = row["warm"]["kernel"], row["speedup"]
    print(
        COLUMNS.format(
            f"{row['op']} {row['case']}",
            f"{1e3 * kernel['median']:.3f}",
            f"{1e3 * kernel['low']:.3f}-{1e3 * kernel['high']:.3f}",
            f"{1e3 * row['cold']['kernel']['median']:.3f}",
            f"{row['bytes_per_second'] / 1e9:.1f}",
            f"{row['flop_per_second'] / 1e9:.1f}",
            f"{row['part_of_copy']:.0%}",
            f"{row['part_of_gemm']:.0%}",
            *(f"{ratios[peer]:.2f}x" if peer in ratios else "-" for peer in PEERS),
        ),
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kernels", description=__doc__)
    parser.add_argument("--op", choices=["all", *OPS], default="all")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    arguments = parser.parse_args()
    backend = Backend(arguments.device, arguments.device)

    ceilings = {
        "f32": gemm_ceiling(backend.device, torch.float32),
        "f64": gemm_ceiling(backend.device, torch.float64),
    }
    machine = {
        "device": torch.cuda.get_device_name() if backend.device == "cuda" else platform.machine(),
        "instruction_set": polarity_ext._C.instruction_set(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "gemm_flop_per_second": ceilings,
    }
    print(f"{machine['device']}, torch {torch.__version__}, {torch.get_num_threads()} threads;", end=" ")
    print(", ".join(f"GEMM {name} {flops / 1e9:.0f} GFLOP/s" for name, flops in ceilings.items()))
    print("copy, GEMM: part of that ceiling; ATen, compile: their time over the kernel's; all warm")
    print(COLUMNS.format(*HEADINGS))

    rows = []
    for op in OPS.values() if arguments.op == "all" else [OPS[arguments.op]]:
        for case in (case for case in op.cases if case.perf):
            rows.append(measure(op, case, backend, ceilings))
            show(rows[-1])
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
