"""A residual generator with pixel normalisation and nearest upsampling, after ProGAN (Karras et al. 2018,
arXiv 1710.10196) with the blocks of Mescheder et al. 2018 (arXiv 1801.04406)."""

import itertools

import polarity_sampling as ps
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures import weights


def pixel_norm(x: Tensor) -> Tensor:
    return x / (x.pow(2).mean(dim=1, keepdim=True) + 1e-8).sqrt()


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Conv2d(inputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2, mode="nearest")
        h = pixel_norm(F.leaky_relu(self.conv1(x), 0.2))
        h = pixel_norm(F.leaky_relu(self.conv2(h), 0.2))
        return self.skip(x) + 0.5 * h


class ProGAN(nn.Module):
    def __init__(self, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.ConvTranspose2d(dim, widths[0], 4)
        self.blocks = nn.ModuleList(Block(*pair) for pair in itertools.pairwise(widths))
        self.to_rgb = nn.Conv2d(widths[-1], 3, 1)

    def forward(self, z: Tensor) -> Tensor:
        x = pixel_norm(F.leaky_relu(self.first(pixel_norm(z)[:, :, None, None]), 0.2))
        for block in self.blocks:
            x = block(x)
        return self.to_rgb(x)


def generator(dim: int = 16, widths: tuple[int, ...] = (16, 12, 8)) -> ps.Generator:
    module = ProGAN(dim, widths)
    weights.draw(module, seed=5)
    return ps.Generator(module.eval(), dim, name="ProGAN")
