"""A guard against samples that no real sample is near: useful at rho well above 0."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from polarity_sampling.errors import SamplingError
from polarity_sampling.generator import Generator
from polarity_sampling.samplers.arguments import checked_count, checked_seed
from polarity_sampling.samplers.draw import AcceptanceDiagnostics, AcceptanceDraw
from polarity_sampling.samplers.protocol import Label, Sampler
from polarity_sampling.samplers.rivals.features import Features, Reference
from polarity_sampling.samplers.strata import requested_labels


class SupportGuard:
    """Another sampler's draws, without those far from a reference set in feature space.

    A sample passes when its distance to some reference sample is at most a radius: the `quantile` of the
    distances of reference samples to their own k-th nearest neighbour.

    Args:
        sampler: whose draws are guarded.
        generator: makes samples of them.
        features: samples [n, *] -> features [n, F].
        reference: features [m, F] of real samples.
        quantile: of the reference distances; larger lets more pass.
        neighbours: k.
        max_rounds: how many times n draws the sampler may be asked for.

    Raises ValueError: an argument out of range.
    """

    def __init__(
        self,
        sampler: Sampler,
        generator: Generator | nn.Module,
        features: Features,
        reference: Tensor,
        *,
        quantile: float = 0.95,
        neighbours: int = 3,
        max_rounds: int = 20,
    ) -> None:
        if not 0.0 < quantile <= 1.0:
            raise ValueError(f"quantile={quantile}: expected above 0, at most 1")
        self.sampler, self.generator, self.features = sampler, Generator.of(generator), features
        self.reference = Reference(reference, checked_count("neighbours", neighbours))
        self.radius = float(self.reference.radius.quantile(quantile))
        self.max_rounds = checked_count("max_rounds", max_rounds)

    def sample(self, n: int, seed: int = 0, label: Label = None) -> AcceptanceDraw:
        """n draws that pass: of rounds · n draws of the sampler, slot i takes the first of i, i + n, ...

        Raises:
            TypeError, ValueError: an argument of the wrong kind or out of range.
            SamplingError: max_rounds do not suffice; and what the sampler raises.
        """
        n, seed = checked_count("n", n), checked_seed(seed)
        wanted = requested_labels(label, n, self.generator.num_classes)
        rounds = 1
        while True:
            labels = None if wanted is None else torch.from_numpy(wanted).repeat(rounds)
            draw = self.sampler.sample(n * rounds, seed, labels)
            features = self.features(self.generator(draw.latents, draw.labels))
            passes = (self.reference.distances(features).amin(1) <= self.radius).reshape(rounds, n)
            if bool(passes.any(0).all()):
                break
            if 2 * rounds > self.max_rounds:
                raise SamplingError(
                    f"{float(passes.double().mean()):.1%} of {n * rounds} draws lie near the reference set, "
                    f"not enough for {n} draws: choose a smaller |rho|, a larger quantile or more rounds "
                    f"than {self.max_rounds}"
                )
            rounds *= 2
        chosen = passes.int().argmax(0) * n + torch.arange(n)
        passed = float(passes.double().mean())
        ess = min(draw.diagnostics.ess * passed, float(n))
        return AcceptanceDraw(
            latents=draw.latents[chosen],
            labels=None if draw.labels is None else draw.labels[chosen],
            log_weights=draw.log_weights[chosen],
            row_ids=draw.row_ids[chosen],
            diagnostics=AcceptanceDiagnostics(n, ess, draw.diagnostics.evaluations, passed),
        )
