"""Rejection sampling: exact, independent draws where the log-weights have a bound that can be stated."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from polarity_sampling.errors import SamplingError
from polarity_sampling.generator import Generator
from polarity_sampling.laws import Law
from polarity_sampling.samplers.arguments import checked_count, checked_rho
from polarity_sampling.samplers.draw import AcceptanceDiagnostics, AcceptanceDraw
from polarity_sampling.samplers.exact import ExactLogVolume
from polarity_sampling.samplers.proposals import LogWeight, Proposals
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.weights import require_few_excluded


def reject(
    proposals: Proposals, log_acceptance: LogWeight, max_candidates: int
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, int]:
    """The first accepted candidate of every slot.

    Args:
        log_acceptance: log of the probability to accept a candidate, at most 0.
        max_candidates: give up after so many.

    Returns:
        latents [n, K], labels [n] or None, row ids [n], log-acceptances [n], number of candidates.

    Raises SamplingError when slots are still empty after max_candidates, or too many candidates are unknown.
    """
    n = proposals.n
    latents = torch.empty(n, proposals.generator.latent_dim, dtype=torch.float32)
    labels = None if proposals.generator.num_classes is None else torch.empty(n, dtype=torch.int64)
    rows, found = torch.empty(n, dtype=torch.int64), torch.empty(n, dtype=torch.float64)
    pending, spent, unknown, t = torch.arange(n), 0, 0, 0
    while len(pending):
        if spent + len(pending) > max_candidates:
            raise SamplingError(
                f"{n - len(pending)} of {n} draws after {spent} candidates: the acceptance is too small for "
                f"rejection. Allow more than {max_candidates} candidates, or use SMCSampler"
            )
        z, label, row_ids = proposals.candidates(pending, t)
        value = log_acceptance(z, label)
        spent, unknown = spent + len(pending), unknown + int(value.isnan().sum())
        require_few_excluded(unknown, spent)
        accepted = proposals.uniforms(pending, t).log() < value  # NaN compares false
        slots = pending[accepted]
        latents[slots], rows[slots], found[slots] = z[accepted], row_ids[accepted], value[accepted]
        if labels is not None and label is not None:
            labels[slots] = label[accepted]
        t, pending = t + 1, pending[~accepted]
    return latents, labels, rows, found, spent


class RejectionSampler:
    """Exact, independent draws with law p(z) · vol(z)^rho, for small problems.

    A latent is accepted with probability vol(z)^rho / exp(log_bound), so the price of a draw is
    exp(log_bound) over the mean of vol^rho: it grows exponentially with the spread of rho · log-volume.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        rho: polarity.
        log_bound: a number that rho · log-volume never exceeds, nats. One met above it is an error.
        top_k: leading singular values in the log-volume; None for all.
        law: p; default the generator's base law.
        max_evaluations: log-volumes after which a draw is given up.
        memory: budget of the Jacobian products.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.
    """

    def __init__(
        self,
        generator: Generator | nn.Module,
        rho: float,
        log_bound: float,
        top_k: int | None = None,
        *,
        law: Law | None = None,
        max_evaluations: int = 100_000,
        memory: str | int = "1GiB",
    ) -> None:
        self.generator = Generator.of(generator)
        self.rho, self.log_bound = checked_rho(rho), float(log_bound)
        if not math.isfinite(self.log_bound):
            raise ValueError(f"log_bound={log_bound!r}: expected a finite number of nats")
        self.law = self.generator.base if law is None else Law.of(law)
        self.max_evaluations = checked_count("max_evaluations", max_evaluations)
        self._exact = ExactLogVolume(self.generator, top_k, memory=memory)

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """Draw n latents; with `label=` as in PolaritySampler.sample, within each class.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: log_bound does not hold, more than max_evaluations would be needed, or more than 1%
                of latents lie below the noise floor.
        """
        proposals = Proposals.of(self.generator, self.law, n, seed, label)
        latents, labels, rows, found, spent = reject(proposals, self._log_acceptance, self.max_evaluations)
        diagnostics = AcceptanceDiagnostics(n, float(n), spent, n / spent)
        return AcceptanceDraw(latents, labels, found + self.log_bound, rows, diagnostics)

    def _log_acceptance(self, z: Tensor, label: Tensor | None) -> Tensor:
        log_weight = self.rho * self._exact(z, label)
        if bool((log_weight > self.log_bound).any()):
            raise SamplingError(
                f"log_bound={self.log_bound:g} does not hold: found rho · log-volume = "
                f"{float(log_weight.nan_to_num(-torch.inf).max()):g}. State a larger bound; draws made under "
                "this one may be biased"
            )
        return log_weight - self.log_bound
