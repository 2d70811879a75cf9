"""Transposed convolution of images to a few channels."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_weight

from polarity_ext.ops.function import apply, differentiable


@torch.library.register_fake("polarity::convolve_to_few")
def _fake(
    x: Tensor,
    weight: Tensor,
    stride: int,
    padding: Sequence[int],
    size: Sequence[int],
    factor: Tensor | None = None,
) -> Tensor:
    torch._check(
        x.dim() >= 4 and weight.dim() == 4 and weight.shape[0] == x.shape[-3],
        lambda: (
            "convolve_to_few: x must be [*, N, C, H, W] and weight [C, O, k, l], "
            f"got x {list(x.shape)} and weight {list(weight.shape)}"
        ),
    )
    out = x.new_empty((*x.shape[:-3], weight.shape[1], *size))
    return out if factor is None else _times(out, factor)


def _times(out: Tensor, factor: Tensor) -> Tensor:
    if factor.shape != out.shape[-4:]:
        raise RuntimeError(
            "convolve_to_few: factor must be [B, O, H', W'], as the result [*, B, O, H', W'] "
            f"{list(out.shape)} is, got {list(factor.shape)}"
        )
    return out * factor


for _device in ("cpu", "cuda"):
    torch.library.register_autocast("polarity::convolve_to_few", _device, torch.float32)


def _beyond(before: Sequence[int], weight: Tensor, stride: int, padding: Any, size: Any) -> list[int]:
    """Pixels of the whole convolution left, right, above and below those wanted; negative: zeros."""
    beyond: list[int] = []
    for axis in (1, 0):
        whole = stride * (before[axis] - 1) + weight.shape[2 + axis]
        beyond += [padding[axis], whole - padding[axis] - size[axis]]
    return beyond


class _ConvolveToFew(torch.autograd.Function):
    """Linear in x and in the weight."""

    @staticmethod
    def forward(  # by name: torch.compile counts them
        x: Tensor, weight: Tensor, stride: int, padding: list[int], size: list[int]
    ) -> Tensor:
        out: Tensor = torch.ops.polarity.convolve_to_few(x, weight, stride, padding, size)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.settings = inputs
        ctx.set_materialize_grads(False)  # None: not differentiated
        ctx.save_for_backward(x, weight)
        ctx.save_for_forward(x, weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        if grad is None:
            return (None,) * 5
        stride = ctx.settings[0]
        whole = F.pad(grad, _beyond(x.shape[2:], weight, *ctx.settings))
        of_x = F.conv2d(whole, weight, stride=stride) if ctx.needs_input_grad[0] else None
        of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = conv2d_weight(whole, weight.shape, x, stride=stride)
        return of_x, of_weight, None, None, None

    @staticmethod
    def jvp(ctx: Any, x_tangent: Tensor | None, weight_tangent: Tensor | None, *_: Any) -> Tensor | None:
        x, weight = ctx.saved_tensors
        terms: list[Tensor] = []
        if x_tangent is not None:
            terms.append(apply(_ConvolveToFew, x_tangent, weight, *ctx.settings))
        if weight_tangent is not None:
            terms.append(apply(_ConvolveToFew, x, weight_tangent, *ctx.settings))
        return sum(terms[1:], terms[0]) if terms else None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, *settings: Any
    ) -> tuple[Tensor, int]:
        if in_dims[1] is None:  # more images
            x = x.movedim(in_dims[0], 0)  # type: ignore[arg-type]
            out: Tensor = apply(_ConvolveToFew, x.flatten(0, 1), weight, *settings)
            return out.unflatten(0, x.shape[:2]), 0
        # Each with a weight of its own: groups of channels, which are the library's.
        count = info.batch_size
        weight = weight.movedim(in_dims[1], 0)
        x = x.expand(count, *x.shape) if in_dims[0] is None else x.movedim(in_dims[0], 0)
        images = x.transpose(0, 1).flatten(1, 2)
        whole = F.conv_transpose2d(images, weight.flatten(0, 1), stride=settings[0], groups=count)
        cut = F.pad(whole, [-n for n in _beyond(x.shape[3:], weight[0], *settings)])
        return cut.unflatten(1, (count, -1)), 1


def convolve_to_few(
    x: Tensor,
    weight: Tensor,
    *,
    size: Sequence[int],
    stride: int = 1,
    padding: Sequence[int] = (0, 0),
    factor: Tensor | None = None,
) -> Tensor:
    """A transposed convolution of images to a few channels, such as the colours of a picture.

    A matrix product would leave most of a vector register empty, with 3 channels of 16; here neighbouring
    pixels share it. In float32 each sum is added up term by term, over channels and taps. A convolution with
    stride 1 is the transposed one by ``weight.flip(2, 3).transpose(0, 1)`` with padding k - 1 - p.
    Differentiable in x, weight and factor (backward, jvp, vmap).

    Args:
        x: images [*, N, C, H, W], contiguous or channels last (else copied), float32 or float64.
        weight: [C, O, k, l], as `torch.nn.ConvTranspose2d` has it; any O, but fast for few.
        size: (H', W') of the result; where the convolution would give more, the first ones; where it gives
            fewer (output padding), zeros.
        stride: along both axes.
        padding: (y, x), as of the transposed convolution.
        factor: [N, O, H', W'], by which results are multiplied before they are written: the derivative of
            what follows.

    Returns:
        [*, N, O, H', W'], contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, or a size, stride or padding is out of range.
    """
    settings = stride, list(padding), list(size)
    if not differentiable(x, weight, factor):
        out: Tensor = torch.ops.polarity.convolve_to_few(x, weight, *settings, factor)
        return out
    if x.dim() > 4:
        out = apply(_ConvolveToFew, x.flatten(0, -4), weight, *settings).unflatten(0, x.shape[:-3])
    else:
        out = apply(_ConvolveToFew, x, weight, *settings)
    return out if factor is None else _times(out, factor)
