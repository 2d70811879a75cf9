"""Polarity and MaGNET sampling of pretrained generators.

Draw latents with probability proportional to ``p(z) * vol(z)**rho``, where ``log vol(z)`` is the sum of
the log singular values of the generator's Jacobian: quality at rho < 0, diversity at rho > 0, uniform on
the learned manifold at rho = 1 under a uniform latent law.

    import polarity_sampling as ps
    g = ps.Generator(module, latent_dim=100)
    bank = ps.Bank.build(g, n=20_000, path="faces.bank", top_k=30)
    draw = ps.PolaritySampler(bank, rho=-0.3, top_k=10).sample(64, seed=1)
    images = g(draw.latents)
"""

from polarity_sampling import models
from polarity_sampling.bank import Bank
from polarity_sampling.errors import (
    BankError,
    GeneratorError,
    ModelError,
    PolarityError,
    PolarityWarning,
    SamplingError,
)
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian import AdjointOperator, JacobianOperator, jacobian
from polarity_sampling.laws import Ball, Law, Normal, Sphere, TruncatedNormal, Uniform
from polarity_sampling.samplers import (
    Diagnostics,
    Draw,
    MagnetSampler,
    PolaritySampler,
    SMCSampler,
    choose_top_k,
    effective_sample_sizes,
)
from polarity_sampling.volume import (
    LocalGeometry,
    LogVolume,
    OutputEntropy,
    local_complexity,
    local_geometry,
    log_volume,
    output_entropy,
)

__version__ = "0.1.0"

__all__ = [
    "AdjointOperator",
    "Ball",
    "Bank",
    "BankError",
    "Diagnostics",
    "Draw",
    "Generator",
    "GeneratorError",
    "JacobianOperator",
    "Law",
    "LocalGeometry",
    "LogVolume",
    "MagnetSampler",
    "ModelError",
    "Normal",
    "OutputEntropy",
    "PolarityError",
    "PolaritySampler",
    "PolarityWarning",
    "SMCSampler",
    "SamplingError",
    "Sphere",
    "TruncatedNormal",
    "Uniform",
    "choose_top_k",
    "effective_sample_sizes",
    "jacobian",
    "local_complexity",
    "local_geometry",
    "log_volume",
    "models",
    "output_entropy",
]
