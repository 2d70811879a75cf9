"""Are p-values of draws uniform over 200 seeds? Ours and the published recipe, on laws in closed form.

    python -m benchmarks.samplers calibration [--sampler NAME] [--out FILE] [--figure FILE]

For every sampler, law and rho: a fresh bank (or run) for each seed, at most ESS / 20 draws of it, and three
tests of the draws: Kolmogorov-Smirnov, chi-square, maximum mean discrepancy. A right sampler is rejected at
5% in about 5% of the seeds; `allowed` is what chance exceeds once in 10^4 studies. At a third of the bank,
the way the recipe is used, draws share the bank's chance deviations, which alone widens variances by
1 + n / ESS: there the recipe must be compared with our sampler at the same n. "SMC islands" are 200 islands
of one run in place of the seeds; they share a surrogate and a rough log-volume, which is wrong by half a nat.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polarity_sampling as ps
import torch
from polarity_sampling.report.style import FAINT, INK, new_figure, save, styled
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.smc.tempering import Settings, init, step, take
from scipy.stats import kstest
from torch import Tensor

from tests.samplers.known_laws import (
    GAUSSIAN,
    KNOWN,
    LARGE,
    RHOS,
    KnownLaw,
    chi_square,
    ks,
    mmd,
    published_recipe,
    rejections_allowed,
)

SEEDS, ROWS, ISLAND = 200, 1500, 32
COLOURS = (INK, "#1f5fa8", "#b8322a", "#8a8a8a", "#e08a3c")
Draw = Callable[[KnownLaw, float, int], Tensor]
Draws = Callable[[KnownLaw, float], Iterator[Tensor]]


def of_seeds(draw: Draw) -> Draws:
    """One draw for each seed."""
    return lambda known, rho: (draw(known, rho, seed) for seed in range(SEEDS))


def bank(method: str, share: float | None = None) -> Draw:
    """Our sampler, for a share of the bank; None: for ESS / 20 draws."""

    def draw(known: KnownLaw, rho: float, seed: int) -> Tensor:
        sampler = ps.PolaritySampler(known.bank(ROWS, seed), rho)
        n = int(sampler.ess / 20 if share is None else share * ROWS)
        return sampler.sample(n, seed, method=method).latents  # type: ignore[arg-type]

    return draw


def smc(known: KnownLaw, rho: float, seed: int) -> Tensor:
    return _population(known, rho, seed, Settings(particles=256, islands=4, surrogate=False), 64)


def islands(known: KnownLaw, rho: float) -> Iterator[Tensor]:
    """The islands of one run with all that screens its proposals."""
    settings = Settings(particles=SEEDS * ISLAND, islands=SEEDS)
    drawn = _population(known, rho, 0, settings, SEEDS * ISLAND, rough=True)
    return iter(drawn.reshape(ISLAND, SEEDS, 2).unbind(1))


def _population(
    known: KnownLaw, rho: float, seed: int, settings: Settings, n: int, rough: bool = False
) -> Tensor:
    """n draws of a settled run; islands take turns."""

    def exact(z: Tensor, label: Tensor | None) -> Tensor:
        return known.log_volume(z.double())

    def wrong(z: Tensor, label: Tensor | None) -> Tensor:
        return exact(z, label) + 0.5 * (3.0 * z[:, 0].double()).sin()

    target = Target(known.law, 2, rho, exact, rough=wrong if rough else None)
    state = init(target, seed, settings)
    while not state.thin:
        state = step(target, state, settings)
    return target.latents(take(target, state, settings, n)[0].x)


def recipe(share: float | None) -> Draw:
    """The published recipe, likewise."""

    def draw(known: KnownLaw, rho: float, seed: int) -> Tensor:
        rows = known.bank(ROWS, seed)
        n = int(ps.PolaritySampler(rows, rho).ess / 20 if share is None else share * ROWS)
        chosen = published_recipe(rows.log_volume()[0], rho, n, np.random.default_rng(seed))
        return rows.latents(chosen)

    return draw


STUDIES: list[tuple[str, Draws, list[KnownLaw]]] = [
    ("bank, systematic", of_seeds(bank("systematic")), [*KNOWN, LARGE]),
    ("bank, multinomial", of_seeds(bank("multinomial")), [KNOWN[1], GAUSSIAN]),
    ("SMC", of_seeds(smc), KNOWN),
    ("SMC islands", islands, [KNOWN[1], GAUSSIAN]),
    ("published recipe", of_seeds(recipe(None)), [GAUSSIAN, LARGE]),
    ("bank, systematic, a third of it", of_seeds(bank("systematic", 1 / 3)), [GAUSSIAN]),
    ("published recipe, a third of the bank", of_seeds(recipe(1 / 3)), [GAUSSIAN]),
]


# What the picture shows.
SHOWN = {
    "bank": ("bank, systematic", "Gaussian", 1.0),
    "SMC": ("SMC", "Gaussian", 1.0),
    "published, volumes above 1e200": ("published recipe", LARGE.name, 1.0),
    "bank, a third of it": ("bank, systematic, a third of it", "Gaussian", 1.0),
    "published, a third of the bank": ("published recipe, a third of the bank", "Gaussian", 1.0),
}


def study(draws: Draws, known: KnownLaw, rho: float) -> np.ndarray:
    """p-values [3, seeds]: KS, chi-square, MMD."""
    pvalues = []
    for seed, drawn in enumerate(draws(known, rho)):
        uniforms = known.uniforms(drawn, rho)
        discrepancy = mmd(uniforms[:100], np.random.default_rng(seed))  # its price is quadratic
        pvalues.append((ks(uniforms), chi_square(uniforms), discrepancy))
    return np.array(pvalues).T


def picture(curves: list[tuple[str, np.ndarray]], path: Path) -> None:
    """Distribution functions of the p-values: on the diagonal for a right sampler."""
    with styled():
        figure = new_figure(5.4, 3.0, layout="constrained")
        axis = figure.subplots()
        axis.plot([0, 1], [0, 1], color=FAINT, linewidth=0.9, linestyle=(0, (4, 3)))
        for (label, pvalues), colour in zip(curves, COLOURS, strict=True):
            x = np.sort(pvalues)
            axis.step([0, *x, 1], [0, *np.arange(1, len(x) + 1) / len(x), 1], label=label, color=colour)
        axis.set_xlabel("p-value (Kolmogorov-Smirnov)")
        axis.set_ylabel("share of 200 seeds below it")
        axis.set_title("Are right draws taken for right?", loc="left")
        axis.legend(loc="center left", bbox_to_anchor=(1.0, 0.5))
        save(figure, path)


HEADER = ["sampler", "law", "rho", "test", "rejected_at_5_percent", "allowed", "p_of_p_values"]


def main(names: list[str], out: Path, figure: Path) -> None:
    """Put lines of the samplers named into `out`, others' kept; all by default, with the picture."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", ps.PolarityWarning)
    lines: dict[str, list[list[object]]] = {name: [] for name, _, _ in STUDIES}
    if names:
        with out.open() as file:
            for line in list(csv.reader(file))[1:]:
                lines[line[0]].append(list(line))
    curves = {}
    for name, draws, laws in STUDIES:
        if names and name not in names:
            continue
        lines[name] = []
        for known in laws:
            for rho in RHOS:
                found = study(draws, known, rho)
                curves[name, known.name, rho] = found[0]
                for test, pvalues in zip(("KS", "chi-square", "MMD"), found, strict=True):
                    # MMD's p-values are multiples of 1/100, chi-square's discrete: only KS is uniform.
                    uniform = f"{kstest(pvalues, 'uniform').pvalue:.3g}" if test == "KS" else ""
                    rejected = int((pvalues < 0.05).sum())
                    lines[name].append(
                        [name, known.name, rho, test, rejected, rejections_allowed(SEEDS), uniform]
                    )
        with out.open("w", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows(
                [HEADER, *(x for part in lines.values() for x in part)]
            )
    if not names:
        picture([(label, curves[key]) for label, key in SHOWN.items()], figure)
