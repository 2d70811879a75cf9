"""Modulated convolution (Karras et al. 2020, arXiv 1912.04958, section 2.2), in both forms in use."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ModulatedConv(nn.Module):
    """A convolution whose kernel is scaled by a style for every input channel, and normalised.

    fused: one grouped convolution with a kernel for each sample. Otherwise: scale the input, convolve with
    the shared kernel, scale the output. Both compute the same function.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel: int,
        style_dim: int,
        *,
        fused: bool,
        demodulate: bool = True,
        transposed: bool = False,
    ) -> None:
        super().__init__()
        self.affine = nn.Linear(style_dim, in_channels)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel, kernel))
        self.fused, self.demodulate, self.transposed = fused, demodulate, transposed

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        style = self.affine(w) + 1.0
        return self._fused(x, style) if self.fused else self._scaled(x, style)

    def _fused(self, x: Tensor, style: Tensor) -> Tensor:
        batch, _, height, width = x.shape
        weight = self.weight * style[:, None, :, None, None]  # [B, O, I, k, k]
        if self.demodulate:
            weight = weight * (weight.square().sum((2, 3, 4), keepdim=True) + 1e-8).rsqrt()
        x = x.reshape(1, -1, height, width)
        if self.transposed:
            y = F.conv_transpose2d(x, weight.transpose(1, 2).flatten(0, 1), stride=2, groups=batch)
        else:
            y = F.conv2d(x, weight.flatten(0, 1), padding=weight.shape[-1] // 2, groups=batch)
        return y.reshape(batch, -1, *y.shape[2:])

    def _scaled(self, x: Tensor, style: Tensor) -> Tensor:
        x = x * style[:, :, None, None]
        if self.transposed:
            y = F.conv_transpose2d(x, self.weight.transpose(0, 1), stride=2)
        else:
            y = F.conv2d(x, self.weight, padding=self.weight.shape[-1] // 2)
        if self.demodulate:
            energy = style.square() @ self.weight.square().sum((2, 3)).T
            y = y * (energy + 1e-8).rsqrt()[:, :, None, None]
        return y
