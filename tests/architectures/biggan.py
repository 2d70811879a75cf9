"""BigGAN's generator: class-conditional batch normalisation and self-attention (Brock et al. 2019,
arXiv 1809.11096)."""

import itertools

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from tests.architectures import weights


class ConditionalBatchNorm(nn.Module):
    """Batch normalisation whose gain and bias come from the class embedding and a part of the latent."""

    def __init__(self, channels: int, condition: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.gain = spectral_norm(nn.Linear(condition, channels, bias=False))
        self.bias = spectral_norm(nn.Linear(condition, channels, bias=False))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        gain, bias = 1 + self.gain(c), self.bias(c)
        return self.norm(x) * gain[:, :, None, None] + bias[:, :, None, None]


class Block(nn.Module):
    """Residual block that doubles the resolution."""

    def __init__(self, inputs: int, outputs: int, condition: int) -> None:
        super().__init__()
        self.norm1 = ConditionalBatchNorm(inputs, condition)
        self.norm2 = ConditionalBatchNorm(outputs, condition)
        self.conv1 = spectral_norm(nn.Conv2d(inputs, outputs, 3, padding=1))
        self.conv2 = spectral_norm(nn.Conv2d(outputs, outputs, 3, padding=1))
        self.skip = spectral_norm(nn.Conv2d(inputs, outputs, 1))

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        h = F.interpolate(F.relu(self.norm1(x, c)), scale_factor=2)
        h = self.conv2(F.relu(self.norm2(self.conv1(h), c)))
        return h + self.skip(F.interpolate(x, scale_factor=2))


class SelfAttention(nn.Module):
    """Attention over pixels, keys and values pooled (Zhang et al. 2019, arXiv 1805.08318)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = spectral_norm(nn.Conv2d(channels, channels // 4, 1, bias=False))
        self.key = spectral_norm(nn.Conv2d(channels, channels // 4, 1, bias=False))
        self.value = spectral_norm(nn.Conv2d(channels, channels // 2, 1, bias=False))
        self.out = spectral_norm(nn.Conv2d(channels // 2, channels, 1, bias=False))
        self.strength = nn.Parameter(torch.empty(()))

    def forward(self, x: Tensor) -> Tensor:
        query = self.query(x).flatten(2)
        key = F.max_pool2d(self.key(x), 2).flatten(2)
        value = F.max_pool2d(self.value(x), 2).flatten(2)
        attention = F.softmax(torch.bmm(query.transpose(1, 2), key), -1)
        attended = torch.bmm(value, attention.transpose(1, 2))
        return x + self.strength * self.out(attended.view(x.shape[0], -1, *x.shape[2:]))


class BigGAN(nn.Module):
    """Latents [B, dim] and classes [B] to images; the latent is split among the input and the blocks."""

    def __init__(self, part: int, embedding: int, classes: int, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.parts = len(widths)
        self.embed = nn.Embedding(classes, embedding)
        self.first = spectral_norm(nn.Linear(part, widths[0] * 16))
        self.blocks = nn.ModuleList(Block(*pair, part + embedding) for pair in itertools.pairwise(widths))
        self.attention = SelfAttention(widths[1])
        self.norm = nn.BatchNorm2d(widths[-1])
        self.out = spectral_norm(nn.Conv2d(widths[-1], 3, 3, padding=1))

    def forward(self, z: Tensor, label: Tensor) -> Tensor:
        first, *rest = z.chunk(self.parts, 1)
        embedding = self.embed(label)
        x = self.first(first).view(z.shape[0], -1, 4, 4)
        for i, (block, part) in enumerate(zip(self.blocks, rest, strict=True)):
            x = block(x, torch.cat([embedding, part], 1))
            if i == 0:
                x = self.attention(x)
        return torch.tanh(self.out(F.relu(self.norm(x))))


def generator(
    part: int = 6, embedding: int = 8, classes: int = 5, widths: tuple[int, ...] = (24, 16, 12)
) -> ps.Generator:
    module = BigGAN(part, embedding, classes, widths)
    weights.draw(module, seed=4, gain=2**0.5)
    dim = part * len(widths)
    z = torch.randn(64, dim, generator=torch.Generator().manual_seed(4))
    weights.settle(module, z, torch.arange(64) % classes)
    return ps.Generator(module, dim, num_classes=classes, name="BigGAN")
