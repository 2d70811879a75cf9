"""Independence Metropolis-Hastings: parallel chains whose proposals are fresh draws of the base law."""

from __future__ import annotations

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


def walk(
    proposals: Proposals, log_weight: LogWeight, length: int
) -> tuple[Tensor, Tensor | None, Tensor, Tensor, float]:
    """A chain in every slot: candidate 0, then `length` proposals, each accepted with min(1, w' / w).

    Returns:
        where the chains end: latents [n, K], labels [n] or None, row ids [n], log-weights [n]; acceptance.

    Raises SamplingError when a chain meets no candidate that has weight, or too many are unknown.
    """
    slots = torch.arange(proposals.n)
    z, label, rows = proposals.candidates(slots, 0)
    value = log_weight(z, label)
    accepted, unknown = 0, int(value.isnan().sum())
    current = value.masked_fill(value.isnan(), -torch.inf)
    for t in range(1, length + 1):
        new_z, new_label, new_rows = proposals.candidates(slots, t)
        new = log_weight(new_z, new_label)
        unknown += int(new.isnan().sum())
        require_few_excluded(unknown, (t + 1) * proposals.n)
        # A chain that started where there is no weight takes the first candidate that has some.
        gain = torch.where(current.isneginf(), torch.inf, new - current)
        accept = (proposals.uniforms(slots, t).log() < gain) & new.isfinite()
        z, rows = torch.where(accept[:, None], new_z, z), torch.where(accept, new_rows, rows)
        label = None if label is None or new_label is None else torch.where(accept, new_label, label)
        current = torch.where(accept, new, current)
        accepted += int(accept.sum())
    if lost := int(current.isneginf().sum()):
        raise SamplingError(
            f"{lost} of {proposals.n} chains met no latent with weight in {length} proposals: choose a "
            "larger length"
        )
    return z, label, rows, current, accepted / (length * proposals.n)


class IndependenceSampler:
    """Draws with law p(z) · vol(z)^rho, each the end of its own chain; for small problems.

    Needs no bound, but chains must be long against the largest weights: after `length` proposals the distance
    from the target is at most (1 - 1 / w)^length, with w the largest weight over the mean one (Mengersen &
    Tweedie, Ann. Statist. 24, 1996). Where a bank's largest weight is a per cent, w is a hundred.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        rho: polarity.
        top_k: leading singular values in the log-volume; None for all.
        length: proposals per draw; a draw costs length + 1 log-volumes.
        law: p; default the generator's base law.
        memory: budget of the Jacobian products.

    Raises:
        TypeError, ValueError: an argument of the wrong kind or out of range.
    """

    def __init__(
        self,
        generator: Generator | nn.Module,
        rho: float,
        top_k: int | None = None,
        *,
        length: int = 100,
        law: Law | None = None,
        memory: str | int = "1GiB",
    ) -> None:
        self.generator = Generator.of(generator)
        self.rho = checked_rho(rho)
        self.length = checked_count("length", length)
        self.law = self.generator.base if law is None else Law.of(law)
        self._exact = ExactLogVolume(self.generator, top_k, memory=memory)

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """Draw n latents; with `label=` as in PolaritySampler.sample, within each class.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: more than 1% of latents lie below the noise floor.
        """
        proposals = Proposals.of(self.generator, self.law, n, seed, label)
        latents, labels, rows, log_weights, acceptance = walk(proposals, self._log_weight, self.length)
        diagnostics = AcceptanceDiagnostics(n, float(n), n * (self.length + 1), acceptance)
        return AcceptanceDraw(latents, labels, log_weights, rows, diagnostics)

    def _log_weight(self, z: Tensor, label: Tensor | None) -> Tensor:
        return self.rho * self._exact(z, label)
