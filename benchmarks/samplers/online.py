"""What sampling without a bank costs that accepts a latent by the volumes seen so far, rho = 1.

    python -m benchmarks.samplers online

Two rules. `largest`: accept with probability vol / (largest vol so far), which is rejection with a bound that
is wrong until the largest volume has come by. `sum`: with probability vol / (sum of the volumes so far).
VOLUMES log-volumes of the base law are put in random order, ORDERS times, and the probabilities added up, so
no chance enters but that of the order. Beside log-volumes per draw: the share of the draws made before the
last record, when the bound was still wrong, and how far the mean log-volume of the draws lies below that of
the law asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import polarity_sampling as ps
import torch
from polarity_sampling.samplers.weights import effective_size, logsumexp

from tests import shared_models

VOLUMES, ORDERS, SEED = 4096, 200, 21
LogVolumes = np.ndarray


def largest(log_volume: LogVolumes) -> LogVolumes:
    """Probabilities, for log-volumes in the order in which they come."""
    return np.exp(log_volume - np.maximum.accumulate(log_volume))


def total(log_volume: LogVolumes) -> LogVolumes:
    return np.exp(log_volume - np.logaddexp.accumulate(log_volume))


RULES: dict[str, Callable[[LogVolumes], LogVolumes]] = {"largest": largest, "sum": total}


def cases() -> Iterator[tuple[str, ps.Generator, int]]:
    yield "digits", ps.models.load("digits"), 8
    if (shared_models.FOLDER / "fashionmnist_gan_mlp.json").exists():
        yield "fashionmnist_gan_mlp", shared_models.load("fashionmnist_gan_mlp"), 10


def main() -> None:
    """Print the table."""
    print(f"{VOLUMES} log-volumes, means over {ORDERS} orders")
    print(
        f"{'generator':<22} {'top_k':>5} {'rule':>8} {'volumes per draw':>17} {'once bound holds':>17} "
        f"{'before it does':>15} {'nats short':>11} {'ESS of a bank':>14}"
    )
    rng = np.random.default_rng(SEED)
    for name, generator, top_k in cases():
        z = generator.base.draw(SEED, torch.arange(VOLUMES), generator.latent_dim)
        found = ps.log_volume(generator, z, top_k=top_k)
        values = found.value[found.error.isfinite()].numpy()
        log_weights = values - logsumexp(values)
        wanted = float(np.exp(log_weights) @ values)
        right = 1.0 / float(np.exp(values - values.max()).mean())
        for rule, accept in RULES.items():
            draws, early, mean = [], [], []
            for _ in range(ORDERS):
                ordered = rng.permutation(values)
                p = accept(ordered)
                draws.append(p.sum())
                early.append(p[: int(ordered.argmax())].sum())
                mean.append(p @ ordered)
            drawn = float(np.sum(draws))
            print(
                f"{name:<22} {top_k:5d} {rule:>8} {ORDERS * len(values) / drawn:17.1f} "
                f"{f'{right:.1f}' if rule == 'largest' else '-':>17} {np.sum(early) / drawn:15.0%} "
                f"{wanted - np.sum(mean) / drawn:11.2f} {effective_size(log_weights):14.1f}",
                flush=True,
            )
