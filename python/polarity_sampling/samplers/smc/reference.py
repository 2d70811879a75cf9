"""Every latent law as a map of independent standard normals, so that one move serves them all.

If x is standard normal, `latents_from(law, x)` has the law. The pCN move x' = sqrt(1 - b²) x + b ξ leaves the
standard normal law invariant and is reversible (Cotter, Roberts, Stuart & White, arXiv 1202.0709), so what it
does to the latents leaves their law invariant, too: pCN itself for normal latents, a walk with a uniform
margin in the cube, a rotation by a random angle on the sphere.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from polarity_sampling.laws import Ball, Law, Normal, Sphere, TruncatedNormal, Uniform


def reference_dim(law: Law, dim: int) -> int:
    """How many standard normals make one latent in R^dim."""
    return dim + 2 if isinstance(law, Ball) else dim


def latents_from(law: Law, x: Tensor) -> Tensor:
    """The latents float32 [n, K] that standard normals x, float64 [n, R], stand for.

    Raises ValueError for a law that is not one of polarity_sampling's.
    """
    match law:
        case Normal():
            z = law.mean + law.std * x
        case Uniform():
            z = (law.low + (law.high - law.low) * torch.special.ndtr(x)).clamp(law.low, law.high)
        case TruncatedNormal():
            # The lower half and a sign: probabilities near one would round.
            tail = 0.5 * math.erfc(law.c / math.sqrt(2.0))
            probability = tail + (1.0 - 2.0 * tail) * torch.special.ndtr(-x.abs())
            z = (-torch.special.ndtri(probability) * x.sign()).clamp(-law.c, law.c)
        case Sphere():
            z = _directions(x) * (math.sqrt(x.shape[1]) if law.radius is None else law.radius)
        case Ball():
            # The first K coordinates of a uniform direction in R^(K+2) are uniform in the ball of R^K.
            z = law.center + law.radius * _directions(x)[:, :-2]
        case _:
            raise ValueError(f"law={law!r}: expected one of polarity_sampling's laws")
    return z.float()


def _directions(x: Tensor) -> Tensor:
    unit: Tensor = x / x.norm(dim=1, keepdim=True)
    return unit
