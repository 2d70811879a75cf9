"""MaGNET: uniform draws on the manifold that a generator has learned."""

from __future__ import annotations

import warnings

from polarity_sampling.errors import PolarityWarning
from polarity_sampling.laws import Law, Sphere
from polarity_sampling.samplers.polarity import PolaritySampler
from polarity_sampling.samplers.protocol import BankLike
from polarity_sampling.samplers.weights import Flagged, Target


class MagnetSampler(PolaritySampler):
    """Polarity sampling at rho = 1 (Humayun et al., arXiv 2110.08009).

    Draws are uniform on the image of a latent region exactly when the target is uniform on that region and
    the generator is one-to-one there, which it is not where its first layer is narrower than the latent.
    Over a bank of normal latents the default tilts the normal law, as the published code does; for a
    uniform law on a region build the bank from it: `Bank.build(..., proposal=ps.Ball(r))`.

    Args:
        bank, top_k, region, flagged: as in PolaritySampler.
        target: None means "uniform" if the bank's rows were drawn from a uniform law (Uniform, Ball,
            Sphere), which needs no reweighting, else "base".

    Warns:
        PolarityWarning: top_k below the number of latent directions: the draws are uniform on leading ones
            only. Or a uniform target for a generator that sees only some of the latent (`Bank.directions`).
            Once per sampler.
    """

    def __init__(
        self,
        bank: BankLike,
        top_k: int | None = None,
        *,
        target: Target | None = None,
        region: Law | None = None,
        flagged: Flagged = "drop",
    ) -> None:
        target = target or default_target(bank)
        super().__init__(bank, 1.0, top_k, target=target, region=region, flagged=flagged)
        if self.top_k < bank.directions:
            warnings.warn(
                f"MaGNET with top_k={self.top_k} of {bank.directions} latent directions: the draws are "
                f"uniform on the {self.top_k} leading directions only; a larger top_k covers more of the "
                "manifold at a smaller effective sample size",
                PolarityWarning,
                stacklevel=2,
            )
        dimension = bank.latent_dim - isinstance(bank.base, Sphere)
        if target == "uniform" and bank.directions < dimension:
            warnings.warn(
                f"MaGNET on a generator that sees {bank.directions} of {dimension} latent directions: "
                "latents uniform on a region are not uniform in those, so the draws are not uniform on the "
                "manifold; they undo what the generator stretches and keep the law of what it sees",
                PolarityWarning,
                stacklevel=2,
            )


def default_target(bank: BankLike) -> Target:
    """What MaGNET tilts unless told: the law of the bank's rows if uniform, else the base law."""
    return "uniform" if bank.law.uniform else "base"
