"""Discriminators as density ratios.

Rejection: Azadi et al., arXiv 1810.06758. Chains: Turner et al., arXiv 1811.11357.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

from polarity_sampling.errors import SamplingError
from polarity_sampling.generator import Generator
from polarity_sampling.samplers.arguments import checked_count
from polarity_sampling.samplers.draw import AcceptanceDiagnostics, AcceptanceDraw
from polarity_sampling.samplers.independence import walk
from polarity_sampling.samplers.proposals import Proposals
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.rejection import reject

Discriminator = Callable[[Tensor, Tensor | None], Tensor]
"""Samples [n, *] and labels [n] -> logits [n]: log of the odds that a sample is real, calibrated."""

_PILOT_SEED, _EPSILON = 0x5EED_D15C, 1e-6


class DiscriminatorSampler:
    """Base draws thinned out by what a discriminator takes for real.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        discriminator: samples [n, *], labels -> logits [n].
        method: "mh" runs a chain of `length` proposals per draw, accepted by the ratio of odds; "rejection"
            accepts a candidate by its odds over the largest of `pilot` pilot draws.
        length: of the chains.
        pilot: draws the rejection bound is taken from.
        percentile: of the pilot draws' log-odds shift that rejection makes acceptable; higher is pickier.
        max_candidates: per sample() call of "rejection".

    Raises ValueError: an argument out of range.
    """

    def __init__(
        self,
        generator: Generator | nn.Module,
        discriminator: Discriminator,
        method: Literal["mh", "rejection"] = "mh",
        *,
        length: int = 100,
        pilot: int = 1000,
        percentile: float = 80.0,
        max_candidates: int = 100_000,
    ) -> None:
        if method not in ("mh", "rejection"):
            raise ValueError(f"method={method!r}: expected 'mh' or 'rejection'")
        if not 0.0 <= percentile <= 100.0:
            raise ValueError(f"percentile={percentile}: expected 0 to 100")
        self.generator = Generator.of(generator)
        self.discriminator = discriminator
        self.method = method
        self.length = checked_count("length", length)
        self.max_candidates = checked_count("max_candidates", max_candidates)
        if method == "rejection":
            count = checked_count("pilot", pilot)
            proposals = Proposals.of(self.generator, self.generator.base, count, _PILOT_SEED, None)
            logits = self._logits(*proposals.candidates(torch.arange(count), 0)[:2])
            self.bound = float(logits.max())
            self.shift = float(self._odds(logits).quantile(percentile / 100.0))

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """Draw n latents; log_weights are logits ("mh") or log-acceptances ("rejection").

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: "rejection" needs more than max_candidates, a chain of "mh" meets no sample of
                finite logit, or the discriminator gives NaN.
        """
        proposals = Proposals.of(self.generator, self.generator.base, n, seed, label)
        if self.method == "mh":
            latents, labels, rows, log_weights, acceptance = walk(proposals, self._logits, self.length)
        else:
            latents, labels, rows, log_weights, spent = reject(
                proposals, self._log_acceptance, self.max_candidates
            )
            acceptance = n / spent
        diagnostics = AcceptanceDiagnostics(n, float(n), 0, acceptance)
        return AcceptanceDraw(latents, labels, log_weights, rows, diagnostics)

    def _logits(self, z: Tensor, label: Tensor | None) -> Tensor:
        with torch.no_grad():
            logits = self.discriminator(self.generator(z, label), label).double().cpu().reshape(len(z))
        if bool(logits.isnan().any()):
            raise SamplingError(
                f"the discriminator gives NaN for {int(logits.isnan().sum())} of {len(z)} samples: check its "
                "weights and what range of samples it takes"
            )
        return logits

    def _odds(self, logits: Tensor) -> Tensor:
        """The paper's F before its shift gamma: log-odds of acceptance."""
        excess = (logits - self.bound).clamp(max=0.0)
        return excess - torch.log(-torch.expm1(excess - _EPSILON))

    def _log_acceptance(self, z: Tensor, label: Tensor | None) -> Tensor:
        return torch.nn.functional.logsigmoid(self._odds(self._logits(z, label)) - self.shift)
