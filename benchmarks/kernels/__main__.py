"""``python -m benchmarks.kernels [run | record | compare]``: every kernel beside what else would do its work.

The ceilings of the device come first: a large copy, and matrix products. Then, for each perf row of the case
table: median and quartiles, warm and cold; bytes/s and flop/s; the part of the roofline it reaches, which is
the time of a copy of as many bytes or of as many flops in a matrix product, whichever is longer; and how much
longer the same takes composed of ATen ops, in torch.compile of that, and in one call of CuPy. Copy, product
and peers are timed in turn with the kernel, and ratios formed repetition by repetition, so what slows the
machine for a while cancels. Times of a busy machine mean little; a copy within the caches is faster than the
first one.

record writes the ratios to reference/<device>.csv; compare says which are worse than there by more than the
spread, and exits with 1 if any is (with 2 where there is nothing to compare with).

The raw ops are timed; the Python functions with their derivative rules cost some 50 microseconds more a call.
--backend cuda takes rows that fill a GPU, and times what the device does, without launches. torch multiplies
in float32 for everybody (it would leave TF32 on for convolutions), but in TF32 beside ops that do so
themselves. Where a composition is a library's call, torch.compile is not tried.

--backend emulated-forward runs the CUDA kernels in the emulator (tests/emulator), over the small rows: its
times say what a kernel costs the tests, nothing about a GPU.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch

from benchmarks.kernels import device, reference
from benchmarks.kernels.measure import Row, measure
from benchmarks.kernels.peers import PEERS
from tests.ops.backends import CPU, CUDA, EMULATED, LESSER, Backend
from tests.ops.cases import OPS, Case
from tests.ops.small_rows import LARGEST

BACKENDS = {backend.name: backend for backend in (CPU, CUDA, *LESSER, *EMULATED)}
COLUMNS = "{:<44} {:>9} {:>15} {:>9} {:>8} {:>8} {:>9} {:>9} {:>7} {:>7} {:>7}"
HEADINGS = (
    "row",
    "warm ms",
    "quartiles",
    "cold ms",
    "GB/s",
    "GFLOP/s",
    "roofline",
    "when cold",
    "ATen",
    "compile",
    "CuPy",
)


def show(row: Row) -> None:
    kernel = row.seconds["kernel"]
    print(
        COLUMNS.format(
            f"{row.op} {row.case}",
            f"{1e3 * kernel.median:.3f}",
            f"{1e3 * kernel.low:.3f}-{1e3 * kernel.high:.3f}",
            f"{1e3 * row.cold_seconds['kernel'].median:.3f}",
            f"{row.bytes_per_second / 1e9:.1f}",
            f"{row.flop_per_second / 1e9:.1f}",
            f"{row.figures['roofline'].median:.0%}",
            f"{row.cold_figures['roofline'].median:.0%}",
            *(f"{row.figures[peer].median:.2f}x" if peer in row.figures else "-" for peer in PEERS),
        ),
        flush=True,
    )


def cases(op: str, backend: Backend) -> list[Case]:
    """The perf rows; of a GPU those that fill one; in the emulator, where both take hours, small ones."""
    if backend is CUDA:
        return OPS[op].gpu_cases
    if backend in EMULATED:
        return [case for case in OPS[op].cases if 0 < case.bytes <= LARGEST]
    return [case for case in OPS[op].cases if case.perf and (backend.cuda_kernels or not case.cuda_only)]


def measured(backend: Backend, names: list[str], peers: list[str]) -> list[Row]:
    def rows() -> Iterator[Row]:
        for name in names:
            for case in cases(name, backend):
                row = measure(OPS[name], case, backend, tuple(peers))
                show(row)
                yield row
                device.release(backend.device)

    print(COLUMNS.format(*HEADINGS))
    return list(rows())


def write_csv(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        kinds = ("median", "low", "high")
        names = ["roofline", *PEERS]
        times = [f"{state}_{kind}" for state in ("warm", "cold") for kind in kinds]
        writer.writerow(["op", "case", *times, "bytes_per_second", "flop_per_second", *names])
        for row in rows:
            seconds = (row.seconds["kernel"], row.cold_seconds["kernel"])
            numbers = [getattr(spread, kind) for spread in seconds for kind in kinds]
            ratios = [row.figures[name].median if name in row.figures else "" for name in names]
            writer.writerow([row.op, row.case, *numbers, row.bytes_per_second, row.flop_per_second, *ratios])


def compare(path: Path, settings: dict[str, str], now: reference.Table) -> int:
    if not path.exists():
        print(f"there is no {path.name} to compare with; `record` makes it")
        return 2
    before_settings, before = reference.read(path)
    if differences := reference.other_settings(settings, before_settings):
        print("not compared:\n  " + "\n  ".join(differences))
        return 2
    for title, keys in (
        ("better than", reference.better(now, before)),
        ("worse than", reference.worse(now, before)),
    ):
        print(f"{len(keys)} of {len(now)} figures {title} {path.name} by more than the spread")
        for key in keys:
            print("  " + reference.line(key, now, before))
    new = [key for key in now if key not in before]
    print(f"{len(new)} figures are not in {path.name}" + ("; `record` adds them" if new else ""))
    return 1 if reference.worse(now, before) else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.kernels",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", choices=["run", "record", "compare"], default="run")
    parser.add_argument("--op", nargs="+", choices=list(OPS), default=list(OPS), metavar="OP")
    parser.add_argument("--backend", choices=list(BACKENDS), default="cpu")
    parser.add_argument("--peers", nargs="*", choices=PEERS, default=list(PEERS))
    parser.add_argument("--passes", type=int, default=1, help="over all rows; record: their common spread")
    parser.add_argument("--json", type=Path, help="also write every figure to this file")
    parser.add_argument("--csv", type=Path, help="also write one line for each row to this file")
    arguments = parser.parse_args()
    backend = BACKENDS[arguments.backend]
    if backend in EMULATED and arguments.command != "run":
        parser.error(f"{arguments.command} keeps times of a device, and the emulator is none; use run")

    with backend.active(seed=0):
        settings = device.settings(backend)
        gemm = {d: device.gemm_flop_per_second(backend.device, d) for d in (torch.float32, torch.float64)}
        copy = device.copy_bytes_per_second(backend.device)
        print(", ".join(f"{name}: {value}" for name, value in settings.items()), f"torch {torch.__version__}")
        print(f"copy {copy / 1e9:.1f} GB/s,", end=" ")
        print(", ".join(f"GEMM {str(d)[6:]} {flops / 1e9:.0f} GFLOP/s" for d, flops in gemm.items()))
        passes = [measured(backend, arguments.op, arguments.peers) for _ in range(arguments.passes)]

    machine = settings | {"torch": torch.__version__, "copy_bytes_per_second": copy}
    machine["gemm_flop_per_second"] = {str(d)[6:]: flops for d, flops in gemm.items()}
    if arguments.json:
        rows = [asdict(row) for rows in passes for row in rows]
        arguments.json.write_text(json.dumps({"machine": machine, "rows": rows}, indent=1) + "\n")
    if arguments.csv:
        write_csv(arguments.csv, [row for rows in passes for row in rows])
    path = reference.FOLDER / f"{device.file_stem(settings['device'])}.csv"
    if arguments.command == "compare":
        return compare(path, settings, reference.table_of(passes))
    if arguments.command == "record":
        reference.write(path, settings, reference.table_of(passes))
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
