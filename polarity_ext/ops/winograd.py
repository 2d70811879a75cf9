"""Convolutions by Winograd's minimal filtering: fewer multiplications, in matrix products."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from polarity_ext.ops.function import apply, differentiable, is_tracked
from polarity_ext.ops.mask_tangents import mask_tangents

# Where the polynomials of an edge are evaluated, besides infinity, by the edge of a tile.
_POINTS = {4: (0.0, 1.0, -1.0), 5: (0.5, -0.5, 1.25, -1.25), 6: (0.0, 0.75, -0.75, 1.5, -1.5)}
_PANEL = 32  # output channels that the CPU kernel multiplies together
_KNOWN = {(4, 2), (4, 3), (5, 2), (6, 3), (6, 4)}  # tile, taps of a phase


def _values(tile: int, taps: int) -> Tensor:
    """[tile, taps]: values at the points, over the denominators of Lagrange's interpolation there."""
    points = _POINTS[tile]
    rows = [[p**k / math.prod(p - q for q in points if q != p) for k in range(taps)] for p in points]
    return torch.tensor([*rows, [0.0] * (taps - 1) + [1.0]], dtype=torch.float64)


def _taps(kernel: int, stride: int) -> int:
    """Of a phase, along an edge."""
    return -(-kernel // stride)


def winograd_weight(weight: Tensor, stride: int = 1, transposed: bool = False, *, tile: int = 4) -> Tensor:
    """The weight of a convolution as `winograd` takes it, computed in float64.

    Args:
        weight: [out, in, k, k], or [in, out, k, k] of a transposed convolution, as torch has it.
        stride: of the convolution; ``ceil(k / stride)``, the taps of a phase, must be 2, 3 or 4.
        transposed: whose weight it is.
        tile: pixels along the edge of a tile: 4 for 2 or 3 taps, 5 for 2, 6 for 3 or 4.

    Returns:
        [tile², 1, in * stride², out], transposed [tile², 1, in, stride² * out], in the dtype of the weight.
        On a CPU, if ``out`` is a multiple of 32, by so many of them: [tile², panels, in ..., 32].

    Raises:
        ValueError: a kernel that is not square, or of another number of taps.
    """
    kernel = weight.shape[-1]
    taps = _taps(kernel, stride)
    if weight.ndim != 4 or weight.shape[2] != kernel or (tile, taps) not in _KNOWN:
        raise ValueError(
            f"winograd_weight: weight is {list(weight.shape)} at stride {stride} and tile {tile}; expected "
            "[*, *, k, k] with ceil(k / stride) 2 or 3 for tile 4, 2 for tile 5, 3 or 4 for tile 6"
        )
    missing = taps * stride - kernel
    whole = F.pad(weight.double(), (0, missing, 0, missing))
    # Tap stride q + p of the kernel is tap q of phase p.
    phased = whole.unflatten(3, (taps, stride)).unflatten(2, (taps, stride))
    at = _values(tile, taps).to(weight.device)
    values = torch.einsum("ay,bx,ijypxq->abijpq", at, at, phased)
    if transposed:
        matrices = values.permute(0, 1, 2, 4, 5, 3).flatten(3)
    else:
        matrices = values.permute(0, 1, 4, 5, 3, 2).flatten(2, 4)
    matrices = matrices.flatten(0, 1).to(weight.dtype)
    by_panels = weight.device.type == "cpu" and weight.shape[1 if transposed else 0] % _PANEL == 0
    panels: Tensor = matrices.unflatten(2, (-1, _PANEL) if by_panels else (1, -1))
    return panels.transpose(1, 2).contiguous()


def _matrices(weight: Tensor) -> Tensor:
    """[tile², in, out] of what `winograd_weight` gave."""
    matrices: Tensor = weight.transpose(1, 2).flatten(2)
    return matrices


@torch.library.register_fake("polarity::winograd")
def _fake(
    x: Tensor,
    weight: Tensor,
    kernel: int,
    stride: int,
    padding: Sequence[int],
    size: Sequence[int],
    transposed: bool,
    bits: Tensor | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    inputs, outputs = (1, stride**2) if transposed else (stride**2, 1)
    matches = x.dim() >= 4 and weight.dim() == 4 and weight.shape[0] in (16, 25, 36)
    columns = weight.shape[1] * weight.shape[3] if matches else 0
    torch._check(
        matches and weight.shape[2] == x.shape[-3] * inputs and columns % outputs == 0,
        lambda: (
            "winograd: x must be [*, N, C, H, W] and weight that of winograd_weight, "
            f"got x {list(x.shape)} and weight {list(weight.shape)}"
        ),
    )
    out = x.new_empty((*x.shape[:-3], *size, columns // outputs))
    if bits is not None:
        expected = (x.shape[-4], (math.prod(out.shape[-3:]) + 7) // 8)
        torch._check(
            bits.dtype == torch.uint8 and bits.shape == expected,
            lambda: f"winograd: bits must be uint8 {list(expected)}, got {bits.dtype} {list(bits.shape)}",
        )
    return out.movedim(-1, -3)


for _device in ("cpu", "cuda"):  # the product inside must have the dtype of x: kernels read it as that
    torch.library.register_autocast("polarity::winograd", _device, torch.float32)


_TRACKED = "winograd: weight is being differentiated and this op has derivatives in x alone; detach() it"


class _Winograd(torch.autograd.Function):
    """Linear in x; the weight is a constant (`winograd` sees to it)."""

    @staticmethod
    def forward(  # by name: torch.compile counts them
        x: Tensor,
        weight: Tensor,
        kernel: int,
        stride: int,
        padding: list[int],
        size: list[int],
        transposed: bool,
    ) -> Tensor:
        out: Tensor = torch.ops.polarity.winograd(x, weight, kernel, stride, padding, size, transposed)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        x, weight, *ctx.settings = inputs
        ctx.set_materialize_grads(False)  # None: not differentiated
        ctx.before = tuple(x.shape[-2:])
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None) -> tuple[Tensor | None, ...]:
        if ctx.needs_input_grad[1]:  # by an outer transform, whose tracking nobody sees from outside
            raise RuntimeError(_TRACKED)
        if grad is None:
            return (None,) * 7
        (weight,) = ctx.saved_tensors
        kernel, stride, padding, _, transposed = ctx.settings
        # The matrices of the transposed convolution are the transposed ones.
        back = _matrices(weight).transpose(1, 2)[:, None], kernel, stride, padding, ctx.before, not transposed
        return apply(_Winograd, grad, *back), *(None,) * 6

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
        out: Tensor = apply(_Winograd, x.movedim(in_dims[0], 0), weight, *settings)  # more images
        return out, 0


def winograd(
    x: Tensor,
    weight: Tensor,
    kernel: int,
    *,
    size: Sequence[int],
    stride: int = 1,
    padding: Sequence[int] = (0, 0),
    transposed: bool = False,
    bits: Tensor | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """A convolution, or a transposed one, of images by Winograd's minimal filtering.

    Tiles are transformed to values at points, multiplied there, and transformed back (Lavin and Gray, arXiv
    1509.09308): F(2, 3) and F(3, 2) by tiles of 4 x 4, F(4, 2) by tiles of 5 x 5, F(4, 3) and F(3, 4) by
    tiles of 6 x 6; with a stride, by phases. A 3 x 3 kernel takes 4 or 2.25 multiplications for an output
    instead of 9; a 4 x 4 one at stride 2, of each phase, 25 for 4 x 4 pixels of the smaller side instead of
    64. The transposed convolution is the exact transpose: Toom and Cook's product of polynomials. In float32
    the error of tiles of 4 is about that of the plain sum, because fewer terms are added up; of 5 it is
    twice and of 6 three times as large. Differentiable in x (backward, jvp, vmap).

    Args:
        x: images [*, N, C, H, W], best channels last (else copied), float32 or float64.
        weight: from `winograd_weight`, for the same stride and ``transposed``.
        kernel: k, the pixels along an edge of the kernel; ``ceil(k / stride)`` is 2, 3 or 4.
        size: (H', W') of the result; where the convolution would give more, the first ones.
        stride: along both axes.
        padding: (y, x), as of the convolution.
        transposed: a transposed convolution.
        bits: of a rectifier behind it, by whose derivative results are multiplied as by `mask_tangents`,
            before they are written: [N, ceil(n / 8)] uint8 from `rectify`, n the numbers of an image of
            results, in the order of memory: rows, columns, channels.
        low, high: the two slopes.

    Returns:
        [*, N, out, H', W'], channels last.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, another number of taps, or a derivative in the
            weight is asked for.
    """
    if is_tracked(weight):
        raise RuntimeError(_TRACKED)
    settings = kernel, stride, list(padding), list(size), transposed
    if bits is None:
        out: Tensor = apply(_Winograd, x, weight, *settings)
    elif differentiable(x):
        images = apply(_Winograd, x, weight, *settings).movedim(-3, -1)
        probes = images.reshape(-1, *images.shape[-4:])
        out = mask_tangents(probes, bits, low, high).view(images.shape).movedim(-1, -3)
    else:
        out = torch.ops.polarity.winograd(x, weight, *settings, bits, float(low), float(high))
    return out
