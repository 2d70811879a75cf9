"""A residual VAE decoder: group normalisation, SiLU, attention at the lowest resolution (the decoder of
latent diffusion models; Rombach et al. 2022, arXiv 2112.10752)."""

import itertools

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures import weights


class ResidualBlock(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(4, inputs), nn.GroupNorm(4, outputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h), inplace=True))
        return self.skip(x) + h


class AttentionBlock(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(4, channels)
        self.query, self.key, self.value, self.out = (nn.Conv2d(channels, channels, 1) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        query, key, value = (f(h).flatten(2) for f in (self.query, self.key, self.value))
        weight = torch.softmax(torch.einsum("bci,bcj->bij", query, key) * x.shape[1] ** -0.5, 2)
        return x + self.out(torch.einsum("bij,bcj->bci", weight, value).view_as(x))


class Decoder(nn.Module):
    def __init__(self, dim: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.first = nn.Linear(dim, widths[0] * 16)
        self.middle = nn.Sequential(
            ResidualBlock(widths[0], widths[0]),
            AttentionBlock(widths[0]),
            ResidualBlock(widths[0], widths[0]),
        )
        self.blocks = nn.ModuleList(ResidualBlock(*pair) for pair in itertools.pairwise(widths))
        self.upsampling = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for width in widths[1:])
        self.norm = nn.GroupNorm(4, widths[-1])
        self.out = nn.Conv2d(widths[-1], 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        x = self.middle(self.first(z).view(z.shape[0], -1, 4, 4))
        for block, conv in zip(self.blocks, self.upsampling, strict=True):
            x = conv(F.interpolate(block(x), scale_factor=2.0, mode="nearest"))
        return self.out(F.silu(self.norm(x)))


def generator(dim: int = 12, widths: tuple[int, ...] = (16, 12, 8)) -> ps.Generator:
    module = Decoder(dim, widths)
    weights.draw(module, seed=8)
    return ps.Generator(module.eval(), dim, name="residual VAE decoder")
