"""Effective draws per exact log-volume: SMC, with and without its surrogate, beside a bank of the same price.

    python -m benchmarks.samplers efficiency [--case NAME] [--out FILE]

A run climbs the ladder (burn-in, counted apart), then makes SWEEPS sweeps. Its effective draws are
particles · SWEEPS / tau, with tau the integrated autocorrelation time of the log-volume or of the latents,
whichever is longer, so that copies and near-copies do not count. The bank has as many rows as the run made
evaluations, burn-in included. Its quantiles of the log-volume, and those of the runs, are compared with a
reference: a plain pCN chain of another seed, REFERENCE_SWEEPS long.
"""

from __future__ import annotations

import csv
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import polarity_sampling as ps
import torch
from polarity_sampling.samplers.smc.state import State
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.smc.tempering import Settings, init, step
from polarity_sampling.samplers.weights import effective_size, logsumexp
from torch import Tensor

from tests import shared_models

PARTICLES, SWEEPS, REFERENCE_SWEEPS = 512, 40, 200
BANK_SEED, RUN_SEED, REFERENCE_SEED = 11, 12, 13
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Case:
    """A generator and a target."""

    generator: str
    top_k: int | None
    rho: float = 1.0
    reference: bool = True
    """Also run without the surrogate and a reference, which takes several times as long."""

    @property
    def name(self) -> str:
        return f"{self.generator}-top{self.top_k or 'all'}-rho{self.rho:g}"


CASES = [
    Case("toy2d_ganlab_ring", None),
    Case("mnist_vae_mlp", 20),
    Case("mnist_vae_mlp", 20, 2.0),
    Case("fashionmnist_gan_mlp", 10, reference=False),
    Case("fashionmnist_gan_mlp", 15, reference=False),
]


@dataclass(frozen=True)
class Row:
    """One line of the results; log-volumes in nats."""

    case: str
    sampler: str
    burn_in: int
    """Evaluations before the first draw."""
    evaluations: int
    """After it; a bank's rows."""
    effective: float
    per_1000_evaluations: float
    per_100000_products: float
    seconds_per_effective: float
    mean: float
    mean_error: float
    """Standard error of the mean."""
    q10: float
    q50: float
    q90: float


class Counted:
    """Exact log-volumes that count Jacobian products and seconds."""

    def __init__(self, case: Case) -> None:
        self.generator = shared_models.load(case.generator)
        self.top_k = case.top_k
        self.evaluations, self.products, self.seconds = 0, 0, 0.0

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        start = time.perf_counter()
        found = ps.log_volume(self.generator, z, label, self.top_k)
        self.seconds += time.perf_counter() - start
        self.evaluations += len(z)
        self.products += int(found.spent.sum())
        return found.value.masked_fill(found.error.isinf(), torch.nan)


def autocorrelation_time(values: Tensor) -> float:
    """tau of chains [T, N] or vectors [T, N, R], pooled over chains: Geyer's initial positive sequence."""
    centred = values - values.mean((0, 1))
    variance = float(centred.square().mean())
    lags = range(1, len(values) - 2)
    rho = [float((centred[:-lag] * centred[lag:]).mean()) / variance for lag in lags]
    pairs = [rho[i] + rho[i + 1] for i in range(0, len(rho) - 1, 2)]
    end = next((i for i, pair in enumerate(pairs) if pair <= 0), len(pairs))
    return max(1.0, 1.0 + 2.0 * sum(pairs[:end]))


def run(case: Case, seed: int, surrogate: bool, sweeps: int, label: str) -> Row:
    """One SMC run with statistics of what follows burn-in."""
    exact = Counted(case)
    g = exact.generator
    target = Target(g.base, g.latent_dim, case.rho, exact)
    settings = Settings(particles=PARTICLES, surrogate=surrogate)
    state = init(target, seed, settings)
    while not state.thin:
        state = step(target, state, settings)
    burn_in, products, start = exact.evaluations, exact.products, time.perf_counter()
    states: list[State] = []
    for _ in range(sweeps):
        state = step(target, state, settings)
        states.append(state)
    seconds = time.perf_counter() - start
    volume = torch.stack([s.points.log_volume for s in states])
    tau = max(autocorrelation_time(volume), autocorrelation_time(torch.stack([s.points.x for s in states])))
    effective = volume.numel() / tau
    spent = exact.evaluations - burn_in
    return Row(
        case.name, label, burn_in, spent, effective, 1e3 * effective / spent,
        1e5 * effective / (exact.products - products), seconds / effective, float(volume.mean()),
        float(volume.std()) / effective**0.5, *volume.quantile(torch.tensor(QUANTILES).double()).tolist(),
    )  # fmt: skip


def bank(case: Case, rows: int) -> Row:
    """The same figures of importance resampling from `rows` draws of the base law."""
    exact = Counted(case)
    z = exact.generator.base.draw(BANK_SEED, torch.arange(rows), exact.generator.latent_dim)
    value = torch.cat([exact(part, None) for part in z.split(1024)])
    value = value[value.isfinite()].numpy()
    log_weights = case.rho * value - logsumexp(case.rho * value)
    weights, effective = np.exp(log_weights), effective_size(log_weights)
    order = np.argsort(value)
    cumulative = np.cumsum(weights[order])
    mean = float(weights @ value)
    error = float(np.sqrt((weights**2) @ (value - mean) ** 2))
    quantiles = [float(value[order][min(np.searchsorted(cumulative, q), rows - 1)]) for q in QUANTILES]
    return Row(
        case.name, "bank", 0, rows, effective, 1e3 * effective / rows, 1e5 * effective / exact.products,
        exact.seconds / effective, mean, error, *quantiles,
    )  # fmt: skip


def measure(case: Case) -> list[Row]:
    """All samplers on one case, and the reference."""
    smc = run(case, RUN_SEED, True, SWEEPS, "SMC")
    rows = [bank(case, smc.burn_in + smc.evaluations), smc]
    if case.reference:
        rows.append(run(case, RUN_SEED, False, SWEEPS, "SMC, no surrogate"))
        rows.append(run(case, REFERENCE_SEED, False, REFERENCE_SWEEPS, "reference"))
    return rows


def main(names: list[str], out: Path) -> None:
    """Measure the cases named (all by default) and put their lines into `out`, others' lines kept."""
    torch.set_num_threads(1)
    cases = [case for case in CASES if not names or case.name in names]
    for case in cases:
        rows = measure(case)
        for row in rows:
            print(row, flush=True)
        kept = []
        if out.exists():
            with out.open() as file:
                kept = [row for row in csv.DictReader(file) if row["case"] != case.name]
        with out.open("w", newline="") as file:
            writer = csv.DictWriter(file, [f.name for f in fields(Row)], lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
            writer.writerows(
                {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in asdict(row).items()} for row in rows
            )
