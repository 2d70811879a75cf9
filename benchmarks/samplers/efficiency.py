"""Effective draws per exact log-volume: SMC, with and without its screens, beside a bank of the same price.

    python -m benchmarks.samplers efficiency [--case NAME] [--out FILE]

PARTICLES particles climb the ladder and settle (burn-in, counted apart). CHAINS of them then go on until they
have made LONG times tau sweeps, or MOST: tau is the integrated autocorrelation time of the log-volume or of
the latents, whichever is longer, so that copies and near-copies do not count, and the effective draws are
states over tau. Where the sweeps do not suffice, tau is too short, and `effective` an upper bound, which
`bound` says. The bank has as many rows as the burn-in and BLOCKS blocks of all particles cost. Quantiles of
the log-volume stand beside those of a reference, a chain of pCN moves of another seed without any screen, and
so do the shares of the ten digits where samples are digits.
"""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Literal

import numpy as np
import polarity_sampling as ps
import torch
from polarity_sampling.samplers.smc.rough import RoughLogVolume
from polarity_sampling.samplers.smc.state import State
from polarity_sampling.samplers.smc.summary import Summary
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.smc.tempering import Settings, init, step
from polarity_sampling.samplers.weights import effective_size, logsumexp
from torch import Tensor

from benchmarks.samplers.classes import DigitClassifier
from tests import shared_models

PARTICLES, CHAINS, BLOCKS = 512, 32, 40
LONG, FEWEST, MOST = 50, 100, 4000
BANK_SEED, RUN_SEED, REFERENCE_SEED = 11, 12, 13
QUANTILES = (0.1, 0.5, 0.9)


@dataclass(frozen=True)
class Case:
    """A generator and a target."""

    generator: str
    top_k: int | None
    rho: float = 1.0
    method: Literal["auto", "exact"] = "auto"
    """Route of the exact log-volumes. On a small perceptron all columns at once take less time than the fewer
    products of Krylov, one pair after the other."""
    reference: bool = True
    """Also run without screens and a reference, which takes several times as long."""
    background: float | None = None
    """Of samples that are digits: shares of the ten are counted. None: they are something else."""

    @property
    def name(self) -> str:
        return f"{self.generator}-top{self.top_k or 'all'}-rho{self.rho:g}"

    def load(self) -> ps.Generator:
        """The bundled generator, or one of the shared ones."""
        is_bundled = self.generator == "digits"
        return ps.models.load(self.generator) if is_bundled else shared_models.load(self.generator)


CASES = [
    Case("toy2d_ganlab_ring", None),
    Case("digits", 8, reference=False, background=-1.0),
    Case("mnist_vae_mlp", 20, background=0.0),
    Case("mnist_vae_mlp", 20, 2.0, reference=False, background=0.0),
    Case("fashionmnist_gan_mlp", 10, method="exact", reference=False),
    Case("fashionmnist_gan_mlp", 15, method="exact", reference=False),
]


@dataclass(frozen=True)
class Row:
    """One line of the results; log-volumes in nats."""

    case: str
    sampler: str
    burn_in: int
    """Exact log-volumes before the first draw."""
    evaluations: int
    """After it; a bank's rows."""
    sweeps: int
    tau: float
    bound: str
    """"upper" where there are fewer than LONG tau sweeps: the effective draws are an upper bound."""
    effective: float
    per_1000_evaluations: float
    per_100000_products: float
    """Jacobian products, those of rough log-volumes included; a forward pass counts as one."""
    seconds_per_effective: float
    mean: float
    mean_error: float
    """Standard error of the mean."""
    q10: float
    q50: float
    q90: float
    digits: str = ""
    """Shares of the digits 0 to 9, where samples are digits."""


class Counted:
    """Log-volumes that count evaluations, products and seconds."""

    def __init__(self, case: Case) -> None:
        self.generator = case.load()
        self.case = case
        self.evaluations, self.products, self.seconds = 0, 0, 0.0

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        start = time.perf_counter()
        found = ps.log_volume(self.generator, z, label, self.case.top_k, method=self.case.method)
        self.seconds += time.perf_counter() - start
        self.evaluations += len(z)
        self.products += int(found.spent.sum())
        return found.value.masked_fill(found.error.isinf(), torch.nan)

    def target(self, screened: bool) -> Target:
        """The law to draw from, with what screens proposals."""
        g, case = self.generator, self.case
        rough = RoughLogVolume.of(g, case.top_k, case.rho, "1GiB") if screened else None
        summary = Summary.of(g, g.base) if screened else None

        def counted_rough(z: Tensor, label: Tensor | None) -> Tensor:
            assert rough is not None
            self.products += len(z) * rough.products
            return rough(z, label)

        def counted_summary(z: Tensor, label: Tensor | None) -> Tensor:
            assert summary is not None
            self.products += len(z)
            return summary(z, label)

        return Target(
            g.base, g.latent_dim, case.rho, self,
            summary=counted_summary if summary else None, rough=counted_rough if rough else None,
        )  # fmt: skip


def autocorrelation_time(values: Tensor) -> float:
    """tau of chains [T, N] or vectors [T, N, R], pooled over chains: Geyer's initial positive sequence."""
    centred = values - values.mean((0, 1))
    variance = float(centred.square().mean())
    total = -1.0
    for lag in range(0, len(values) - 2, 2):
        pair = sum(
            float((centred[: len(values) - i] * centred[i:]).mean()) / variance for i in (lag, lag + 1)
        )
        if pair <= 0:
            break
        total += 2.0 * pair
    return max(1.0, total)


def run(case: Case, seed: int, screened: bool, label: str) -> Row:
    """One SMC run with statistics of what follows burn-in."""
    exact = Counted(case)
    target = exact.target(screened)
    settings = Settings(particles=PARTICLES, surrogate=screened)
    state = init(target, seed, settings)
    while not state.thin:
        state = step(target, state, settings)
    burn_in, products, start = exact.evaluations, exact.products, time.perf_counter()
    some = torch.arange(0, PARTICLES, PARTICLES // CHAINS)
    state = replace(state, points=state.points[some], ancestor=state.ancestor[some])
    states: list[State] = []
    tau = math.inf
    while len(states) < min(MOST, max(FEWEST, LONG * tau)):
        for _ in range(FEWEST // 2):
            state = step(target, state, settings)
            states.append(state)
        volume = torch.stack([s.points.log_volume for s in states])
        tau = autocorrelation_time(torch.stack([s.points.x for s in states]))
        tau = max(tau, autocorrelation_time(volume))
    seconds = time.perf_counter() - start
    effective = volume.numel() / tau
    spent = exact.evaluations - burn_in
    return Row(
        case.name, label, burn_in, spent, len(states), tau, "upper" if len(states) < LONG * tau else "",
        effective, 1e3 * effective / spent, 1e5 * effective / (exact.products - products),
        seconds / effective, float(volume.mean()), float(volume.std()) / effective**0.5,
        *volume.quantile(torch.tensor(QUANTILES).double()).tolist(),
        _digits(case, target.latents(torch.cat([s.points.x for s in states]))),
    )  # fmt: skip


def _digits(case: Case, z: Tensor, weights: Tensor | None = None) -> str:
    if case.background is None:
        return ""
    shares = DigitClassifier(case.load(), case.background).shares(z, weights)
    return " ".join(f"{share:.3f}" for share in shares.tolist())


def bank(case: Case, rows: int) -> Row:
    """The same figures of importance resampling from `rows` draws of the base law."""
    exact = Counted(case)
    z = exact.generator.base.draw(BANK_SEED, torch.arange(rows), exact.generator.latent_dim)
    value = torch.cat([exact(part, None) for part in z.split(1024)])
    known = value[value.isfinite()].numpy()
    log_weights = case.rho * known - logsumexp(case.rho * known)
    weights, effective = np.exp(log_weights), effective_size(log_weights)
    order = np.argsort(known)
    cumulative = np.cumsum(weights[order])
    mean = float(weights @ known)
    error = float(np.sqrt((weights**2) @ (known - mean) ** 2))
    quantiles = [
        float(known[order][min(int(np.searchsorted(cumulative, q)), len(known) - 1)]) for q in QUANTILES
    ]
    return Row(
        case.name, "bank", 0, rows, 0, 1.0, "", effective, 1e3 * effective / rows,
        1e5 * effective / exact.products, exact.seconds / effective, mean, error, *quantiles,
        _digits(case, z[value.isfinite()], torch.from_numpy(weights)),
    )  # fmt: skip


def measure(case: Case) -> list[Row]:
    """All samplers on one case, and the reference."""
    smc = run(case, RUN_SEED, True, "SMC")
    rows = [bank(case, smc.burn_in + BLOCKS * PARTICLES), smc]
    if case.reference:
        rows.append(run(case, RUN_SEED, False, "SMC, no screens"))
        rows.append(run(case, REFERENCE_SEED, False, "reference"))
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
