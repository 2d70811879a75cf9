"""A style that scales the channels of an image: the modulation and demodulation of StyleGAN2."""

from collections.abc import Sequence

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.jacobian.rules.pointwise import COMPILED, Pointwise
from polarity_sampling.jacobian.stage import Call, Residual


class Modulation(Pointwise):
    """``x * s``, both with tangents; x [B, C, *] and s [B, C, 1, ...]."""

    def __init__(self, call: Call) -> None:
        super().__init__(call, lambda args, kwargs, out: (args[1], args[0]))
        self._image = 0 if self.shapes[0] == self.shape else 1

    @staticmethod
    def fits(call: Call) -> bool:
        """Whether this is what a product of two tensors is."""
        shape = tuple(call.out.shape)
        style = (*shape[:2], *(1,) * (len(shape) - 2))
        shapes = sorted((tuple(operand.shape) for operand in call.active), key=lambda s: s != shape)
        return len(shape) > 2 and shapes == [shape, style] != [shape] * 2 and call.out.dtype in COMPILED

    def _sides(self, residual: Residual) -> tuple[Tensor, Tensor]:
        """The image, and the style [B, C]."""
        # The factor of either is the other.
        return residual[1 - self._image], residual[self._image].flatten(1)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        if any(t.shape[1:] != shape for t, shape in zip(tangents, self.shapes, strict=True)):
            return super().push(residual, tangents, owned)
        image, style = tangents[self._image], tangents[1 - self._image].flatten(2)
        x, s = self._sides(residual)
        if owned and self._image == 0 and _alike(image, x):
            return (polarity_ext.modulate_tangents_(image, x, s, style),)
        return (polarity_ext.modulate_tangents(image, x, s, style),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        of_image, sums = polarity_ext.modulate_cotangents(u.expand(-1, *self.shape), *self._sides(residual))
        found = of_image, sums.reshape(*sums.shape, *(1,) * (len(self.shape) - 2))
        return found[:: 1 if self._image == 0 else -1]


def _alike(tangents: Tensor, x: Tensor) -> bool:
    """Both contiguous or both channels last, the probes one after the other."""
    first, apart = tangents[0], tangents.stride(0) == x.numel() or len(tangents) == 1
    return apart and (
        (first.is_contiguous() and x.is_contiguous())
        or (x.ndim == 4 and all(t.is_contiguous(memory_format=torch.channels_last) for t in (first, x)))
    )
