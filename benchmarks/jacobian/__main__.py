"""``python -m benchmarks.jacobian``: J @ V and J^T @ U of whole generators beside torch.func, in one run.

For each workload (benchmarks/jacobian/models.py): L columns of the Jacobian of a batch (all K, but for the
largest) and L products with its transpose, from latents to result. Beside ours the fastest of vmap(jacfwd),
chunked vmap(jvp) with its best chunk, torch.compile of that, and jacrev; all in turns. The bound is the
flops of all tangents (matrix products and convolutions of a forward pass, L times) at the rate of a float32
matrix product of n = 2048 (8192 on a GPU) in the same turns. Ratios of one run mean something; times of a
busy machine do not.

--device cuda takes larger batches and waits for the device around every call. All contenders multiply in
float32 there: TF32 is off, which torch leaves on for convolutions. "Replayed" is how many times faster the
products of an operator that is kept are from a CUDA graph (cuda_graph=True) than launched one by one.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from polarity_sampling.memory import parse_memory

from benchmarks import devices
from benchmarks.jacobian.measure import measure
from benchmarks.jacobian.models import WORKLOADS

COLUMNS = (
    "model", "B", "L", "J V ms", "best peer", "its ms", "ratio", "of GEMM bound",
    "Jᵀ U ms", "to J V", "ratio to best peer", "error", "peer's", "MB", "peer's",
)  # fmt: skip
MEMORY = {"cpu": "2GiB", "cuda": "16GiB"}


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
        *([f"{found['graphs']['ratio']['median']:.2f}"] if "graphs" in found else []),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.jacobian",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", choices=WORKLOADS, action="append", help="one or more (all)")
    parser.add_argument("--memory", help="budget of every way (2GiB, on a GPU 16GiB)")
    devices.add_arguments(parser)
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--plot", type=Path, help="only plot cost against latents and probes, to this PNG")
    parser.add_argument(
        "--overhead", action="store_true", help="only print what a batch costs besides kernels, once captured"
    )
    arguments = parser.parse_args()
    device = arguments.device
    devices.prepare(parser, device, arguments.clock)
    memory, clock = (
        parse_memory(arguments.memory or MEMORY[device]),
        devices.clock_of(device, arguments.clock),
    )
    if arguments.plot:
        from benchmarks.jacobian.plot import plot

        plot(arguments.plot, memory, clock, device)
        return

    if arguments.overhead:
        if device != "cpu":
            parser.error("--overhead reads the processor's clock between operators; leave --device out")
        from benchmarks.jacobian.overhead import overhead

        for name in arguments.model or ["dcgan"]:
            print(f"{name}: {overhead(name, memory):.2%} of the time of a batch is outside kernels")
        return

    machine = devices.machine(device, arguments.clock)
    columns = (*COLUMNS, "replayed") if device == "cuda" else COLUMNS
    print(f"{machine}; ms for all L products of one latent\n")
    print("| " + " | ".join(columns) + " |")
    print("|" + "---|" * len(columns))
    rows = []
    for name in arguments.model or WORKLOADS:
        rows.append(measure(name, WORKLOADS[name], memory, clock, device))
        print("| " + " | ".join(row(rows[-1])) + " |", flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
