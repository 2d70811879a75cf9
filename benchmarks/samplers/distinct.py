"""10^5 distinct rows of a bank of 10^7: our selection beside numpy.random.Generator.choice.

    python -m benchmarks.samplers distinct

Both get the weights in the form they take (ours log-weights, NumPy probabilities) and are timed in turn, so
that what slows the machine for a while slows both; `times faster` is formed repetition by repetition. The
spread is the standard deviation of the log-weights: at 0 all rows weigh the same, which suits NumPy best.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from polarity_sampling.samplers import selection

ROWS, DRAWS, REPEATS = 10**7, 10**5, 7
SPREADS = (0.0, 1.0, 3.0)


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Print the times."""
    rng = np.random.default_rng(0)
    print(f"{DRAWS} of {ROWS} rows without replacement, {torch.get_num_threads()} threads")
    print(f"{'spread':>6} {'ours, ms':>9} {'NumPy, ms':>10} {'times faster':>13} {'least':>6} {'most':>6}")
    for spread in SPREADS:
        log_weights = spread * rng.standard_normal(ROWS)
        weights = np.exp(log_weights)
        p = weights / weights.sum()

        def ours(seed: int, log_weights: np.ndarray = log_weights) -> object:
            return selection.without_replacement(log_weights, DRAWS, seed)

        def theirs(seed: int, p: np.ndarray = p) -> object:
            return np.random.default_rng(seed).choice(ROWS, DRAWS, replace=False, p=p)

        ours(0)
        times = np.array(
            [(seconds(lambda: ours(r)), seconds(lambda: theirs(r))) for r in range(REPEATS)]  # noqa: B023
        )
        ratio = times[:, 1] / times[:, 0]
        fast, slow = 1e3 * np.median(times, axis=0)
        print(
            f"{spread:6g} {fast:9.1f} {slow:10.1f} {np.median(ratio):13.1f} {ratio.min():6.1f} "
            f"{ratio.max():6.1f}",
            flush=True,
        )
