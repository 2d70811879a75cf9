"""StyleGAN2's generator: mapping network, synthesis with skip connections (Karras et al. 2020,
arXiv 1912.04958)."""

import math

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures import weights
from tests.architectures.fir import binomial_filter, convolve, upsample
from tests.architectures.modulated import ModulatedConv


class Mapping(nn.Module):
    def __init__(self, dim: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        w = z * (z.square().mean(1, keepdim=True) + 1e-8).rsqrt()
        for layer in self.layers:
            w = F.leaky_relu(layer(w), 0.2) * 2**0.5
        return w


class StyledLayer(nn.Module):
    """Modulated convolution (doubling the resolution or not), constant noise, bias, leaky ReLU."""

    def __init__(
        self, inputs: int, outputs: int, dim: int, resolution: int, fused: bool, doubling: bool
    ) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, outputs, 3, dim, fused=fused, transposed=doubling)
        self.noise_strength = nn.Parameter(torch.empty(()))
        self.bias = nn.Parameter(torch.empty(outputs))
        self.register_buffer(
            "noise", torch.randn(resolution, resolution, generator=torch.Generator().manual_seed(0))
        )
        self.register_buffer("taps", binomial_filter())
        self.doubling = doubling

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        x = self.conv(x, w)
        if self.doubling:
            x = convolve(x, self.taps * 2, (1, 1))
        x = x + self.noise * self.noise_strength
        return F.leaky_relu(x + self.bias[:, None, None], 0.2) * 2**0.5


class ToRGB(nn.Module):
    def __init__(self, inputs: int, dim: int, fused: bool) -> None:
        super().__init__()
        self.conv = ModulatedConv(inputs, 3, 1, dim, fused=fused, demodulate=False)
        self.bias = nn.Parameter(torch.empty(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.conv(x, w) + self.bias[:, None, None]


class StyleGAN2(nn.Module):
    """Latents [B, dim] to images [B, 3, resolution, resolution].

    channels: of the feature maps at ``resolution``; doubled at every halving, up to ``most_channels``.
    """

    def __init__(
        self,
        resolution: int,
        dim: int,
        channels: int,
        most_channels: int,
        mapping_layers: int,
        *,
        fused: bool,
    ) -> None:
        super().__init__()
        sizes = [2**i for i in range(2, int(math.log2(resolution)) + 1)]
        width = {size: min(channels * resolution // size, most_channels) for size in sizes}
        self.mapping = Mapping(dim, mapping_layers)
        self.constant = nn.Parameter(torch.empty(width[4], 4, 4))
        self.first = StyledLayer(width[4], width[4], dim, 4, fused, doubling=False)
        self.doublings = nn.ModuleList(
            StyledLayer(width[size // 2], width[size], dim, size, fused, doubling=True) for size in sizes[1:]
        )
        self.layers = nn.ModuleList(
            StyledLayer(width[size], width[size], dim, size, fused, doubling=False) for size in sizes[1:]
        )
        self.to_rgb = nn.ModuleList(ToRGB(width[size], dim, fused) for size in sizes)
        self.register_buffer("taps", binomial_filter())

    def forward(self, z: Tensor) -> Tensor:
        w = self.mapping(z)
        x = self.first(self.constant.expand(z.shape[0], -1, -1, -1), w)
        image = self.to_rgb[0](x, w)
        for doubling, layer, to_rgb in zip(self.doublings, self.layers, self.to_rgb[1:], strict=True):
            x = layer(doubling(x, w), w)
            image = upsample(image, self.taps, 2) + to_rgb(x, w)
        return image


def generator(
    resolution: int = 16,
    dim: int = 16,
    channels: int = 8,
    most_channels: int = 16,
    mapping_layers: int = 3,
    *,
    fused: bool,
) -> ps.Generator:
    module = StyleGAN2(resolution, dim, channels, most_channels, mapping_layers, fused=fused)
    weights.draw(module, seed=2)
    return ps.Generator(module.eval(), dim, name=f"StyleGAN2 {resolution} px")
