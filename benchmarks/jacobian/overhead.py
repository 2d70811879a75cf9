"""What a further batch of the same shape costs besides its kernels: Python, checks, allocation of results."""

import time
from collections.abc import Callable
from statistics import median

import polarity_sampling as ps
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.jacobian.models import WORKLOADS
from tests.architectures.kinks import latents_off_kinks

BATCHES = 15
CALLS = 1000  # of an operator that does nothing


def overhead(name: str, memory: int) -> float:
    """Median over batches of the part of the time, latents to result, in which no operator of torch ran.

    Kernels vary by more from run to run than all that is sought, so it is not the difference of two runs: it
    is what lies between the operators of one, by torch's profiler, less what the profiler itself takes there.
    """
    workload = WORKLOADS[name]
    generator = workload.make()
    parts = []
    for seed in range(BATCHES + 1):
        z, label = latents_off_kinks(generator, workload.batch, seed=seed)

        def batch(z: torch.Tensor = z, label: torch.Tensor | None = label) -> None:
            J = ps.jacobian(generator, z, label, memory=memory)
            J.column_block(0, workload.products or z.shape[1])

        inside, between, operators = _profiled(batch)
        outside = between - operators * _seconds_of_profiler()
        parts.append(outside / (inside + outside))
    return median(parts[1:])  # the first one captures


def _profiled(call: Callable[[], None]) -> tuple[float, float, int]:
    """Seconds within operators and between them, and how many there are that no other one calls."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiler:
        start = time.perf_counter()
        call()
        seconds = time.perf_counter() - start
    outermost = [event for event in profiler.events() if event.cpu_parent is None]
    inside = sum(event.cpu_time_total for event in outermost) / 1e6
    return inside, seconds - inside, len(outermost)


def _seconds_of_profiler() -> float:
    """What it takes between two operators; a little less, as all of an operator counts that does nothing."""
    nothing = torch.zeros(())

    def calls() -> None:
        for _ in range(CALLS):
            nothing.detach()

    start = time.perf_counter()
    calls()
    seconds = time.perf_counter() - start
    return max(0.0, _profiled(calls)[1] - seconds) / CALLS
