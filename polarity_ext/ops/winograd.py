"""Convolutions by Winograd's minimal filtering: fewer multiplications, in matrix products."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polarity_ext.ops.function import apply

_INNER, _OUTER = 1.0 / 1.8984375, 1.0 / 7.59375
# Of the taps along an edge, by the edge of a tile and by how many taps a phase has: values at 0, 1, -1 and
# infinity, and at 0, 3/4, -3/4, 3/2, -3/2 and infinity, over the products of the differences of the points.
_POINTS = {
    (4, 2): [[1.0, 0.0], [0.5, 0.5], [0.5, -0.5], [0.0, 1.0]],
    (4, 3): [[1.0, 0.0, 0.0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0.0, 0.0, 1.0]],
    (6, 3): [
        [1.0 / 1.265625, 0.0, 0.0],
        [-_INNER, -0.75 * _INNER, -0.5625 * _INNER],
        [-_INNER, 0.75 * _INNER, -0.5625 * _INNER],
        [_OUTER, 1.5 * _OUTER, 2.25 * _OUTER],
        [_OUTER, -1.5 * _OUTER, 2.25 * _OUTER],
        [0.0, 0.0, 1.0],
    ],
}
# Taps of these values.
_BACK = {
    (4, 2): [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    (4, 3): [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, -1.0, 0.0], [0.0, 0.0, 0.0, 1.0]],
    (6, 3): [
        [1.265625, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 2.53125, -2.53125, 0.0],
        [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
    ],
}


def _taps(kernel: int, stride: int) -> int:
    """Of a phase, along an edge."""
    return -(-kernel // stride)


def winograd_weight(weight: Tensor, stride: int = 1, transposed: bool = False, *, tile: int = 4) -> Tensor:
    """The weight of a convolution as `winograd` takes it, computed in float64.

    Args:
        weight: [out, in, k, k], or [in, out, k, k] of a transposed convolution, as torch has it.
        stride: of the convolution; ``ceil(k / stride)`` must be 2 or 3.
        transposed: whose weight it is.
        tile: pixels along the edge of a tile, 4 or, for three taps, 6.

    Returns:
        [tile², in * stride², out], transposed [tile², in, stride² * out], in the dtype of the weight.

    Raises:
        ValueError: a kernel that is not square, or of another number of taps.
    """
    kernel = weight.shape[-1]
    taps = _taps(kernel, stride)
    if weight.ndim != 4 or weight.shape[2] != kernel or (tile, taps) not in _POINTS:
        raise ValueError(
            f"winograd_weight: weight is {list(weight.shape)} at stride {stride} and tile {tile}; expected "
            "[*, *, k, k] with ceil(k / stride) 2 or 3 for tile 4, 3 for tile 6"
        )
    missing = taps * stride - kernel
    whole = F.pad(weight.double(), (0, missing, 0, missing))
    # Tap stride q + p of the kernel is tap q of phase p; a transposed one meets its inputs backwards.
    phased = whole.unflatten(3, (taps, stride)).unflatten(2, (taps, stride))
    if transposed:
        phased = phased.flip(2, 4)
    points = torch.tensor(_POINTS[tile, taps], dtype=torch.float64, device=weight.device)
    values = torch.einsum("ay,bx,ijypxq->abijpq", points, points, phased)
    order = (0, 1, 2, 4, 5, 3) if transposed else (0, 1, 4, 5, 3, 2)
    rows = weight.shape[0] if transposed else stride**2 * weight.shape[1]
    return values.permute(order).reshape(tile**2, rows, -1).to(weight.dtype)


@torch.library.register_fake("polarity::winograd")
def _fake(
    x: Tensor,
    weight: Tensor,
    kernel: int,
    stride: int,
    padding: Sequence[int],
    size: Sequence[int],
    transposed: bool,
) -> Tensor:
    inputs, outputs = (1, stride**2) if transposed else (stride**2, 1)
    matches = x.dim() == 4 and weight.dim() == 3 and weight.shape[0] in (16, 36)
    torch._check(
        matches and weight.shape[1] == x.shape[1] * inputs and weight.shape[2] % outputs == 0,
        lambda: (
            "winograd: x must be [N, C, H, W] and weight that of winograd_weight, "
            f"got x {list(x.shape)} and weight {list(weight.shape)}"
        ),
    )
    out = x.new_empty((x.shape[0], *size, weight.shape[2] // outputs))
    return out.permute(0, 3, 1, 2)


for _device in ("cpu", "cuda"):  # the product inside must have the dtype of x: kernels read it as that
    torch.library.register_autocast("polarity::winograd", _device, torch.float32)


_TRACKED = "winograd: weight is being differentiated and this op has derivatives in x alone; detach() it"


def _moved(x: Tensor, room: list[int]) -> Tensor:
    """F.pad, but filling up before it cuts: the cut may be larger than what there was."""
    return F.pad(F.pad(x, [max(r, 0) for r in room]), [min(r, 0) for r in room])


class _Winograd(torch.autograd.Function):
    """Linear in x; the weight is a constant (`winograd` sees to it)."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, *settings: Any) -> Tensor:
        out: Tensor = torch.ops.polarity.winograd(x, weight, *settings)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.settings = inputs
        ctx.set_materialize_grads(False)  # None: not differentiated
        ctx.before = tuple(x.shape[2:])
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.needs_input_grad[1]:  # by an outer transform, whose tracking nobody sees from outside
            raise RuntimeError(_TRACKED)
        if grad is None:
            return (None,) * 7
        (weight,) = ctx.saved_tensors
        kernel, stride, padding, size, transposed = ctx.settings
        plain = _plain_weight(weight, kernel, stride, transposed)
        # Without padding both ways, and cut to size or filled up with zeros.
        room: list[int] = []
        for before, after, p in zip(ctx.before, size, padding, strict=True):
            whole = stride * ((before if transposed else after) - 1) + kernel
            room = [*([p, whole - after - p] if transposed else [-p, before + p - whole]), *room]
        if transposed:
            of_x = F.conv2d(_moved(grad, room), plain, stride=stride)
        else:
            of_x = _moved(F.conv_transpose2d(grad, plain, stride=stride), room)
        return of_x, *(None,) * 6

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor | None, weight_tangent: Tensor | None, *_: Any) -> Tensor | None:
        if weight_tangent is not None:
            raise RuntimeError(_TRACKED)
        if tangent is None:
            return None
        out: Tensor = apply(_Winograd, tangent, *ctx.saved_tensors, *ctx.settings)
        return out

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor, *settings: Any
    ) -> tuple[Tensor, int]:
        if in_dims[1] is not None:
            raise RuntimeError("winograd: weight cannot be batched by vmap; call it once for each weight")
        assert in_dims[0] is not None
        x = x.movedim(in_dims[0], 0)  # more images
        out: Tensor = apply(_Winograd, x.flatten(0, 1), weight, *settings)
        return out.unflatten(0, x.shape[:2]), 0


def _plain_weight(weight: Tensor, kernel: int, stride: int, transposed: bool) -> Tensor:
    """What `winograd_weight` was given."""
    tile = 4 if weight.shape[0] == 16 else 6
    back = torch.tensor(_BACK[tile, _taps(kernel, stride)], dtype=weight.dtype, device=weight.device)
    places = weight.unflatten(0, (tile, tile))
    if transposed:  # in, phase, phase, out
        places = places.unflatten(3, (stride, stride, -1)).permute(2, 5, 0, 1, 3, 4)
    else:  # phase, phase, in, out
        places = places.unflatten(2, (stride, stride, -1)).permute(5, 4, 0, 1, 2, 3)
    phased = torch.einsum("ya,xb,ijabpq->ijypxq", back, back, places)
    if transposed:
        phased = phased.flip(2, 4)
    return phased.flatten(4, 5).flatten(2, 3)[:, :, :kernel, :kernel]


def winograd(
    x: Tensor,
    weight: Tensor,
    kernel: int,
    *,
    size: Sequence[int],
    stride: int = 1,
    padding: Sequence[int] = (0, 0),
    transposed: bool = False,
) -> Tensor:
    """A convolution, or a transposed one, of images by Winograd's minimal filtering.

    Tiles of 4 x 4 pixels are transformed, multiplied by the transformed weight, and transformed back (Lavin
    and Gray, arXiv 1509.09308, F(2, 3) and F(3, 2)): 3 x 3 kernels take 4 multiplications for an output
    instead of 9, and 4 x 4 kernels at stride 2 take 1.8 instead of 4 (transposed), by phases. In float32 the
    error is about that of the plain sum, because fewer terms are added up. Tiles of 6 x 6, F(4, 3), take 2.25
    multiplications; their error is about three times as large. Differentiable in x (backward, jvp, vmap).

    Args:
        x: images [N, C, H, W], best channels last (else copied), float32 or float64.
        weight: from `winograd_weight`, for the same stride and ``transposed``.
        kernel: k, the pixels along an edge of the kernel; ``ceil(k / stride)`` is 2 or 3.
        size: (H', W') of the result; where the convolution would give more, the first ones.
        stride: along both axes.
        padding: (y, x), as of the convolution.
        transposed: a transposed convolution.

    Returns:
        [N, out, H', W'], channels last.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, another number of taps, or a derivative in the
            weight is asked for.
    """
    tracked = torch.is_grad_enabled() and weight.requires_grad
    if tracked or torch.autograd.forward_ad.unpack_dual(weight).tangent is not None:
        raise RuntimeError(_TRACKED)
    out: Tensor = apply(_Winograd, x, weight, kernel, stride, list(padding), list(size), transposed)
    return out
