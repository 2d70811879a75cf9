"""Upsampling, filtering and downsampling of images in one pass, as in StyleGAN."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply, is_tracked


@torch.library.register_fake("polarity::upfirdn2d")
def _fake(x: Tensor, taps: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]) -> Tensor:
    torch._check(
        x.dim() == 4 and taps.dim() == 2 and taps.numel() > 0,
        lambda: (
            "upfirdn2d: x must be [N, C, H, W] and f [taps of y, taps of x], "
            f"got x {list(x.shape)} and f {list(taps.shape)}"
        ),
    )
    n, channels, height, width = x.shape
    out_height = (height * up[1] + padding[2] + padding[3] - taps.shape[0]) // down[1] + 1
    out_width = (width * up[0] + padding[0] + padding[1] - taps.shape[1]) // down[0] + 1
    torch._check(
        out_height > 0 and out_width > 0,
        lambda: f"upfirdn2d: the taps of f {list(taps.shape)} are more than x {list(x.shape)} has; pad more",
    )
    if channels > 1 and x.is_contiguous(memory_format=torch.channels_last) and x.stride(1) == 1:
        return x.new_empty((n, out_height, out_width, channels)).permute(0, 3, 1, 2)
    return x.new_empty((n, channels, out_height, out_width))


_TRACKED = "upfirdn2d: f is being differentiated and this op has derivatives in x alone; detach() it"


class _Upfirdn2d(torch.autograd.Function):
    """Linear in x; the taps are constants (`upfirdn2d` sees to it)."""

    @staticmethod
    def forward(
        x: Tensor, taps: Tensor, up: Sequence[int], down: Sequence[int], padding: Sequence[int]
    ) -> Tensor:
        out: Tensor = torch.ops.polarity.upfirdn2d(x, taps, up, down, padding)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, taps, *ctx.settings = inputs
        ctx.set_materialize_grads(False)  # None: not differentiated
        ctx.sizes = [
            (x.shape[3], output.shape[3], taps.shape[1]),
            (x.shape[2], output.shape[2], taps.shape[0]),
        ]
        ctx.save_for_backward(taps)
        ctx.save_for_forward(taps)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, None, None, None, None]:
        if ctx.needs_input_grad[1]:  # by an outer transform, whose tracking nobody sees from outside
            raise RuntimeError(_TRACKED)
        if grad is None:
            return (None,) * 5
        (taps,) = ctx.saved_tensors
        up, down, padding = ctx.settings
        back = []
        for axis, (size, out, count) in enumerate(ctx.sizes):
            before = padding[2 * axis]
            back += [count - 1 - before, size * up[axis] - out * down[axis] + before - up[axis] + 1]
        of_x: Tensor = apply(_Upfirdn2d, grad, taps.flip(0, 1), down, up, back)
        return of_x, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, taps_tangent: Tensor | None, *_: Any) -> Tensor | None:
        if taps_tangent is not None:
            raise RuntimeError(_TRACKED)
        if tangent is None:
            return None
        out: Tensor = apply(_Upfirdn2d, tangent, *ctx.saved_tensors, *ctx.settings)
        return out

    @staticmethod
    def vmap(
        info: Any,
        in_dims: tuple[int | None, ...],
        x: Tensor,
        taps: Tensor,
        up: Sequence[int],
        down: Sequence[int],
        padding: Sequence[int],
    ) -> tuple[Tensor, int]:
        if in_dims[1] is not None:
            raise RuntimeError("upfirdn2d: f cannot be batched by vmap; call it once for each filter")
        assert in_dims[0] is not None
        x = x.movedim(in_dims[0], 0)  # more images
        out: Tensor = apply(_Upfirdn2d, x.flatten(0, 1), taps, up, down, padding)
        return out.unflatten(0, x.shape[:2]), 0


def _pair(name: str, value: int | Sequence[int], count: int) -> list[int]:
    values = [value] * count if isinstance(value, int) else list(value)
    if len(values) != count:
        raise ValueError(f"upfirdn2d: {name} has {len(values)} entries; expected one number or {count}")
    return values


def upfirdn2d(
    x: Tensor,
    f: Tensor,
    up: int | Sequence[int] = 1,
    down: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
) -> Tensor:
    """Inserts zeros between pixels, pads, convolves with f, and keeps every ``down``-th pixel, in one pass.

    The operation and its arguments are those of StyleGAN2 (Karras et al., CVPR 2020) and StyleGAN3: each
    image becomes [H * up, W * up], with the zeros behind every pixel; the result has
    ``(H * up + top + bottom - taps) // down + 1`` rows. No zero is multiplied. Differentiable in x
    (backward, jvp, vmap); the gradient is the same op with up and down exchanged.

    Args:
        x: images [N, C, H, W], contiguous or channels last (else copied), float32 or float64. Tangents
            [L, B, C, H, W] go in as ``t.flatten(0, 1)``.
        f: filter [taps of y, taps of x], or [taps] for the same one along both axes, which is faster than
            their outer product. Convolved, that is, flipped; ``f.flip(...)`` correlates.
        up, down: one factor, or (x, y).
        padding: (left, right, top, bottom) of the upsampled image, or one number; negative crops.

    Returns:
        [N, C, H', W'], laid out like x.

    Raises:
        ValueError: up, down or padding has another number of entries.
        RuntimeError: shapes, dtypes or devices do not match; up or down is less than 1; f has more taps than
            the padded image has pixels; or a derivative in f is asked for.
    """
    if is_tracked(f):
        raise RuntimeError(_TRACKED)
    ups, downs, pads = _pair("up", up, 2), _pair("down", down, 2), _pair("padding", padding, 4)
    if f.dim() != 1:
        out: Tensor = apply(_Upfirdn2d, x, f.flip(0, 1) if f.dim() == 2 else f, ups, downs, pads)
        return out
    taps = f.flip(0)
    rows: Tensor = apply(_Upfirdn2d, x, taps[None], [ups[0], 1], [downs[0], 1], [*pads[:2], 0, 0])
    both: Tensor = apply(_Upfirdn2d, rows, taps[:, None], [1, ups[1]], [1, downs[1]], [0, 0, *pads[2:]])
    return both
