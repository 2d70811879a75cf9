"""Samplers: from a bank's log-volumes to latents with the law asked for."""

from polarity_sampling.samplers.choose import choose_top_k, effective_sample_sizes
from polarity_sampling.samplers.draw import (
    AcceptanceDiagnostics,
    AcceptanceDraw,
    BankDiagnostics,
    BankDraw,
    Diagnostics,
    Draw,
)
from polarity_sampling.samplers.independence import IndependenceSampler
from polarity_sampling.samplers.magnet import MagnetSampler
from polarity_sampling.samplers.polarity import PolaritySampler
from polarity_sampling.samplers.protocol import BankLike, Sampler
from polarity_sampling.samplers.rejection import RejectionSampler
from polarity_sampling.samplers.rivals import (
    BaseSampler,
    DiscriminatorSampler,
    HubnessSampler,
    MixtureDraw,
    MixtureSampler,
    RaritySampler,
    StyleTruncationSampler,
    SupportGuard,
    TruncationSampler,
)
from polarity_sampling.samplers.smc import SMCDiagnostics, SMCDraw, SMCSampler

__all__ = [
    "AcceptanceDiagnostics",
    "AcceptanceDraw",
    "BankDiagnostics",
    "BankDraw",
    "BankLike",
    "BaseSampler",
    "Diagnostics",
    "DiscriminatorSampler",
    "Draw",
    "HubnessSampler",
    "IndependenceSampler",
    "MagnetSampler",
    "MixtureDraw",
    "MixtureSampler",
    "PolaritySampler",
    "RaritySampler",
    "RejectionSampler",
    "SMCDiagnostics",
    "SMCDraw",
    "SMCSampler",
    "Sampler",
    "StyleTruncationSampler",
    "SupportGuard",
    "TruncationSampler",
    "choose_top_k",
    "effective_sample_sizes",
]
