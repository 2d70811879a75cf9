"""A one-step generator in small: a U-Net from an image of noise to an image, K = D = 3072."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PIXELS = 32
_GROUPS = 8


class _Residual(nn.Module):
    def __init__(self, before: int, behind: int) -> None:
        super().__init__()
        self.first = nn.Sequential(
            nn.GroupNorm(_GROUPS, before), nn.SiLU(), nn.Conv2d(before, behind, 3, padding=1)
        )
        self.second = nn.Sequential(
            nn.GroupNorm(_GROUPS, behind), nn.SiLU(), nn.Conv2d(behind, behind, 3, padding=1)
        )
        self.skip = nn.Conv2d(before, behind, 1) if before != behind else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.skip(x) + self.second(self.first(x))
        return out


class _Attention(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(_GROUPS, channels)
        self.inward = nn.Conv2d(channels, 3 * channels, 1)
        self.outward = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.inward(self.norm(x)).flatten(2).mT.chunk(3, -1)
        mixed = F.scaled_dot_product_attention(query, key, value)
        out: Tensor = x + self.outward(mixed.mT.reshape(x.shape))
        return out


class UNet(nn.Module):
    """Two halvings, attention between them, and skips."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.inward = nn.Conv2d(3, channels, 3, padding=1)
        self.fine = _Residual(channels, channels)
        self.halve = nn.Conv2d(channels, channels, 3, 2, padding=1)
        self.coarse = _Residual(channels, 2 * channels)
        self.quarter = nn.Conv2d(2 * channels, 2 * channels, 3, 2, padding=1)
        self.middle = nn.Sequential(
            _Residual(2 * channels, 2 * channels),
            _Attention(2 * channels),
            _Residual(2 * channels, 2 * channels),
        )
        self.coarse_again = _Residual(4 * channels, channels)
        self.fine_again = _Residual(2 * channels, channels)
        self.outward = nn.Conv2d(channels, 3, 3, padding=1)

    def forward(self, z: Tensor) -> Tensor:
        fine = self.fine(self.inward(z.unflatten(1, (3, PIXELS, PIXELS))))
        coarse = self.coarse(self.halve(fine))
        x = self.middle(self.quarter(coarse))
        x = self.coarse_again(torch.cat([F.interpolate(x, scale_factor=2), coarse], 1))
        x = self.fine_again(torch.cat([F.interpolate(x, scale_factor=2), fine], 1))
        return torch.tanh(self.outward(x))
