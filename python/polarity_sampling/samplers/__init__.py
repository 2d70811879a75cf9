"""Samplers: from a bank's log-volumes to latents with the law asked for."""

from polarity_sampling.samplers.choose import choose_top_k, effective_sample_sizes
from polarity_sampling.samplers.draw import BankDiagnostics, BankDraw, Diagnostics, Draw
from polarity_sampling.samplers.magnet import MagnetSampler
from polarity_sampling.samplers.polarity import PolaritySampler
from polarity_sampling.samplers.protocol import BankLike, Sampler
from polarity_sampling.samplers.smc import SMCDiagnostics, SMCDraw, SMCSampler

__all__ = [
    "BankDiagnostics",
    "BankDraw",
    "BankLike",
    "Diagnostics",
    "Draw",
    "MagnetSampler",
    "PolaritySampler",
    "SMCDiagnostics",
    "SMCDraw",
    "SMCSampler",
    "Sampler",
    "choose_top_k",
    "effective_sample_sizes",
]
