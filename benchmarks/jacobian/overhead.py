"""What a further batch of the same shape costs besides its kernels: Python, checks, allocation of results."""

import time

import polarity_sampling as ps
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.jacobian.models import WORKLOADS
from tests.architectures.kinks import latents_off_kinks

BATCHES = 5


def overhead(name: str, memory: int) -> float:
    """Median over batches of the part of the time, latents to result, in which no operator of torch ran.

    The profiler's own cost counts as time outside.
    """
    workload = WORKLOADS[name]
    generator = workload.make()
    parts = []
    for seed in range(BATCHES + 1):
        z, label = latents_off_kinks(generator, workload.batch, seed=seed)
        with torch.no_grad(), profile(activities=[ProfilerActivity.CPU]) as profiler:
            start = time.perf_counter()
            J = ps.jacobian(generator, z, label, memory=memory)
            J.column_block(0, workload.products or z.shape[1])
            seconds = time.perf_counter() - start
        inside = sum(event.self_cpu_time_total for event in profiler.key_averages()) / 1e6
        parts.append(1.0 - inside / seconds)
    return sorted(parts[1:])[BATCHES // 2]  # the first one captures
