"""Resampling with FIR filters: zeros between the samples, a filter, every n-th sample."""

import torch
import torch.nn.functional as F
from torch import Tensor


def binomial_filter() -> Tensor:
    """[1, 3, 3, 1] with sum 1, as StyleGAN2 uses (Karras et al. 2020, arXiv 1912.04958, appendix B)."""
    taps = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return taps / taps.sum()


def lowpass_filter(taps: int, cutoff: float, beta: float = 6.0) -> Tensor:
    """Sinc of the given cutoff (fraction of the sampling rate) under a Kaiser window; sum 1."""
    position = torch.arange(taps) - (taps - 1) / 2
    filter = torch.sinc(2 * cutoff * position) * torch.kaiser_window(taps, periodic=False, beta=beta)
    return filter / filter.sum()


def upsample(x: Tensor, taps: Tensor, factor: int) -> Tensor:
    """[B, C, H, W] to [B, C, factor H, factor W], keeping the mean."""
    before, after = (len(taps) + factor - 1) // 2, (len(taps) - factor) // 2
    return convolve(insert_zeros(x, factor), taps * factor, (before, after))


def insert_zeros(x: Tensor, factor: int) -> Tensor:
    """Each pixel becomes a block of factor x factor with the pixel in its first corner."""
    batch, channels, height, width = x.shape
    blocks = F.pad(x[:, :, :, None, :, None], (0, factor - 1, 0, 0, 0, factor - 1))
    return blocks.reshape(batch, channels, height * factor, width * factor)


def convolve(x: Tensor, taps: Tensor, padding: tuple[int, int], stride: int = 1) -> Tensor:
    """Every channel with the filter, along rows and then along columns."""
    channels = x.shape[1]
    x = F.pad(x, (*padding, *padding))
    kernel = taps.flip(0).to(x.dtype).expand(channels, 1, 1, -1)
    x = F.conv2d(x, kernel, stride=(1, stride), groups=channels)
    return F.conv2d(x, kernel.mT, stride=(stride, 1), groups=channels)
