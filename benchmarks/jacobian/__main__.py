"""``python -m benchmarks.jacobian``: J @ V and J^T @ U of whole generators beside torch.func, in one run.

For each workload (benchmarks/jacobian/models.py): L columns of the Jacobian of a batch (all K, but for the
largest) and L products with its transpose, from latents to result. Beside ours the fastest of vmap(jacfwd),
chunked vmap(jvp) with its best chunk, torch.compile of that, and jacrev; all in turns. The bound is the
flops of all tangents (matrix products and convolutions of a forward pass, L times) at the rate of a float32
matrix product of n = 2048 in the same turns. Ratios of one run mean something; times of a busy machine do
not.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from typing import Any

import torch
from polarity_sampling.memory import parse_memory

from benchmarks.jacobian.measure import measure
from benchmarks.jacobian.models import WORKLOADS

COLUMNS = (
    "model", "B", "L", "J V ms", "best peer", "its ms", "ratio", "of GEMM bound",
    "Jᵀ U ms", "to J V", "ratio to best peer", "error", "peer's", "MB", "peer's",
)  # fmt: skip


CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def row(found: dict[str, Any]) -> list[str]:
    forward, adjoint, batch = found["forward"], found["adjoint"], found["latents"]
    each = 1e3 / batch
    return [
        found["name"],
        str(batch),
        str(found["products"]),
        f"{each * forward['seconds']['median']:.3g}",
        forward["peer"],
        f"{each * forward['peer_seconds']['median']:.3g}",
        f"{forward['ratio']['median']:.2f}",
        f"{found['part_of_bound']:.0%}",
        f"{each * adjoint['seconds']['median']:.3g}",
        f"{found['adjoint_over_forward']:.2f}",
        f"{adjoint['ratio']['median']:.2f}",
        f"{max(forward['error'], adjoint['error']):.0e}",
        f"{max(forward['peer_error'], adjoint['peer_error']):.0e}",
        f"{max(forward['bytes'], adjoint['bytes']) / 1e6:.0f}",
        f"{max(forward['peer_bytes'], adjoint['peer_bytes']) / 1e6:.0f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.jacobian", description=__doc__)
    parser.add_argument("--model", choices=WORKLOADS, action="append", help="one or more (all)")
    parser.add_argument("--memory", default="2GiB", help="budget of every way (2GiB)")
    parser.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="or seconds of the processor, on a machine that others use: then with OMP_NUM_THREADS=1 (wall)",
    )
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--plot", type=Path, help="only plot cost against latents and probes, to this PNG")
    parser.add_argument(
        "--overhead", action="store_true", help="only print what a batch costs besides kernels, once captured"
    )
    arguments = parser.parse_args()
    memory, clock = parse_memory(arguments.memory), CLOCKS[arguments.clock]
    if arguments.plot:
        from benchmarks.jacobian.plot import plot

        plot(arguments.plot, memory, clock)
        return

    if arguments.overhead:
        from benchmarks.jacobian.overhead import overhead

        for name in arguments.model or ["dcgan"]:
            print(f"{name}: {overhead(name, memory):.2%} of the time of a batch is outside kernels")
        return

    threads, version = torch.get_num_threads(), torch.__version__
    machine = f"{platform.machine()}, torch {version}, {threads} threads, {arguments.clock} time"
    print(f"{machine}; ms for all L products of one latent\n")
    print("| " + " | ".join(COLUMNS) + " |")
    print("|" + "---|" * len(COLUMNS))
    rows = []
    for name in arguments.model or WORKLOADS:
        rows.append(measure(name, WORKLOADS[name], memory, clock))
        print("| " + " | ".join(row(rows[-1])) + " |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
