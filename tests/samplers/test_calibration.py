"""Over 200 seeds p-values of right draws are uniform; the published recipe's are not where it is biased.

A fresh bank for every seed and at most ESS / 20 draws of it: draws that share a bank inflate variances by
1 + n / ESS. A study fails a right sampler once in 10^4 times; seeds are fixed.
"""

import warnings

import numpy as np
import pytest
import torch
from polarity_sampling.samplers import PolaritySampler
from polarity_sampling.samplers.smc.target import Target
from polarity_sampling.samplers.smc.tempering import Settings, init, step
from scipy.stats import kstest, ttest_1samp

from .known_laws import GAUSSIAN, KNOWN, LARGE, LOG_CLIP, RHOS, ks, published_recipe, rejections_allowed

SEEDS = 200
ROWS = 1500


def study(known, rho, draw):
    """p-values of `draw(bank, seed)` over the seeds."""
    pvalues = []
    for seed in range(SEEDS):
        bank = known.bank(ROWS, seed)
        pvalues.append(ks(known.uniforms(draw(bank, seed), rho)))
    return np.array(pvalues)


def right(pvalues, chance=1e-4):
    allowed = rejections_allowed(SEEDS, chance=chance)
    return (pvalues < 0.05).sum() <= allowed and kstest(pvalues, "uniform").pvalue > chance


@pytest.mark.parametrize(
    ("known", "rho"),
    [(known, rho) for i, known in enumerate(KNOWN) for rho in RHOS[i % 2 :: 2]],
    ids=lambda value: value.name if hasattr(value, "name") else f"{value:g}",
)
def test_bank_draws_are_calibrated(known, rho):
    def draw(bank, seed):
        sampler = PolaritySampler(bank, rho)
        method = ("systematic", "multinomial")[seed % 2]
        return sampler.sample(int(sampler.ess / 20), seed, method=method).latents

    assert right(study(known, rho, draw))


def test_the_published_recipe_loses_the_weights_it_clips():
    """At volumes above 1e200 all weights are equal: what was asked for at rho = 1 is drawn at rho = 0."""
    assert LARGE.log_volume(torch.zeros(1, 2)) > LOG_CLIP

    def recipe(bank, seed):
        rng = np.random.default_rng(seed)
        return bank.latents(published_recipe(bank.log_volume()[0], 1.0, 40, rng))

    def ours(bank, seed):
        return PolaritySampler(bank, 1.0).sample(40, seed).latents

    assert right(study(LARGE, 1.0, ours))
    pvalues = study(LARGE, 1.0, recipe)
    assert (pvalues < 0.05).mean() > 0.9
    assert right(study(LARGE, 0.0, recipe))  # the law it follows instead


@pytest.mark.parametrize("rho", [-1.0, 2.0])
def test_the_published_recipe_moves_rho_towards_zero(rho):
    """A third of the bank without replacement: means over seeds, each with a bank of its own, tell."""
    ours, recipe = [], []
    for seed in range(SEEDS):
        bank = GAUSSIAN.bank(ROWS, seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            drawn = PolaritySampler(bank, rho).sample(ROWS // 3, seed).latents
        rows = published_recipe(bank.log_volume()[0], rho, ROWS // 3, np.random.default_rng(seed))
        ours.append(GAUSSIAN.uniforms(drawn, rho)[:, 0].mean())
        recipe.append(GAUSSIAN.uniforms(bank.latents(rows), rho)[:, 0].mean())
    assert ttest_1samp(ours, 0.5).pvalue > 1e-4
    assert ttest_1samp(recipe, 0.5).pvalue < 1e-20
    assert np.sign(np.mean(recipe) - 0.5) == -np.sign(rho)  # short of where rho would take them


@pytest.mark.parametrize("rho", RHOS)
def test_smc_islands_are_calibrated(rho, seed):
    """200 islands of one run: z-tests of their means, whose variance is known. Seeds are not fixed here."""
    target = Target(GAUSSIAN.law, 2, rho, lambda z, label: GAUSSIAN.log_volume(z.double()))
    settings = Settings(particles=200 * 32, islands=200, surrogate=False)
    state = init(target, seed, settings)
    while not state.thin:
        state = step(target, state, settings)
    uniforms = GAUSSIAN.uniforms(state.points.x, rho)[:, 0].reshape(200, 32)
    z = (uniforms.mean(1) - 0.5) * (12 * 32) ** 0.5
    assert right(two_sided(z), chance=1e-7)
    assert ttest_1samp(uniforms.mean(1), 0.5).pvalue > 1e-7


def two_sided(z):
    """Two-sided p-values of standard normal numbers."""
    from scipy.special import ndtr

    return 2 * ndtr(-np.abs(z))
