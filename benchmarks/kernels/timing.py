"""Timing calls side by side, so that a machine that slows down slows all of them.

On a GPU what is timed is the device alone: each call is queued behind a pause that keeps the device busy
while the host launches all of it. Otherwise a kernel shorter than its launch from Python would
count as long as that. A call that waits for the device in its midst (some of
the libraries' decompositions) still counts what the host does after that; users wait for that, too.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

Call = Callable[[], object]

REPETITIONS = 25
SECONDS = 0.4  # of one call's repetitions, at most (but five repetitions)
FLUSH_BYTES = 1 << 27  # streamed through the caches before a cold repetition
LONGEST = {"cpu": float("inf"), "cuda": 0.5}  # seconds; a call that takes more is timed once
PAUSE = 600_000  # cycles of a GPU's clock: 0.3 ms at 2 GHz, in which some dozens of kernels are launched


@dataclass(frozen=True)
class Spread:
    """Median and quartiles of a repeated measurement."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high)


def once(call: Call, device: str) -> float:
    """Seconds of one call: by the clock, or of a CUDA device alone, by events around it behind a pause."""
    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    torch.cuda._sleep(PAUSE)
    before.record()
    call()
    after.record()
    torch.cuda.synchronize()
    return before.elapsed_time(after) / 1e3


def side_by_side(calls: dict[str, Call], prepare: Call, device: str, cold: bool) -> dict[str, list[float]]:
    """Seconds by call; repetition i times every call once, in turn, each after an untimed ``prepare``.

    Warm: the caches are as the call before left them. Cold: 128 MiB of other memory go through them first.
    """
    other = torch.empty(FLUSH_BYTES // 4, device=device) if cold else None
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    slow: dict[str, float] = {}
    for name, call in calls.items():
        for _ in range(2):  # a first call may compile, load a library, allocate and page in
            prepare()
            took = once(call, device)
            if took <= LONGEST[device]:
                break
        else:  # a library's loop over the matrices of a batch
            slow[name] = took
    begin = time.perf_counter()
    for repetition in range(REPETITIONS):
        if repetition >= 5 and time.perf_counter() - begin > SECONDS * len(calls):
            break
        for name, call in calls.items():
            if name in slow:
                seconds[name].append(slow[name])
                continue
            prepare()
            if other is not None:
                other.fill_(repetition)
            seconds[name].append(once(call, device))
    return seconds


def ratio(over: Sequence[float], under: Sequence[float]) -> Spread:
    """Spread of over / under, repetition by repetition: what slows both for a while cancels."""
    return Spread.of([a / b for a, b in zip(over, under, strict=True)])
