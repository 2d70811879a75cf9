"""What else is used to choose latents, on the same protocol, so that it can be compared."""

from polarity_sampling.samplers.rivals.base import BaseSampler
from polarity_sampling.samplers.rivals.discriminator import DiscriminatorSampler
from polarity_sampling.samplers.rivals.hubness import HubnessSampler
from polarity_sampling.samplers.rivals.mixture import MixtureDraw, MixtureSampler
from polarity_sampling.samplers.rivals.rarity import RaritySampler
from polarity_sampling.samplers.rivals.support import SupportGuard
from polarity_sampling.samplers.rivals.truncation import StyleTruncationSampler, TruncationSampler

__all__ = [
    "BaseSampler",
    "DiscriminatorSampler",
    "HubnessSampler",
    "MixtureDraw",
    "MixtureSampler",
    "RaritySampler",
    "StyleTruncationSampler",
    "SupportGuard",
    "TruncationSampler",
]
