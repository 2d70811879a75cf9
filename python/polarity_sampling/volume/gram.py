"""The exact route: all K products, then the eigenvalues of their Gram matrix."""

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.operator import LinearOperator
from polarity_sampling.volume.singular_values import SingularValues, bound, from_eigenvalues, rounding_of_gram


def gram(operator: LinearOperator, basis: Tensor, memory: int) -> tuple[Tensor, int]:
    """(J V)^T (J V) [B, n, n] with float64 products, V [K, n] or [B, K, n], and the products it took.

    n where the columns [B, D, n] fit the budget. Where they do not, two panels of columns are held at a
    time and the later one is computed again for every earlier one: 1.5 n products for two thirds of the
    memory, about n^2 / w for panels of w columns. (A product yields all outputs of a column at once, so
    there is nothing to be had from cutting the outputs instead.)
    """
    batch, dim_out, _ = operator.shape
    dim = basis.shape[-1]
    fitting = memory // (batch * dim_out * basis.element_size())
    if fitting >= dim:
        return polarity_ext.gram(operator @ basis), dim
    width = max(1, fitting // 2)
    panels = [slice(i, min(i + width, dim)) for i in range(0, dim, width)]
    out = torch.empty(batch, dim, dim, dtype=torch.float64, device=operator.device)
    products = 0
    for number, left in enumerate(panels):
        columns = operator @ basis[..., left]
        products += columns.shape[2]
        out[:, left, left] = polarity_ext.gram(columns)
        for right in panels[number + 1 :]:
            others = operator @ basis[..., right]
            products += others.shape[2]
            both = polarity_ext.gram(torch.cat([columns, others], 2))
            cross = both[:, : columns.shape[2], columns.shape[2] :]
            out[:, left, right] = cross
            out[:, right, left] = cross.mT
    return out, products


def identity(operator: LinearOperator) -> Tensor:
    """[K, K] in the operator's precision: every direction of the latent space."""
    return torch.eye(operator.shape[2], dtype=operator.dtype, device=operator.device)


def exact(operator: LinearOperator, top_k: int, *, tol: float, memory: int) -> SingularValues:
    """Top-k singular values from the Gram matrix: K products with J, none with its adjoint.

    Resolves sigma down to about 1e-7 sigma_1, which is all that float32 products are worth.
    """
    matrix, products = gram(operator, identity(operator), memory)
    eigenvalues = dense.eigenvalues(matrix)
    delta = rounding_of_gram(eigenvalues[:, 0], operator.shape[2])
    lower, upper = from_eigenvalues(eigenvalues[:, :top_k], delta)
    values = eigenvalues[:, :top_k].clamp(min=0.0).sqrt()
    return bound(values, lower, upper, products, tol, "gram")
