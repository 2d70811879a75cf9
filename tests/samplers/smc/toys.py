"""Targets whose law is known in closed form, as functions of latents alone: no network, no Jacobian."""

import math

import torch
from polarity_sampling.laws import Law, Normal
from polarity_sampling.samplers.smc.surrogate import Surrogate, fit
from polarity_sampling.samplers.smc.target import Target


def linear(z, label):
    """log vol = 1.5 z_0 - z_1: under a normal law the tilt only moves the mean, to rho (1.5, -1, 0, ...)."""
    return 1.5 * z[:, 0].double() - z[:, 1].double()


def square(z, label):
    """log vol = -|z|²: the standard normal law becomes one of variance 1 / (1 + 2 rho)."""
    return -z.double().square().sum(1)


def by_class(z, label):
    """log vol = class + linear: classes have probabilities proportional to exp(rho · class)."""
    return label.double() + linear(z, label)


def rough(z, label):
    """A wrong guess of `linear`, by about one nat."""
    return linear(z, label) + (2.0 * z[:, 0].double()).sin() + 0.5 * z[:, 2].double()


def target(evaluate=linear, rho=1.0, dim=3, law: Law | None = None, classes=None, **screens) -> Target:
    return Target(law or Normal(), dim, rho, evaluate, classes, **screens)


def ignorant_surrogate(wanted: Target, seed: int) -> Surrogate:
    """A surrogate that has learned the log-volumes of other points: wrong, but not constant."""
    x = torch.randn(500, wanted.reference_dim, dtype=torch.float64, generator=torch.manual_seed(seed))
    label = None if wanted.classes is None else torch.arange(500) % wanted.label_count
    volume = wanted.log_volume(x, label)
    return fit(wanted.features(x, label), label, volume.roll(1) + volume, wanted.label_count, seed, None)


def normal_cdf(x, mean=0.0, std=1.0):
    return torch.special.ndtr((x.double() - mean) / std).numpy()


LOG_2 = math.log(2.0)
