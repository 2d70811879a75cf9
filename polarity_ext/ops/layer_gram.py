"""Gram matrices of tangents behind one more layer, which are not formed where few units are active."""

import torch
from torch import Tensor

from polarity_ext.ops.function import differentiable
from polarity_ext.ops.gram import gram


@torch.library.register_fake("polarity::layer_gram")
def _fake(x: Tensor, weight: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    torch._check(
        x.dim() == 3
        and (weight.dim(), factor.dim()) == (2, 2)
        and weight.shape[1] == x.shape[2]
        and factor.shape == (x.shape[1], weight.shape[0]),
        lambda: (
            "layer_gram: x must be [L, B, in], weight [out, in] and factor [B, out], "
            f"got x {list(x.shape)}, weight {list(weight.shape)} and factor {list(factor.shape)}"
        ),
    )
    probes, batch = x.shape[:2]
    shapes = (batch, probes, probes), (batch,)
    out, size = (x.new_empty(shape, dtype=torch.float64) for shape in shapes)
    return out, size


def layer_gram(x: Tensor, weight: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """``G[b] = X[b]^T A[b]^T A[b] X[b]`` with ``A[b] = diag(factor[b]) W``, in float64 throughout.

    The `gram` of ``linear_tangents(x, W, factor)``. On the CPU that product is not formed: ``A^T A`` is, for
    the r units of x that are not zero in every probe, then ``X^T (A^T A) X``. It takes ``D r^2 / 2``
    multiplications for D outputs, where the product and its Gram matrix take ``D r L + D L^2 / 2``: it is for
    r up to about the number of probes L. On CUDA the product is formed, in float64. Deterministic.
    Differentiable, as the composition of the product and `gram`.

    Args:
        x: tangents of a layer's inputs, [L, B, in], float32 or float64.
        weight: [out, in], any strides.
        factor: derivative behind the layer, [B, out].

    Returns:
        G [B, L, L] float64, exactly symmetric.
        size [B] float64: ``|A|_F^2 |X|_F^2`` over the units that are not zero. The rounding error of G is a
        small multiple of its eps, not of that of G's own size.

    Raises:
        RuntimeError: shapes, dtypes or devices do not match.
    """
    if differentiable(x, weight, factor):
        return _composed(x, weight, factor)
    out: tuple[Tensor, Tensor] = torch.ops.polarity.layer_gram(x, weight, factor)
    return out


def _composed(x: Tensor, weight: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    x, weight, factor = x.double(), weight.double(), factor.double()
    out = gram(((x @ weight.mT) * factor).permute(1, 2, 0))
    of_units = factor.square() @ weight.square()
    of_layer = torch.where((x != 0).any(0), of_units, 0.0).sum(1)
    return out, of_layer * x.square().sum((0, 2))
