"""Plain stacks of layers: DCGAN (Radford et al. 2016, arXiv 1511.06434), the generator of a WGAN-GP on 28 px
digits, the convolutional decoder of a VAE on 64 px images."""

import itertools

import polarity_sampling as ps
import torch
from torch import nn

from tests.architectures import weights


def dcgan(dim: int = 10, widths: tuple[int, ...] = (16, 12, 8, 8)) -> ps.Generator:
    """Transposed convolutions up to 2 ** (len(widths) + 2) px; DCGAN itself: 100, (512, 256, 128, 64)."""
    layers: list[nn.Module] = [
        nn.Unflatten(1, (dim, 1, 1)),
        nn.ConvTranspose2d(dim, widths[0], 4, bias=False),
    ]
    for inputs, outputs in itertools.pairwise(widths):
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(inplace=True)]
        layers += [nn.ConvTranspose2d(inputs, outputs, 4, 2, 1, bias=False)]
    layers += [nn.BatchNorm2d(widths[-1]), nn.ReLU(inplace=True)]
    layers += [nn.ConvTranspose2d(widths[-1], 3, 4, 2, 1, bias=False), nn.Tanh()]
    return _settled(layers, dim, f"DCGAN {2 ** (len(widths) + 2)} px")


def wgan_gp(dim: int = 64, widths: tuple[int, int, int] = (256, 128, 64)) -> ps.Generator:
    """Images of 28 x 28."""
    one, two, three = widths
    layers = [
        nn.Unflatten(1, (dim, 1, 1)),
        nn.ConvTranspose2d(dim, one, 3, 2), nn.BatchNorm2d(one), nn.ReLU(),
        nn.ConvTranspose2d(one, two, 4, 1), nn.BatchNorm2d(two), nn.ReLU(),
        nn.ConvTranspose2d(two, three, 3, 2), nn.BatchNorm2d(three), nn.ReLU(),
        nn.ConvTranspose2d(three, 1, 4, 2), nn.Tanh(),
    ]  # fmt: skip
    return _settled(layers, dim, "WGAN-GP 28 px")


def vae_decoder(dim: int = 10, hidden: int = 256, width: int = 32) -> ps.Generator:
    """Three linear layers, then transposed convolutions to 64 x 64."""
    layers: list[nn.Module] = [nn.Linear(dim, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU()]
    layers += [nn.Linear(hidden, width * 16), nn.ReLU(), nn.Unflatten(1, (width, 4, 4))]
    for _ in range(3):
        layers += [nn.ConvTranspose2d(width, width, 4, 2, 1), nn.ReLU()]
    layers += [nn.ConvTranspose2d(width, 3, 4, 2, 1), nn.Sigmoid()]
    return _settled(layers, dim, "VAE decoder 64 px")


def _settled(layers: list[nn.Module], dim: int, name: str) -> ps.Generator:
    module = nn.Sequential(*layers)
    weights.draw(module, seed=9, gain=2**0.5)
    weights.settle(module, torch.randn(64, dim, generator=torch.Generator().manual_seed(9)))
    return ps.Generator(module, dim, name=name)
