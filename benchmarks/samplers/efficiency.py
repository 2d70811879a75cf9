"""Effective draws per exact log-volume: SMC beside a bank of the same price, and a reference chain.

    python -m benchmarks.samplers efficiency [--case NAME] [--out FILE] [--agreement FILE]

Particles climb the ladder and settle (burn-in, counted apart). `chains` of them then go on until they have
made LONG times tau sweeps, or `most`: tau is the integrated autocorrelation time of the log-volume, of the
latents or of their classes, whichever is longest, so that copies and near-copies do not count, and the
effective draws are states over tau. Where the sweeps do not suffice, tau is too short, and `effective` an
upper bound, which `bound` says. The bank has as many rows as the whole run cost. The reference is a run of
pCN moves of another seed without any screen. With it are compared the mean of the log-volume, the shares
below three of its quantiles and the shares of ten classes, and likewise late draws with early ones. The
z-scores in `agreement` have standard errors from the spread of chain means, which hold however long a chain
remembers. Seconds are of the processor.
"""

from __future__ import annotations

import csv
import math
import time
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

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

from benchmarks.samplers.agreement import QUANTILES, Chains, Comparison, over_time, with_reference
from benchmarks.samplers.classes import CLASSES, Classifier, Clusters, Digits
from tests import shared_models

LONG, FEWEST = 20, 50
BANK_SEED, RUN_SEED, REFERENCE_SEED = 11, 12, 13


@dataclass(frozen=True)
class Case:
    """A generator and a target."""

    generator: str
    top_k: int | None
    rho: float = 1.0
    label: int | None = None
    """The class, of a conditional generator; None: all, equally likely under the base law."""
    particles: int = Settings.particles
    chains: int = 32
    most: int = 4000
    """Sweeps, as many as is bearable."""
    reference: bool = False
    """Also run without screens, which takes several times as long, and compare."""
    background: float | None = None
    """Of samples that are digits: those are the classes. None: clusters of samples of the base law are."""

    @property
    def name(self) -> str:
        of_class = "" if self.label is None else f"-class{self.label}"
        return f"{self.generator}{of_class}-top{self.top_k or 'all'}-rho{self.rho:g}"

    def load(self) -> ps.Generator:
        """A bundled generator, or one of the shared ones."""
        is_bundled = self.generator == "digits"
        return ps.models.load(self.generator) if is_bundled else shared_models.load(self.generator)

    def classifier(self, generator: ps.Generator) -> Classifier:
        return Clusters(generator) if self.background is None else Digits(generator, self.background)


# The sampler's own number of particles where a log-volume takes a millisecond or two, else fewer.
CASES = [
    Case("toy2d_ganlab_ring", None, reference=True),
    Case("toy2d_ganlab_gaussians", None),
    Case("vae_plain_mnist", None, reference=True, background=0.0),
    Case("mnist_vae_mlp", 20, reference=True, background=0.0),
    Case("mnist_vae_mlp", 20, 2.0, background=0.0),
    Case("fashionmnist_gan_mlp", 10, most=1500, reference=True),
    Case("fashionmnist_gan_mlp", 15),
    Case("fashionmnist_gan_mlp", 20, particles=256),
    Case("digits", 8, particles=128, chains=16, reference=True, background=-1.0),
    Case("mnist_cwgangp", None, label=3, particles=64, chains=8, background=-1.0),
    Case("mnist_cwgangp", None, particles=64, chains=8, reference=True, background=-1.0),
    Case("mnist_wgangp_dcgan", 20, particles=128, chains=8, background=-1.0),
    Case("mario_wgan", 20, particles=128, chains=8),
    Case("celeba_dcgan32", 8, particles=64, chains=8),
    Case("vae_plain_chairs", None, particles=128, chains=16),
    Case("vae_btcvae_celeba", None, particles=128, chains=16),
    Case("face_dcgan_digiface64", 5, particles=16, chains=4, most=50),
]  # fmt: skip


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
    """Of the processor, one thread; a bank's are those of its log-volumes."""
    mean: float
    mean_error: float
    """Standard error of the mean."""
    q10: float
    q50: float
    q90: float
    size: float
    """b of the pCN moves."""
    classes: str
    """Shares of the ten classes."""


class Counted:
    """Log-volumes that count evaluations, products and seconds."""

    def __init__(self, case: Case) -> None:
        self.generator = case.load()
        self.case = case
        self.evaluations, self.products, self.seconds = 0, 0, 0.0

    def __call__(self, z: Tensor, label: Tensor | None) -> Tensor:
        start = time.process_time()
        found = ps.log_volume(self.generator, z, label, self.case.top_k)
        self.seconds += time.process_time() - start
        self.evaluations += len(z)
        self.products += int(found.spent.sum())
        return found.value.masked_fill(found.error.isinf(), torch.nan)

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Those that a latent may have."""
        count, label = self.generator.num_classes, self.case.label
        if count is None:
            return None
        return tuple(range(count)) if label is None else (label,)

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
            g.base, g.latent_dim, case.rho, self, self.classes,
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


def run(case: Case, seed: int, screened: bool, name: str) -> tuple[Row, Chains]:
    """One SMC run with statistics of what follows burn-in."""
    exact = Counted(case)
    target = exact.target(screened)
    settings = Settings(case.particles, max(1, min(4, case.particles // 32)), screened)
    state = init(target, seed, settings)
    while not state.thin:
        state = step(target, state, settings)
    burn_in, products = exact.evaluations, exact.products
    some = torch.arange(0, case.particles, case.particles // case.chains)
    state = replace(state, points=state.points[some], ancestor=state.ancestor[some])
    states: list[State] = []
    seconds, wanted = 0.0, FEWEST
    while len(states) < wanted:
        start = time.process_time()
        while len(states) < wanted:
            state = step(target, state, settings)
            states.append(state)
        seconds += time.process_time() - start
        volume = torch.stack([s.points.log_volume for s in states])
        tau = max(
            autocorrelation_time(volume), autocorrelation_time(torch.stack([s.points.x for s in states]))
        )
        labels = [s.points.label for s in states if s.points.label is not None]
        if labels and case.label is None:
            tau = max(tau, autocorrelation_time(torch.nn.functional.one_hot(torch.stack(labels)).double()))
        wanted = min(case.most, math.ceil(LONG * tau))
    effective = volume.numel() / tau
    spent = exact.evaluations - burn_in
    classify = case.classifier(exact.generator)
    chains = Chains(
        volume,
        torch.stack(
            [classify(target.latents(s.points.x), s.points.label) for s in states[:: math.ceil(tau / 4)]]
        ),
    )
    row = Row(
        case.name, name, burn_in, spent, len(states), tau, "upper" if len(states) < LONG * tau else "",
        effective, 1e3 * effective / spent, 1e5 * effective / (exact.products - products),
        seconds / effective, float(volume.mean()), float(volume.std()) / effective**0.5,
        *volume.quantile(torch.tensor(QUANTILES).double()).tolist(), state.size, _told(chains.shares()),
    )  # fmt: skip
    return row, chains


def _told(shares: Tensor) -> str:
    return " ".join(f"{share:.3f}" for share in shares.tolist())


def bank(case: Case, rows: int) -> Row:
    """The same figures of importance resampling from `rows` draws of the base law."""
    exact = Counted(case)
    z = exact.generator.base.draw(BANK_SEED, torch.arange(rows), exact.generator.latent_dim)
    classes = exact.classes
    label = None if classes is None else torch.tensor(classes)[torch.arange(rows) % len(classes)]
    value = torch.cat(
        [exact(z[i : i + 1024], None if label is None else label[i : i + 1024]) for i in range(0, rows, 1024)]
    )
    usable = value.isfinite()
    known = value[usable].numpy()
    log_weights = case.rho * known - logsumexp(case.rho * known)
    weights, effective = np.exp(log_weights), effective_size(log_weights)
    order = np.argsort(known)
    cumulative = np.cumsum(weights[order])
    mean = float(weights @ known)
    error = float(np.sqrt((weights**2) @ (known - mean) ** 2))
    quantiles = [
        float(known[order][min(int(np.searchsorted(cumulative, q)), len(known) - 1)]) for q in QUANTILES
    ]
    found = case.classifier(exact.generator)(z[usable], None if label is None else label[usable])
    return Row(
        case.name, "bank", 0, rows, 0, 1.0, "", effective, 1e3 * effective / rows,
        1e5 * effective / exact.products, exact.seconds / effective, mean, error, *quantiles, math.nan,
        _told(torch.bincount(found, torch.from_numpy(weights), CLASSES)),
    )  # fmt: skip


def measure(case: Case) -> tuple[list[Row], list[Comparison]]:
    """All samplers on one case, and SMC beside the reference."""
    smc, chains = run(case, RUN_SEED, True, "SMC")
    print(smc, flush=True)
    rows = [bank(case, smc.burn_in + smc.evaluations), smc]
    compared = over_time(case.name, chains)
    print(rows[0], flush=True)
    if case.reference:
        fewer = replace(case, particles=min(case.particles, 4 * case.chains))
        row, reference = run(fewer, REFERENCE_SEED, False, "reference")
        print(row, flush=True)
        rows.append(row)
        compared = with_reference(case.name, chains, reference) + compared
    print(*compared, sep="\n", flush=True)
    return rows, compared


def main(names: list[str], out: Path, agreement: Path) -> None:
    """Measure the cases named (all by default) and put their lines into the tables, others' lines kept."""
    torch.set_num_threads(1)
    for case in CASES:
        if not names or case.name in names:
            rows, compared = measure(case)
            _replace(out, Row, case.name, [asdict(row) for row in rows])
            _replace(agreement, Comparison, case.name, [asdict(comparison) for comparison in compared])


def _replace(
    table: Path, kind: type[Row] | type[Comparison], case: str, lines: list[dict[str, object]]
) -> None:
    """Put the lines of a case in the place that the order of CASES gives them."""
    kept: list[dict[str, object]] = []
    if table.exists():
        with table.open() as file:
            kept = [line for line in csv.DictReader(file) if line["case"] != case]
    told = [{k: f"{v:.4g}" if isinstance(v, float) else v for k, v in line.items()} for line in lines]
    order = [case.name for case in CASES]
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(kind)], lineterminator="\n")
        writer.writeheader()
        writer.writerows(sorted([*kept, *told], key=lambda line: order.index(str(line["case"]))))
