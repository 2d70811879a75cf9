"""Local geometry of a generator's surface, read off the singular values of its Jacobian."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from polarity_sampling.errors import GeneratorError
from polarity_sampling.generator import Generator
from polarity_sampling.volume.latents import tangent_dim
from polarity_sampling.volume.log_volume import log_volume

# Latents of `output_entropy` in one call of `log_volume`.
_BATCH = 256


@dataclass(frozen=True)
class LocalGeometry:
    """Descriptors of B latents; see `local_geometry`."""

    scaling: Tensor
    """[B] float64, nats: sum of log sigma_i over the values above the noise floor, `rank` of them."""
    error: Tensor
    """[B]: bound on the error of `scaling`, given that rank."""
    effective_rank: Tensor
    """[B]: exp of the entropy of sigma_i / sum sigma_j, between 1 and n."""
    rank: Tensor
    """[B] int64: singular values above the noise floor; the dimension of the surface there."""
    log_density: Tensor
    """[B], nats: log p(z) - scaling, the density of samples on the surface; NaN where the rank is less than
    that of the latents, K or K - 1 on a sphere: many of them make the same sample."""
    singular_values: Tensor
    """[B, n] float64, descending."""


def local_geometry(
    generator: "Generator | nn.Module",
    z: Tensor,
    label: Tensor | int | None = None,
    *,
    tol: float = 1e-2,
    memory: str | int = "1GiB",
) -> LocalGeometry:
    """Local scaling, rank and density of a generator at latents z.

    A. I. Humayun, I. Amara, C. Vasconcelos, D. Ramachandran, C. Schumann, J. He, K. Heller, G. Farnadi,
    N. Rostamzadeh, M. Havaei: What Secrets Do Your Manifolds Hold? Understanding the Local Geometry of
    Generative Models (arXiv 2408.08307), section 3: local scaling and local rank. The effective rank is that
    of O. Roy, M. Vetterli (EUSIPCO 2007). The density is the change of variables on a surface; it counts the
    latent z alone, also where other latents give the same sample.

    Args:
        generator, z, label, tol, memory: as of `log_volume`. All n singular values are computed, exactly.

    Returns:
        `LocalGeometry`.

    Raises:
        ValueError, TypeError, GeneratorError: as `log_volume`.
    """
    volume = log_volume(generator, z, label, None, method="exact", tol=tol, memory=memory)
    generator = Generator.of(generator, latent_dim=z.shape[1])
    sigma = volume.singular_values
    # What lies below the floor is left out: per latent, as if top_k were its rank.
    real = sigma > volume.floor[:, None]
    scaling = torch.where(real, sigma.clamp(min=1e-300).log(), 0.0).sum(1)
    lower = torch.sqrt((sigma.square() - volume.delta[:, None]).clamp(min=0.0)) - volume.eta[:, None]
    lower = torch.maximum(lower, volume.floor[:, None])
    error = torch.where(real, torch.log(sigma / lower).clamp(min=0.0), 0.0).sum(1)
    share = sigma / sigma.sum(1, keepdim=True).clamp(min=1e-300)
    entropy = -torch.special.xlogy(share, share).sum(1)
    density = generator.base.log_density(z.double().cpu()).to(sigma.device) - scaling
    full = volume.rank == tangent_dim(generator)
    return LocalGeometry(
        scaling=scaling,
        error=error,
        effective_rank=torch.where(volume.rank > 0, entropy.exp(), 0.0),
        rank=volume.rank,
        log_density=torch.where(full, density, torch.nan),
        singular_values=sigma,
    )


@dataclass(frozen=True)
class OutputEntropy:
    """Differential entropy of a generator's samples on their surface; see `output_entropy`."""

    value: float
    """Nats, with respect to the area of that dimension."""
    standard_error: float
    """Of the mean over draws."""
    error: float
    """Mean bound on the error of the log-volumes: what more draws do not take away."""
    dimension: int
    """K, or K - 1 on a sphere: every draw has this rank."""
    n: int
    """Draws."""


def output_entropy(
    generator: "Generator | nn.Module",
    n: int = 1024,
    label: int | None = None,
    *,
    seed: int = 0,
    tol: float = 1e-2,
    memory: str | int = "1GiB",
) -> OutputEntropy:
    """Entropy of the law of G(z), z from the base law: H(z) + E log vol(z), with its standard error.

    Of a continuous piecewise affine generator: A. I. Humayun, R. Balestriero, R. Baraniuk, MaGNET (ICLR 2022,
    arXiv 2110.08009); R. Balestriero, S. Paris, R. Baraniuk, Analytical Probability Distributions and Exact
    Expectation-Maximization for Deep Generative Networks (NeurIPS 2020). It is the entropy where G is
    injective, and an upper bound on it elsewhere.

    Args:
        generator: a `Generator`, or a module with normal latents.
        n: draws of the base law.
        label: class of a conditional generator.
        seed: of the draws.
        tol, memory: as of `log_volume`.

    Raises:
        ValueError: n is less than 2.
        GeneratorError: on some draw the rank is below the latent dimension, so that samples have no density
            of that dimension.
    """
    if isinstance(n, bool) or n < 2:
        raise ValueError(f"n is {n!r}; expected at least 2 draws")
    generator = Generator.of(generator)
    terms, errors = [], []
    for start in range(0, n, _BATCH):
        rows = torch.arange(start, min(start + _BATCH, n))
        z = generator.base.draw(seed, rows, generator.latent_dim)
        z = z.to(generator.device, generator.dtype)
        geometry = local_geometry(generator, z, label, tol=tol, memory=memory)
        if torch.isnan(geometry.log_density).any():
            thin = geometry.rank[torch.isnan(geometry.log_density)]
            raise GeneratorError(
                f"{generator.name}: {thin.numel()} of {rows.numel()} latents have a Jacobian of rank "
                f"{int(thin.min())} to {int(thin.max())}, below the latent dimension "
                f"{tangent_dim(generator)}: samples have no density of that dimension, and no entropy. See "
                "local_geometry for the ranks"
            )
        terms.append(-geometry.log_density)
        errors.append(geometry.error)
    term = torch.cat(terms)
    return OutputEntropy(
        value=float(term.mean()),
        standard_error=float(term.std()) / math.sqrt(n),
        error=float(torch.cat(errors).mean()),
        dimension=tangent_dim(generator),
        n=n,
    )
