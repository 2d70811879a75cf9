"""Products by torch.func, for modules that cannot be captured."""

import torch
from torch import Tensor
from torch.func import jvp, vjp

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.quiet_vmap import quiet_vmap


def push_forward(generator: Generator, z: Tensor, label: Tensor | None, tangents: Tensor) -> Tensor:
    """J @ V for tangents [L, B, K] -> [L, B, D]."""
    with torch.no_grad():
        pushed: Tensor = quiet_vmap(lambda v: jvp(lambda x: generator.flat(x, label), (z,), (v,))[1])(
            tangents
        )
    return pushed


def pull_back(generator: Generator, z: Tensor, label: Tensor | None, cotangents: Tensor) -> Tensor:
    """J^T @ U for cotangents [L, B, D] -> [L, B, K]."""
    # The weights are constants here: under no_grad the graph of vjp holds z alone.
    with torch.no_grad():
        pullback = vjp(lambda x: generator.flat(x, label), z)[1]
        # Also of one alone: without vmap, torch's backward of a grouped convolution with a kernel for every
        # sample in channels-last was seen to be wrong (2.13, in float64, too).
        pulled: Tensor = quiet_vmap(lambda u: pullback(u)[0])(cotangents)
    return pulled
