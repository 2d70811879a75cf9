"""A cheap guess of the log-volume, learned from the points evaluated so far.

It only proposes: every proposal is corrected by the exact log-volume, so a poor guess costs acceptance, never
correctness.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

WIDTH = 128
STEPS = 400
BATCH = 256
RATE = 4e-3
# One point in eight is held out: the weights kept are those that guess these best.
HELD_OUT = 8
CHECK = 25


@dataclass(frozen=True)
class Surrogate:
    """A perceptron with two hidden layers, from features of a latent and its class to the log-volume."""

    weights: tuple[Tensor, ...]
    """float32: three matrices, each followed by its bias."""
    centre: tuple[float, float]
    spread: tuple[float, float]
    """Mean and standard deviation of features and log-volumes first learned from: the network's units."""
    classes: int
    """Number of classes, 0 for none."""
    error: float
    """Standard deviation of exact minus guess at points held out, nats."""
    points: int
    """How many it has learned from."""

    def __call__(self, features: Tensor, label: Tensor | None) -> Tensor:
        """Guessed log-volumes, float64 [n], from features [n, F] (see `Target.features`)."""
        with torch.no_grad():
            guess = _network(self.weights, self.inputs(features, label))
        return self.centre[1] + self.spread[1] * guess.double()

    def inputs(self, features: Tensor, label: Tensor | None) -> Tensor:
        scaled = (features.float() - self.centre[0]) / self.spread[0]
        if label is None:
            return scaled
        return torch.cat([scaled, torch.nn.functional.one_hot(label, self.classes).float()], 1)


def fit(
    features: Tensor,
    label: Tensor | None,
    log_volume: Tensor,
    classes: int,
    seed: int,
    start: Surrogate | None,
) -> Surrogate:
    """Learn from features [n, F], on from `start` where there is one. The same arguments, the same guess."""
    generator = torch.Generator().manual_seed(seed)
    if start is None:
        start = _untrained(features, log_volume, classes, generator)
    inputs = start.inputs(features, label)
    wanted = ((log_volume - start.centre[1]) / start.spread[1]).float()
    held_out = torch.arange(len(inputs)) % HELD_OUT == 0
    test, test_wanted = inputs[held_out], wanted[held_out]
    inputs, wanted = inputs[~held_out], wanted[~held_out]
    weights = [w.clone().requires_grad_() for w in start.weights]
    optimizer = torch.optim.AdamW(weights, RATE, weight_decay=1e-2)
    best, kept = math.inf, start.weights
    for step in range(STEPS + 1):
        if step % CHECK == 0:
            with torch.no_grad():
                error = float((test_wanted - _network(weights, test)).square().mean().sqrt())
            if error < best:
                best, kept = error, tuple(w.detach().clone() for w in weights)
        for group in optimizer.param_groups:
            group["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / STEPS))
        batch = torch.randint(len(inputs), (BATCH,), generator=generator)
        with torch.enable_grad():
            loss = (_network(weights, inputs[batch]) - wanted[batch]).square().mean()
            optimizer.zero_grad()
            loss.backward()
        optimizer.step()
    return replace(start, weights=kept, error=start.spread[1] * best, points=len(features))


def _untrained(features: Tensor, log_volume: Tensor, classes: int, generator: torch.Generator) -> Surrogate:
    weights = []
    for fan_in, fan_out in ((features.shape[1] + classes, WIDTH), (WIDTH, WIDTH), (WIDTH, 1)):
        normal = torch.randn(fan_in, fan_out, generator=generator, dtype=torch.float32)
        weights.append(normal / math.sqrt(fan_in))
        weights.append(torch.zeros(fan_out, dtype=torch.float32))
    # A law's coordinates are exchangeable and a summary's have unit spread: one mean and one spread will do.
    centre = (float(features.mean()), float(log_volume.mean()))
    spread = (max(float(features.std()), 1e-6), max(float(log_volume.std()), 1e-6))
    return Surrogate(tuple(weights), centre, spread, classes, math.inf, 0)


def _network(weights: Sequence[Tensor], features: Tensor) -> Tensor:
    first, first_bias, second, second_bias, last, last_bias = weights
    hidden = torch.nn.functional.silu(features @ first + first_bias)
    hidden = torch.nn.functional.silu(hidden @ second + second_bias)
    return (hidden @ last + last_bias).squeeze(1)
