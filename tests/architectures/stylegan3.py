"""A generator of StyleGAN3-like layers: alias-free nonlinearities (Karras et al. 2021, arXiv 2106.12423)."""

import itertools
import math

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures import weights
from tests.architectures.fir import convolve, insert_zeros, lowpass_filter
from tests.architectures.modulated import ModulatedConv


class FilteredLayer(nn.Module):
    """Modulated convolution, bias; leaky ReLU at a higher sampling rate, between two low-pass filters."""

    def __init__(self, inputs: int, outputs: int, dim: int, size_in: int, size_out: int, fused: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, dim, fused=fused)
        self.bias = nn.Parameter(torch.empty(outputs))
        self.down = 2
        self.up = self.down * size_out // size_in
        self.register_buffer("up_taps", lowpass_filter(6 * self.up, 0.5 / self.up))
        self.register_buffer("down_taps", lowpass_filter(6 * self.down, 0.5 / self.down))
        lost = len(self.up_taps) - 1 + len(self.down_taps) - 1
        total = (size_out - 1) * self.down + 1 + lost - size_in * self.up
        self.padding = (total - total // 2, total // 2)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w) + self.bias[:, None, None]
        x = convolve(insert_zeros(x, self.up), self.up_taps * self.up, self.padding)
        x = (F.leaky_relu(x, 0.2) * 2**0.5).clamp(-256, 256)
        return convolve(x, self.down_taps, (0, 0), stride=self.down)


class StyleGAN3(nn.Module):
    """Latents [B, dim] to images [B, 3, size, size], from fixed Fourier features."""

    def __init__(self, dim: int, channels: int, sizes: tuple[int, ...], *, fused: bool) -> None:
        super().__init__()
        random = torch.Generator().manual_seed(3)
        frequency, phase = torch.randn(channels, 2, generator=random), torch.rand(channels, generator=random)
        grid = torch.stack(torch.meshgrid(*[torch.linspace(-0.5, 0.5, sizes[0])] * 2, indexing="ij"))
        waves = torch.einsum("cd,dhw->chw", frequency, grid) + phase[:, None, None]
        self.register_buffer("features", 2**0.5 * torch.sin(2 * math.pi * waves))
        self.mapping = nn.ModuleList([nn.Linear(dim, dim), nn.Linear(dim, dim)])
        self.layers = nn.ModuleList(
            FilteredLayer(channels, channels, dim, *pair, fused) for pair in itertools.pairwise(sizes)
        )
        self.to_rgb = ModulatedConv(channels, 3, 1, dim, fused=fused, demodulate=False)

    def forward(self, z: Tensor) -> Tensor:
        w = z / (z.square().mean(1, keepdim=True) + 1e-8).sqrt()
        for layer in self.mapping:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        x = self.features.expand(z.shape[0], -1, -1, -1)
        for layer in self.layers:
            x = layer(x, w)
        return self.to_rgb(x, w)


def generator(
    dim: int = 12, channels: int = 12, sizes: tuple[int, ...] = (8, 8, 16), *, fused: bool = True
) -> ps.Generator:
    module = StyleGAN3(dim, channels, sizes, fused=fused)
    weights.draw(module, seed=3)
    return ps.Generator(module.eval(), dim, name=f"StyleGAN3 {sizes[-1]} px")
