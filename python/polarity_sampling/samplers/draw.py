"""What a sampler returns: latents, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Diagnostics:
    """Figures about the weights a draw was made from.

    With `label=` they describe the mixture of the classes in the proportions asked for.
    """

    n: int
    """Number of draws; 0 from `sampler.diagnose()`, which draws nothing."""
    ess: float
    """Effective sample size 1 / Σ p², in rows: how many rows carry the weight. Below n, draws repeat."""
    max_weight: float
    """Largest normalised weight of a row."""
    pareto_k: float
    """Shape of the weights' right tail (Vehtari et al., arXiv 1507.02646, by ArviZ); above 0.7 averages over
    the draws do not settle at this bank size. -inf: the largest weights are equal. inf: the weights fall too
    steeply for double precision. nan: cannot be fitted (fewer than 25 rows, or tied)."""
    realised_rho: float
    """The r whose tilted bank mean of log-volume equals the mean over the draws. Without replacement its
    size falls below |rho|. ±inf: every draw sits on the largest (smallest) log-volume that can be drawn.
    nan: the log-volume is constant."""
    excluded: int
    """Bank rows left out: below the noise floor (unless flagged="keep"), or with no finite log-volume."""
    class_ess: Mapping[int, float] | None = None
    """With `label=`: the effective sample size within each class asked for."""


@dataclass(frozen=True, eq=False)
class Draw:
    """n latents from a sampler, to be used unweighted: `images = generator(draw.latents, draw.labels)`."""

    latents: Tensor
    """float32 [n, K]."""
    labels: Tensor | None
    """int64 [n], or None for an unconditional generator."""
    log_weights: Tensor
    """float64 [n]: log of each drawn row's weight in the bank, which sums to one over the bank's usable rows
    (with `label=`: over those of the row's class)."""
    row_ids: Tensor
    """int64 [n], the bank's row ids."""
    diagnostics: Diagnostics

    def __len__(self) -> int:
        return len(self.row_ids)
