"""A transformer decoder from a latent to image patches (Vaswani et al. 2017, arXiv 1706.03762; gated
feed-forward layers: Shazeer 2020, arXiv 2002.05202)."""

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.architectures import weights


class SelfAttention(nn.Module):
    """Multi-head attention, written out or through ``scaled_dot_product_attention``."""

    def __init__(self, width: int, heads: int, explicit: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads, self.explicit = heads, explicit

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        qkv = self.qkv(x).view(batch, tokens, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        if self.explicit:
            scores = query @ key.transpose(-2, -1) / (width // self.heads) ** 0.5
            mixed = torch.softmax(scores, -1) @ value
        else:
            mixed = F.scaled_dot_product_attention(query, key, value)
        return self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.first = nn.Linear(width, 2 * hidden if gated else hidden)
        self.second = nn.Linear(hidden, width)
        self.gated = gated

    def forward(self, x: Tensor) -> Tensor:
        return self.second(F.glu(self.first(x)) if self.gated else F.gelu(self.first(x)))


class Layer(nn.Module):
    def __init__(self, width: int, heads: int, explicit: bool, gated: bool) -> None:
        super().__init__()
        norm = nn.RMSNorm if gated else nn.LayerNorm
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention = SelfAttention(width, heads, explicit)
        self.feed_forward = FeedForward(width, 2 * width, gated)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.feed_forward(self.norm2(x))


class TransformerDecoder(nn.Module):
    """Latents [B, dim] to images [B, 3, size, size]: one token for each patch."""

    def __init__(
        self,
        dim: int,
        width: int,
        heads: int,
        layers: int,
        size: int,
        patch: int,
        *,
        explicit: bool,
        gated: bool,
    ) -> None:
        super().__init__()
        self.grid, self.patch = size // patch, patch
        self.lift = nn.Linear(dim, width)
        self.position = nn.Parameter(torch.empty(self.grid**2, width))
        self.layers = nn.ModuleList(Layer(width, heads, explicit, gated) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.to_patch = nn.Linear(width, 3 * patch**2)

    def forward(self, z: Tensor) -> Tensor:
        x = self.lift(z)[:, None] * (1 + self.position) + self.position
        for layer in self.layers:
            x = layer(x)
        patches = self.to_patch(self.norm(x)).view(-1, self.grid, self.grid, 3, self.patch, self.patch)
        image = patches.permute(0, 3, 1, 4, 2, 5)
        return image.reshape(-1, 3, self.grid * self.patch, self.grid * self.patch)


def generator(
    dim: int = 12, width: int = 24, heads: int = 3, layers: int = 2, size: int = 8, patch: int = 2, *,
    explicit: bool, gated: bool,
) -> ps.Generator:  # fmt: skip
    module = TransformerDecoder(dim, width, heads, layers, size, patch, explicit=explicit, gated=gated)
    weights.draw(module, seed=6)
    return ps.Generator(module.eval(), dim, name="transformer decoder")
