"""Tangents and cotangents of a style that scales the channels of an image."""

from typing import Any

import torch
from torch import Tensor

from polarity_ext.ops.function import apply, refuse_derivatives, was_written
from polarity_ext.ops.layout import is_dense, same_order


def _check(name: str, argument: str, t: Tensor, x: Tensor, s: Tensor) -> None:
    torch._check(
        x.dim() >= 2 and t.shape[1:] == x.shape and s.shape == x.shape[:2],
        lambda: (
            f"{name}: {argument} must be [L, B, C, *], x [B, C, *] and s [B, C], "
            f"got {argument} {list(t.shape)}, x {list(x.shape)} and s {list(s.shape)}"
        ),
    )


def _check_tangents(name: str, tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> None:
    _check(name, "tx", tx, x, s)
    torch._check(
        ts.shape == tx.shape[:3],
        lambda: f"{name}: ts must be [L, B, C] of tx {list(tx.shape)}, got {list(ts.shape)}",
    )


def _new_out(t: Tensor, x: Tensor) -> Tensor:
    """As csrc/torch/modulate_tangents.cpp lays it out."""
    if t.numel() and is_dense(t, 2) and same_order(t, 1, x, 0):
        channels, sample = x.shape[1], x[0].numel()
        samples_follow = x.shape[0] == 1 or x.stride(0) == sample
        known = channels == 1 or x.stride(1) in (sample // channels, 1)
        out = torch.empty_like(t)
        if samples_follow and known and same_order(t, 1, out, 1):
            return out
    return t.new_empty(t.shape)


@torch.library.register_fake("polarity::modulate_tangents")
def _fake_tangents(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Tensor:
    _check_tangents("modulate_tangents", tx, x, s, ts)
    return _new_out(tx, x)


@torch.library.register_fake("polarity::modulate_tangents_")
def _fake_in_place(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> None:
    _check_tangents("modulate_tangents_", tx, x, s, ts)


@torch.library.register_fake("polarity::modulate_cotangents")
def _fake_cotangents(u: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    _check("modulate_cotangents", "u", u, x, s)
    return _new_out(u, x), u.new_empty(u.shape[:3])


def _on_pixels(style: Tensor, x: Tensor) -> Tensor:
    """[..., C] as [..., C, 1, 1], to multiply the image x [B, C, *]."""
    return style[(..., *[None] * (x.dim() - 2))]


def _pixel_sum(x: Tensor, front: int) -> Tensor:
    """Over all dimensions behind the first ``front``."""
    return x.sum(tuple(range(front, x.dim()))) if x.dim() > front else x


def _in_batch(x: Tensor, dim: int | None, at: int, size: int) -> Tensor:
    """The dimension that vmap added, moved or expanded to ``at`` and made part of the one behind it."""
    whole = x.unsqueeze(at).expand(*x.shape[:at], size, *x.shape[at:]) if dim is None else x.movedim(dim, at)
    return whole.flatten(at, at + 1)


class _ModulateTangents(torch.autograd.Function):
    @staticmethod
    def forward(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Tensor:
        out: Tensor = torch.ops.polarity.modulate_tangents(tx, x, s, ts)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        tx, x, s, ts = ctx.saved_tensors
        of_tx, of_ts = modulate_cotangents(grad, x, s)
        of_x = (grad * _on_pixels(ts, x)).sum(0)
        return of_tx, of_x, _pixel_sum(grad * tx, 3).sum(0), of_ts

    @staticmethod
    def jvp(
        ctx: Any,
        tx_tangent: Tensor | None,
        x_tangent: Tensor | None,
        s_tangent: Tensor | None,
        ts_tangent: Tensor | None,
    ) -> Tensor:
        tx, x, s, ts = ctx.saved_tensors
        terms: list[Tensor] = []
        if tx_tangent is not None:
            terms.append(tx_tangent * _on_pixels(s, x))
        if x_tangent is not None:
            terms.append(x_tangent * _on_pixels(ts, x))
        if s_tangent is not None:
            terms.append(tx * _on_pixels(s_tangent, x))
        if ts_tangent is not None:
            terms.append(x * _on_pixels(ts_tangent, x))
        return torch.stack(terms).sum(0)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], tx: Tensor, x: Tensor, s: Tensor, ts: Tensor
    ) -> tuple[Tensor, int]:
        n = info.batch_size
        if in_dims[1] is None and in_dims[2] is None:  # the batched probes are just more probes
            tx, ts = _in_batch(tx, in_dims[0], 0, n), _in_batch(ts, in_dims[3], 0, n)
            return modulate_tangents(tx, x, s, ts).unflatten(0, (n, -1)), 0
        tx, ts = _in_batch(tx, in_dims[0], 1, n), _in_batch(ts, in_dims[3], 1, n)
        x, s = _in_batch(x, in_dims[1], 0, n), _in_batch(s, in_dims[2], 0, n)
        return modulate_tangents(tx, x, s, ts).unflatten(1, (n, -1)), 1


class _ModulateCotangents(torch.autograd.Function):
    @staticmethod
    def forward(u: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        out: tuple[Tensor, Tensor] = torch.ops.polarity.modulate_cotangents(u, x, s)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def backward(ctx: Any, of_out: Tensor, of_sums: Tensor) -> tuple[Tensor, ...]:
        u, x, s = ctx.saved_tensors
        of_x = (u * _on_pixels(of_sums, x)).sum(0)
        return modulate_tangents(of_out, x, s, of_sums), of_x, _pixel_sum(of_out * u, 3).sum(0)

    @staticmethod
    def jvp(
        ctx: Any, u_tangent: Tensor | None, x_tangent: Tensor | None, s_tangent: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        u, x, s = ctx.saved_tensors
        out, sums = torch.zeros_like(u), u.new_zeros(u.shape[:3])
        if u_tangent is not None:
            out = out + u_tangent * _on_pixels(s, x)
            sums = sums + _pixel_sum(u_tangent * x, 3)
        if x_tangent is not None:
            sums = sums + _pixel_sum(u * x_tangent, 3)
        if s_tangent is not None:
            out = out + u * _on_pixels(s_tangent, x)
        return out, sums

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], u: Tensor, x: Tensor, s: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[int, int]]:
        n = info.batch_size
        if in_dims[1] is None and in_dims[2] is None:  # the batched probes are just more probes
            out, sums = modulate_cotangents(_in_batch(u, in_dims[0], 0, n), x, s)
            return (out.unflatten(0, (n, -1)), sums.unflatten(0, (n, -1))), (0, 0)
        x, s = _in_batch(x, in_dims[1], 0, n), _in_batch(s, in_dims[2], 0, n)
        out, sums = modulate_cotangents(_in_batch(u, in_dims[0], 1, n), x, s)
        return (out.unflatten(1, (n, -1)), sums.unflatten(1, (n, -1))), (1, 1)


def modulate_tangents(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Tensor:
    """``tx * s + x * ts``: tangents of a style times the channels of an image, in one pass.

    The modulation and the demodulation of StyleGAN2 (Karras et al., CVPR 2020, section 2.2) in the form that
    scales activations instead of weights. Differentiable (backward, jvp, vmap).

    Args:
        tx: tangents of the image [L, B, C, *], float32 or float64.
        x: the image [B, C, *].
        s: the style [B, C].
        ts: tangents of the style [L, B, C].

    Returns:
        Shaped like tx, and laid out like it where tx and x are both contiguous or both channels last; else
        contiguous, at the price of copies.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    out: Tensor = apply(_ModulateTangents, tx, x, s, ts)
    return out


def modulate_tangents_(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Tensor:
    """`modulate_tangents` in place of tx; returns tx.

    For the inside of a tangent program: it has no derivatives and no vmap rule.

    Args:
        tx: as in `modulate_tangents`; contiguous or channels last as x is, probes one after the other, in
            memory of its own.
        x, s, ts: as in `modulate_tangents`.

    Raises:
        RuntimeError: as `modulate_tangents`; or an argument requires a gradient or is inside torch.func or
            forward-mode differentiation; or tx and x lie in other orders.
    """
    refuse_derivatives("modulate_tangents", tx, x, s, ts)
    torch.ops.polarity.modulate_tangents_(tx, x, s, ts)
    was_written(tx)
    return tx


def modulate_cotangents(u: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    """``(u * s, (u * x).sum over pixels)``: the transpose of `modulate_tangents`, in one pass over u.

    Sums are formed in an order that depends on the shape alone. Differentiable (backward, jvp, vmap).

    Args:
        u: cotangents [L, B, C, *], float32 or float64.
        x, s: as in `modulate_tangents`.

    Returns:
        The cotangents of the image, shaped and laid out as `modulate_tangents` would, and those of the style
        [L, B, C].

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    out: tuple[Tensor, Tensor] = apply(_ModulateCotangents, u, x, s)
    return out
