"""What a sampler returns: latents, and how far they can be trusted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Diagnostics:
    """What every sampler says of its draws; each kind of sampler adds its own figures."""

    n: int
    """Number of draws; 0 from `sampler.diagnose()`, which draws nothing."""
    ess: float
    """Effective sample size: how many independent draws these are worth; below n they repeat themselves."""
    evaluations: int
    """Exact log-volumes these draws rest on; a bank's were paid for when it was built."""


@dataclass(frozen=True)
class AcceptanceDiagnostics(Diagnostics):
    """Figures of a sampler that accepts or rejects candidates."""

    acceptance: float
    """Share of the candidates that were accepted."""


@dataclass(frozen=True)
class BankDiagnostics(Diagnostics):
    """Figures about the weights that bank rows were drawn with; `ess` is that of the whole bank, 1 / Σ p².

    With `label=` they describe the mixture of the classes in the proportions asked for.
    """

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
    """float32 [n, K], on the CPU."""
    labels: Tensor | None
    """int64 [n], or None for an unconditional generator."""
    log_weights: Tensor
    """float64 [n]: log of the law drawn from over the law of the proposals, at each draw, up to a constant of
    the sampler. Zero where proposals are taken as they come. On a bank the constant makes the weights of all
    usable rows sum to one (with `label=`: those of the row's class)."""
    row_ids: Tensor
    """int64 [n]: where a draw comes from. Samplers on a bank: the bank's row id. Samplers that draw latents
    themselves: the row of the law's stream; SMC: the initial particle that it descends from."""
    diagnostics: Diagnostics

    def __len__(self) -> int:
        return len(self.latents)


@dataclass(frozen=True, eq=False)
class AcceptanceDraw(Draw):
    """n candidates that were accepted."""

    diagnostics: AcceptanceDiagnostics


@dataclass(frozen=True, eq=False)
class BankDraw(Draw):
    """n rows of a bank."""

    diagnostics: BankDiagnostics
