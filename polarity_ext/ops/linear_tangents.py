"""Tangents through a linear layer and the derivative behind it, in one pass."""

from typing import Any, Literal

import torch
from torch import Tensor

from polarity_ext.ops.function import apply

_PRECISIONS = ("full", "tf32x3", "tf32")  # in the order of csrc/kernels/linear_tangents.h


@torch.library.register_fake("polarity::linear_tangents")
def _fake(t: Tensor, weight: Tensor, d: Tensor, precision: int) -> Tensor:
    matches = t.dim() == 3 and weight.dim() == 2 and weight.shape[1] == t.shape[2]
    torch._check(
        matches and d.shape == (t.shape[1], weight.shape[0]),
        lambda: (
            "linear_tangents: t must be [L, B, in], weight [out, in] and d [B, out], "
            f"got t {list(t.shape)}, weight {list(weight.shape)} and d {list(d.shape)}"
        ),
    )
    return t.new_empty((t.shape[0], *d.shape))


for _device in ("cpu", "cuda"):  # the product inside must have the dtype of t: kernels read it as that
    torch.library.register_autocast("polarity::linear_tangents", _device, torch.float32)


class _LinearTangents(torch.autograd.Function):
    @staticmethod
    def forward(t: Tensor, weight: Tensor, d: Tensor, precision: int) -> Tensor:
        out: Tensor = torch.ops.polarity.linear_tangents(t, weight, d, precision)
        return out

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:3])
        ctx.save_for_forward(*inputs[:3])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        t, weight, d = ctx.saved_tensors
        scaled = grad * d
        of_weight = scaled.reshape(-1, d.shape[1]).mT @ t.reshape(-1, t.shape[2])
        return scaled @ weight, of_weight, (grad * (t @ weight.mT)).sum(0), None

    @staticmethod
    def jvp(
        ctx: Any, t_tangent: Tensor | None, weight_tangent: Tensor | None, d_tangent: Tensor | None, _: None
    ) -> Tensor:
        t, weight, d = ctx.saved_tensors
        terms: list[Tensor] = []
        if t_tangent is not None:
            terms.append((t_tangent @ weight.mT) * d)
        if weight_tangent is not None:
            terms.append((t @ weight_tangent.mT) * d)
        if d_tangent is not None:
            terms.append((t @ weight.mT) * d_tangent)
        return torch.stack(terms).sum(0)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], t: Tensor, weight: Tensor, d: Tensor, precision: int
    ) -> tuple[Tensor, int]:
        t_dim, weight_dim, d_dim, _ = in_dims
        if weight_dim is None and d_dim is None:  # the batched probes are just more probes
            assert t_dim is not None
            t = t.movedim(t_dim, 0)
            out: Tensor = apply(_LinearTangents, t.flatten(0, 1), weight, d, precision)
            return out.unflatten(0, t.shape[:2]), 0

        def front(x: Tensor, dim: int | None) -> Tensor:
            return x[None] if dim is None else x.movedim(dim, 0)

        t, weight, d = front(t, t_dim), front(weight, weight_dim), front(d, d_dim)
        return (t @ weight.mT[:, None]) * d[:, None], 0


def linear_tangents(
    t: Tensor, weight: Tensor, d: Tensor, precision: Literal["full", "tf32x3", "tf32"] = "full"
) -> Tensor:
    """``out[l, b] = (weight @ t[l, b]) * d[b]``: a product whose epilogue is the derivative behind the layer.

    Differentiable (backward, jvp, vmap); derivatives are formed in full precision.

    Args:
        t: tangents [L, B, in], float32 or float64; on CUDA, copied unless the last dimension is dense.
        weight: [out, in], as of `torch.nn.Linear`.
        d: derivative or mask [B, out].
        precision: of float32 products on CUDA. "full": fused multiply-adds. "tf32x3": tensor cores, each
            factor split in two, relative errors about 1e-6 of the sum of magnitudes. "tf32": tensor cores,
            factors rounded to 10 bits, about 5e-4. Where t or weight is not aligned to 16 bytes, float64, and
            the CPU are always "full".

    Returns:
        [L, B, out], contiguous.

    Raises:
        ValueError: unknown precision.
        RuntimeError: shapes, dtypes or devices do not match.
    """
    if precision not in _PRECISIONS:
        raise ValueError(
            f"linear_tangents: precision is {precision!r}; expected one of {', '.join(_PRECISIONS)}"
        )
    out: Tensor = apply(_LinearTangents, t, weight, d, _PRECISIONS.index(precision))
    return out
