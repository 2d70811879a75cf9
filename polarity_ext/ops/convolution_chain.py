"""Convolutions one behind the other, in one call."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from polarity_ext.ops.convolve_to_few import convolve_to_few
from polarity_ext.ops.function import differentiable
from polarity_ext.ops.winograd import winograd

_WITHOUT = torch.empty(0)
"""A factor that there is not."""


class ChainedConvolution(NamedTuple):
    """One of a chain: by `winograd`, or by `convolve_to_few` with the arguments of that."""

    weight: Tensor
    size: tuple[int, ...]
    kernel: int = 0
    """Of `winograd`."""
    stride: int = 1
    padding: tuple[int, ...] = (0, 0)
    transposed: bool = False
    """Of `winograd`."""
    slopes: tuple[float, float] = (0.0, 1.0)
    """Of the rectifier behind `winograd`."""
    to_few: bool = False

    def __call__(self, x: Tensor, factor: Tensor | None) -> Tensor:
        """Alone."""
        if self.to_few:
            return convolve_to_few(
                x, self.weight, size=self.size, stride=self.stride, padding=self.padding, factor=factor
            )
        low, high = self.slopes
        return winograd(
            x, self.weight, self.kernel, size=self.size, stride=self.stride, padding=self.padding,
            transposed=self.transposed, bits=factor, low=low, high=high,
        )  # fmt: skip


class ConvolutionChain:
    """Convolutions of images, each followed by a rectifier's or another factor.

    The same as one call for each of them, without what lies between: behind a large kernel, which has
    emptied the caches, the way through Python and torch's dispatcher to the next one takes as long as a small
    kernel. On a CPU no more images go through the chain at a time than stay in the caches between two
    convolutions. Differentiable as the ops that it is made of.

    Args:
        convolutions: in order.

    Raises:
        ValueError: there are none.
    """

    def __init__(self, convolutions: Sequence[ChainedConvolution]) -> None:
        if not convolutions:
            raise ValueError("ConvolutionChain: there are no convolutions; expected at least one")
        self._all = list(convolutions)
        self._weights = [one.weight for one in convolutions]
        self._slopes = [float(slope) for one in convolutions for slope in one.slopes]
        self._settings = [
            int(number)
            for one in convolutions
            for number in (one.to_few, one.kernel, one.stride, *one.padding, *one.size, one.transposed)
        ]

    def __call__(self, x: Tensor, factors: Sequence[Tensor | None]) -> Tensor:
        """Applies them.

        Args:
            x: images [*, N, C, H, W], float32 or float64.
            factors: behind each one the bits of `winograd`, the factor of `convolve_to_few`, or None.

        Returns:
            [*, N, O, H', W'], in the layout of the last convolution's results.

        Raises:
            RuntimeError: as `winograd` and `convolve_to_few`.
            ValueError: there is not a factor, or None, for each convolution.
        """
        if len(factors) != len(self._all):
            raise ValueError(
                f"ConvolutionChain: there are {len(factors)} factors for {len(self._all)} convolutions; "
                "expected one for each, None where nothing is multiplied by"
            )
        if differentiable(x, *self._weights, *factors):
            for convolution, factor in zip(self._all, factors, strict=True):
                x = convolution(x, factor)
            return x
        out: Tensor = torch.ops.polarity.convolution_chain(*self.arguments(x, factors))
        return out

    def arguments(self, x: Tensor, factors: Sequence[Tensor | None]) -> tuple[Any, ...]:
        """Of the op itself."""
        given = [_WITHOUT if factor is None else factor for factor in factors]
        return x, self._weights, given, self._settings, self._slopes


@torch.library.register_fake("polarity::convolution_chain")
def _fake(
    x: Tensor,
    weights: Sequence[Tensor],
    factors: Sequence[Tensor],
    settings: Sequence[int],
    slopes: Sequence[float],
) -> Tensor:
    for i, (weight, given) in enumerate(zip(weights, factors, strict=True)):
        to_few, kernel, stride, *place, transposed = settings[8 * i : 8 * i + 8]
        padding, size, factor = place[:2], place[2:], given if given.dim() > 1 else None
        if to_few:
            x = torch.ops.polarity.convolve_to_few(x, weight, stride, padding, size, factor)
        else:
            low, high = slopes[2 * i : 2 * i + 2]
            x = torch.ops.polarity.winograd(
                x, weight, kernel, stride, padding, size, bool(transposed), factor, low, high
            )
    return x


for _device in ("cpu", "cuda"):
    torch.library.register_autocast("polarity::convolution_chain", _device, torch.float32)
