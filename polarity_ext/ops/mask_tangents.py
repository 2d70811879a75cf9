"""ReLU and leaky ReLU with their derivative as one bit for each unit, and tangents times it."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply, refuse_derivatives, was_written


@torch.library.register_fake("polarity::rectify")
def _fake_rectify(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    torch._check(x.dim() >= 1, lambda: f"rectify: x must be [B, *], got x {list(x.shape)}")
    size = x.shape[1:].numel()
    return x.new_empty(x.shape), x.new_empty((x.shape[0], (size + 7) // 8), dtype=torch.uint8)


@torch.library.register_fake("polarity::mask_tangents")
def _fake(t: Tensor, bits: Tensor, low: float, high: float) -> Tensor:
    _check_shapes(t, bits)
    return t.new_empty(t.shape)


@torch.library.register_fake("polarity::mask_tangents_")
def _fake_in_place(t: Tensor, bits: Tensor, low: float, high: float) -> None:
    _check_shapes(t, bits)


def _check_shapes(t: Tensor, bits: Tensor) -> None:
    torch._check(
        t.dim() >= 2 and bits.shape == (t.shape[1], (t.shape[2:].numel() + 7) // 8),
        lambda: (
            "mask_tangents: t must be [L, B, *] and bits [B, ceil(n / 8)], n the numbers of a sample, "
            f"got t {list(t.shape)} and bits {list(bits.shape)}"
        ),
    )


class _Rectify(torch.autograd.Function):
    @staticmethod
    def forward(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.polarity.rectify(x, slope)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: tuple[Tensor, Tensor]) -> None:
        ctx.slope = inputs[1]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1])
        ctx.save_for_forward(output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor, None]:
        return mask_tangents(grad[None], ctx.saved_tensors[0], ctx.slope)[0], None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> tuple[Tensor, None]:
        return mask_tangents(tangent[None], ctx.saved_tensors[0], ctx.slope)[0], None

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, None], x: Tensor, slope: float
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        assert in_dims[0] is not None
        x = x.movedim(in_dims[0], 0)  # more samples
        y, bits = apply(_Rectify, x.flatten(0, 1), slope)
        return (y.unflatten(0, x.shape[:2]), bits.unflatten(0, x.shape[:2])), (0, 0)


class _MaskTangents(torch.autograd.Function):
    """Linear in t, its own transpose."""

    @staticmethod
    def forward(t: Tensor, bits: Tensor, low: float, high: float) -> Tensor:
        out: Tensor = torch.ops.polarity.mask_tangents(t, bits, low, high)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.slopes = inputs[2:]
        ctx.save_for_backward(inputs[1])
        ctx.save_for_forward(inputs[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
        return mask_tangents(grad, *ctx.saved_tensors, *ctx.slopes), None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return mask_tangents(tangent, *ctx.saved_tensors, *ctx.slopes)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], t: Tensor, bits: Tensor, low: float, high: float
    ) -> tuple[Tensor, int]:
        t_dim, bits_dim, _, _ = in_dims
        if bits_dim is None:  # the batched probes are just more probes
            assert t_dim is not None
            t = t.movedim(t_dim, 0)
            return mask_tangents(t.flatten(0, 1), bits, low, high).unflatten(0, t.shape[:2]), 0
        bits = bits.movedim(bits_dim, 0)
        t = t.unsqueeze(1).expand(-1, bits.shape[0], *t.shape[1:]) if t_dim is None else t.movedim(t_dim, 1)
        out = mask_tangents(t.flatten(1, 2), bits.flatten(0, 1), low, high)
        return out.unflatten(1, bits.shape[:2]), 1


def rectify(x: Tensor, slope: float = 0.0) -> tuple[Tensor, Tensor]:
    """ReLU (slope 0) or leaky ReLU, and which units are on, in one pass over x.

    Differentiable (backward, jvp, vmap). NaN comes through in the value, and is off in the bits.

    Args:
        x: [B, *], float32 or float64; copied unless contiguous.
        slope: left of zero.

    Returns:
        y like x, contiguous; and bits [B, ceil(n / 8)] uint8, n the numbers of a sample: bit ``i % 8`` of
        byte ``i // 8`` says whether number i, in row-major order, is above zero.

    Raises:
        RuntimeError: x is not float32/float64, or has no dimension.
    """
    out: tuple[Tensor, Tensor] = apply(_Rectify, x, float(slope))
    return out


def mask_tangents(t: Tensor, bits: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """``out[l, b, i] = t[l, b, i] * (high if bit i of sample b else low)``.

    `scale_tangents` by a derivative of two values, kept in a bit instead of a number. Differentiable in t
    (backward, jvp, vmap).

    Args:
        t: tangents [L, B, *], float32 or float64; copied unless every t[l, b] is contiguous.
        bits: [B, ceil(n / 8)] uint8 from `rectify`, same device.
        low, high: the two slopes.

    Returns:
        [L, B, *], contiguous.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    out: Tensor = apply(_MaskTangents, t, bits, float(low), float(high))
    return out


def mask_tangents_(t: Tensor, bits: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """`mask_tangents` in place; returns t.

    For the inside of a tangent program: it has no derivatives and no vmap rule.

    Args:
        t: as in `mask_tangents`, every t[l, b] contiguous.
        bits, low, high: as in `mask_tangents`.

    Raises:
        RuntimeError: as `mask_tangents`; or t requires a gradient or is inside torch.func or forward-mode
            differentiation; or a t[l, b] is not contiguous, or overlaps another.
    """
    refuse_derivatives("mask_tangents", t)
    torch.ops.polarity.mask_tangents_(t, bits, float(low), float(high))
    was_written(t)
    return t
