"""A ReLU network most of whose units are inactive at any latent, as in trained MLP GANs."""

import itertools

import polarity_sampling as ps
import torch
from torch import nn

from tests.architectures import weights


def generator(
    widths: tuple[int, ...] = (64, 256, 256, 784), active: tuple[float, ...] = (0.3, 0.14)
) -> ps.Generator:
    """Linear and ReLU layers of the given widths, tanh at the end.

    active: for each hidden layer the part of its units that is active at a latent, in the mean; the biases
    are the quantiles that make it so. The defaults are a GAN trained on MNIST.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    layers[-1] = nn.Tanh()
    module = nn.Sequential(*layers)
    weights.draw(module, seed=10, gain=2**0.5)
    x = torch.randn(4096, widths[0], generator=torch.Generator().manual_seed(10))
    with torch.no_grad():
        for layer, part in zip(module[:-2:2], active, strict=True):
            x = x @ layer.weight.T
            layer.bias.copy_(-x.quantile(1 - part, dim=0))
            x = torch.relu(x + layer.bias)
            # The few active units carry the variance that all would have carried.
            scale = x.square().mean().sqrt()
            for tensor in (layer.weight, layer.bias, x):
                tensor.div_(scale)
    return ps.Generator(module.eval(), widths[0], name="MLP " + "-".join(map(str, widths)))
