"""Tilted laws known in closed form: log-volumes of latents in the plane, and what makes right draws uniform.

Also the published recipe for drawing from a bank, to show where it goes wrong.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from polarity_sampling.laws import Law, Normal, Uniform
from scipy.special import ndtr
from scipy.stats import chisquare, kstest
from torch import Tensor

from tests.manifolds import SpherePatch, SwissRoll, Torus

from .fake_bank import FakeBank

RHOS = (-1.0, -0.3, 0.0, 0.5, 1.0, 2.0)


@dataclass(frozen=True)
class KnownLaw:
    """p(z) · vol(z)^rho on latents [n, 2] with a volume that depends on the first coordinate alone."""

    name: str
    law: Law
    log_volume: Callable[[Tensor], Tensor]
    first: Callable[[np.ndarray, float], np.ndarray]
    """Distribution function of the first coordinate at rho."""
    second: Callable[[np.ndarray], np.ndarray]
    """Of the second, at any rho."""

    def uniforms(self, z: Tensor, rho: float) -> np.ndarray:
        """Latents [n, 2] -> [n, 2], independent and uniform on (0, 1) if z has the law."""
        x, y = z.double().numpy().T
        return np.stack([self.first(x, rho), self.second(y)], 1)

    def bank(self, rows: int, seed: int) -> FakeBank:
        z = self.law.draw(seed, torch.arange(rows), 2)
        volume = self.log_volume(z.double())
        return FakeBank.of_log_volumes(volume, law=self.law, base=self.law, latent_dim=2, seed=seed)


def _by_quadrature(manifold) -> KnownLaw:
    low, high = manifold.law.low, manifold.law.high
    grid = torch.linspace(low, high, 20_001, dtype=torch.float64)
    volume = manifold.log_volume(grid[:, None].expand(-1, 2))

    def first(x: np.ndarray, rho: float) -> np.ndarray:
        cdf = torch.cumulative_trapezoid((rho * (volume - volume.max())).exp(), grid)
        return np.interp(x, grid.numpy(), np.concatenate([[0.0], (cdf / cdf[-1]).numpy()]))

    return KnownLaw(
        type(manifold).__name__, Uniform(low, high), manifold.log_volume, first,
        lambda y: (y - low) / (high - low),
    )  # fmt: skip


# log vol = slope · z_0 under a normal law: the tilt moves the mean to rho · slope.
SLOPE = 0.8
GAUSSIAN = KnownLaw(
    "Gaussian", Normal(), lambda z: SLOPE * z[:, 0], lambda x, rho: ndtr(x - rho * SLOPE), ndtr
)
# The same volumes, e^500 times larger: no law changes, but exp() clipped at 1e200 does not see them.
LARGE = KnownLaw("Gaussian, large volumes", Normal(), lambda z: 500 + SLOPE * z[:, 0], GAUSSIAN.first, ndtr)
KNOWN = [_by_quadrature(SpherePatch()), _by_quadrature(Torus()), _by_quadrature(SwissRoll()), GAUSSIAN]


def published_recipe(log_volume: Tensor, rho: float, n: int, rng: np.random.Generator) -> Tensor:
    """Rows as the published code draws them: exp(), clipped, normalised, without replacement."""
    with np.errstate(over="ignore"):
        weights = np.clip(np.exp(log_volume.numpy()) ** rho, 1e-200, 1e200)
    return torch.from_numpy(rng.choice(len(weights), size=n, replace=False, p=weights / weights.sum()))


def ks(uniforms: np.ndarray) -> float:
    """p-value of the first coordinate."""
    return float(kstest(uniforms[:, 0], "uniform").pvalue)


def chi_square(uniforms: np.ndarray) -> float:
    """p-value of counts in a 3 x 3 grid of equal cells."""
    cells = np.minimum((3 * uniforms).astype(int), 2)
    return float(chisquare(np.bincount(3 * cells[:, 0] + cells[:, 1], minlength=9)).pvalue)


def mmd(uniforms: np.ndarray, rng: np.random.Generator, permutations: int = 99) -> float:
    """p-value of the maximum mean discrepancy to fresh uniform points, by permutation (Gaussian kernel)."""
    n = len(uniforms)
    both = np.concatenate([uniforms, rng.random((n, 2))])
    kernel = np.exp(-np.square(both[:, None] - both).sum(2) / (2 * 0.25**2))
    signs = np.repeat([1.0, -1.0], n)
    tries = np.stack([signs, *(rng.permutation(signs) for _ in range(permutations))])
    statistic = ((tries @ kernel) * tries).sum(1)
    return float((statistic >= statistic[0]).mean())


def rejections_allowed(seeds: int, level: float = 0.05, chance: float = 1e-4) -> int:
    """The most rejections at this level that a right sampler shows but for one study in 1 / `chance`."""
    from scipy.stats import binom

    return int(binom.ppf(1 - chance, seeds, level))


LOG_CLIP = 200 * math.log(10)
