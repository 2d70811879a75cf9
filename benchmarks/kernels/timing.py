"""Timing calls side by side, so that a machine that slows down slows all of them."""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]

REPETITIONS = 25
SECONDS = 0.4  # of one call's repetitions, at most (but five repetitions)
FLUSH_BYTES = 1 << 27  # streamed through the caches before a cold repetition


@dataclass(frozen=True)
class Times:
    """Seconds of one call: median, and the quartiles as the spread."""

    median: float
    low: float
    high: float
    repetitions: int

    @classmethod
    def of(cls, seconds: Sequence[float]) -> "Times":
        low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
        return cls(median, low, high, len(seconds))


def once(call: Call, device: str) -> float:
    """Seconds of one call: by the clock, or by CUDA events around it."""
    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    before.record()
    call()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after) / 1e3


def side_by_side(calls: dict[str, Call], prepare: Call, device: str, cold: bool) -> dict[str, Times]:
    """Each repetition times every call once, in turn, after an untimed ``prepare``.

    Warm: the caches are as the call before left them. Cold: 128 MiB of other memory go through them first.
    """
    other = torch.empty(FLUSH_BYTES // 4, device=device) if cold else None
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():  # first calls compile, allocate and page in
        prepare()
        call()
    begin = time.perf_counter()
    for repetition in range(REPETITIONS):
        if repetition >= 5 and time.perf_counter() - begin > SECONDS * len(calls):
            break
        for name, call in calls.items():
            prepare()
            if other is not None:
                other.fill_(repetition)
            seconds[name].append(once(call, device))
    return {name: Times.of(values) for name, values in seconds.items()}


def gemm_ceiling(device: str, dtype: torch.dtype) -> float:
    """Floating-point operations per second of torch's matrix product: the best of its repetitions."""
    n = 1024 if device == "cpu" else 4096
    a = torch.ones(n, n, device=device, dtype=dtype)
    times = [once(lambda: a @ a, device) for _ in range(8)]
    return 2 * n**3 / min(times)
