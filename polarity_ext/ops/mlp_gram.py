"""Gram matrices of a whole perceptron's tangents, of which none are kept."""

from collections.abc import Sequence

import torch
from torch import Tensor

from polarity_ext.ops.function import differentiable
from polarity_ext.ops.layer_gram import layer_gram
from polarity_ext.ops.mlp_tangents import mlp_tangents


@torch.library.register_fake("polarity::mlp_gram")
def _fake(v: Tensor, weights: list[Tensor], factors: list[Tensor]) -> tuple[Tensor, Tensor]:
    probes, batch = v.shape[0], factors[0].shape[0]
    shapes = (batch, probes, probes), (batch,)
    out, size = (v.new_empty(shape, dtype=torch.float64) for shape in shapes)
    return out, size


for _device in ("cpu", "cuda"):  # as of the ops it is made of
    torch.library.register_autocast("polarity::mlp_gram", _device, torch.float32)


def mlp_gram(v: Tensor, weights: Sequence[Tensor], factors: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """``G[b] = J[b]^T J[b]`` with ``J[b] v = F_n[b] W_n ... F_1[b] W_1 v``, for the probes v.

    `layer_gram` of the last layer and the `mlp_tangents` of the others. On the CPU one sample goes through
    both at a time, as the tangents of its active units alone: those of all samples are never formed.
    Differentiable in v and in the last weight and factor, as these two.

    Args:
        v: probes, [L, K] for all samples or [L, B, K], float32 or float64, any strides.
        weights: two to nine matrices [width_i, width_{i-1}].
        factors: as many matrices [B, width_i], derivatives of the activations.

    Returns:
        G [B, L, L] float64, exactly symmetric.
        size [B] float64: ``|A|_F^2 |X|_F^2`` of the last layer and the tangents before it, over active
            units. The rounding error of that layer's products is a small multiple of its eps.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match, or a derivative in weights or factors before
            the last ones is asked for.
    """
    if differentiable(v, *weights, *factors):
        return layer_gram(mlp_tangents(v, weights[:-1], factors[:-1]), weights[-1], factors[-1])
    out: tuple[Tensor, Tensor] = torch.ops.polarity.mlp_gram(v, list(weights), list(factors))
    return out
