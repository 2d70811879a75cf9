"""Rare samples: by the rarity score of Han, Choi, Choi, Kim, Ha & Choi (ICLR 2023, arXiv 2206.08549)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polarity_sampling.errors import SamplingError
from polarity_sampling.generator import Generator
from polarity_sampling.samplers.arguments import checked_count
from polarity_sampling.samplers.draw import AcceptanceDiagnostics, AcceptanceDraw
from polarity_sampling.samplers.proposals import Proposals
from polarity_sampling.samplers.protocol import Label
from polarity_sampling.samplers.rivals.features import Features, Reference


def rarity(reference: Reference, features: Tensor) -> Tensor:
    """Rarity of samples' features [n, F]: the smallest radius of a reference ball that holds the sample.

    Float32 [n]; NaN outside all balls, where a sample is not rare but off the manifold.
    """
    inside = reference.distances(features) <= reference.radius
    score = torch.where(inside, reference.radius, torch.inf).amin(1)
    return score.masked_fill(score.isinf(), torch.nan)


class RaritySampler:
    """Every draw is the rarest of `candidates` draws of the base law.

    Args:
        generator: a Generator, or a module whose latent dimension can be inferred.
        features: samples [n, *] -> features [n, F].
        reference: features [m, F] of real samples.
        candidates: per draw; 1 leaves the base law, apart from draws off the manifold.
        neighbours: k of the reference balls.
    """

    def __init__(
        self,
        generator: Generator | nn.Module,
        features: Features,
        reference: Tensor,
        candidates: int = 10,
        neighbours: int = 3,
    ) -> None:
        self.generator = Generator.of(generator)
        self.features = features
        self.reference = Reference(reference, checked_count("neighbours", neighbours))
        self.candidates = checked_count("candidates", candidates)

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """Draw n latents; log_weights are the logarithms of the scores.

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: none of a draw's candidates lies inside a reference ball.
        """
        proposals = Proposals.of(self.generator, self.generator.base, n, seed, label)
        slots = torch.arange(n)
        best, at, inside = torch.full((n,), -torch.inf), torch.zeros(n, dtype=torch.int64), 0
        for t in range(self.candidates):
            z, labels, _ = proposals.candidates(slots, t)
            score = rarity(self.reference, self.features(self.generator(z, labels))).nan_to_num(-torch.inf)
            at, best = torch.where(score > best, t, at), torch.maximum(score, best)
            inside += int(score.isfinite().sum())
        if bool(best.isinf().any()):
            raise SamplingError(
                f"{int(best.isinf().sum())} of {n} draws have no candidate near the reference set: use more "
                "candidates or neighbours"
            )
        parts = [proposals.candidates(slots[at == t], t) for t in range(self.candidates)]
        order = torch.argsort(torch.cat([slots[at == t] for t in range(self.candidates)]))
        labels = None if parts[0][1] is None else torch.cat([p[1] for p in parts if p[1] is not None])[order]
        return AcceptanceDraw(
            latents=torch.cat([p[0] for p in parts])[order],
            labels=labels,
            log_weights=best.double().log(),
            row_ids=torch.cat([p[2] for p in parts])[order],
            diagnostics=AcceptanceDiagnostics(n, float(n), 0, inside / (n * self.candidates)),
        )
