"""Tempered sequential Monte Carlo: pure functions of an explicit state, and a sampler made of them."""

from polarity_sampling.samplers.smc.diagnostics import Agreement, SMCDiagnostics, SMCDraw, agreement
from polarity_sampling.samplers.smc.sampler import SMCSampler

__all__ = ["Agreement", "SMCDiagnostics", "SMCDraw", "SMCSampler", "agreement"]
