"""Two passes of Gram matrices: as accurate as a QR factorisation, without a tall matrix in memory."""

import torch

from polarity_sampling.volume import dense
from polarity_sampling.volume.gram import gram, identity
from polarity_sampling.volume.operator import LinearOperator
from polarity_sampling.volume.singular_values import (
    EPS32,
    EPS64,
    SingularValues,
    bound,
    from_eigenvalues,
    rounding_of_gram,
)


def preconditioned(operator: LinearOperator, top_k: int, *, tol: float, memory: int) -> SingularValues:
    """Top-k singular values by 2 K products, and more only where D x K does not fit `memory`.

    The second pass multiplies J with T = V / sigma of the first one. The Gram matrix M of J T is close to
    the identity, so that its rounding is relative to every singular value instead of to the largest: with
    e = rounding / lambda_min(M), Ostrowski's theorem bounds the relative error of every eigenvalue of
    diag(sigma) M diag(sigma) by e. Resolves sigma down to about 1e-14 sigma_1 of a float64 operator. For a
    float32 operator it gains nothing: the products themselves are off by more.
    """
    dim = operator.shape[2]
    first, products = gram(operator, identity(operator), memory)
    eigenvalues, vectors = dense.eigenvectors(first)
    delta = rounding_of_gram(eigenvalues[:, 0], dim)
    # What lies below the rounding of the first pass is scaled as if it were there.
    scale = torch.sqrt(torch.maximum(eigenvalues, delta[:, None]))
    scale = torch.where(scale > 0, scale, 1.0)
    second, more = gram(operator, (vectors / scale[:, None]).to(operator.dtype), memory)
    spectrum, frame = dense.eigenvectors(second)
    factor = torch.sqrt(spectrum.clamp(min=0.0))[:, :, None] * frame.mT * scale[:, None]
    values = dense.singular_values(factor)[:, :top_k]

    rounding = rounding_of_gram(spectrum[:, 0], dim)
    smallest = spectrum[:, -1] - rounding
    # Rounding T to the operator's precision is a relative perturbation from the right as well.
    unit = EPS32 if operator.dtype == torch.float32 else EPS64
    relative = torch.where(smallest > 0, rounding / smallest, torch.inf)[:, None] + 2.0 * dim * unit
    # Of the last decomposition, and of the products with T, which are off by the rounding of sigma_1 however
    # small a value is: the columns of `factor` are small together with its values, those of J need not be.
    last = (16.0 + dim) * EPS64 * values[:, :1]
    old_lower, old_upper = from_eigenvalues(eigenvalues[:, :top_k], delta)
    lower = torch.maximum(values / torch.sqrt(1.0 + relative) - last, old_lower)
    # 0 * inf where the first pass has not resolved a value that is zero: what it knew stands.
    upper = torch.fmin(values * torch.sqrt(1.0 + relative) + last, old_upper)
    values = torch.minimum(torch.maximum(values, lower), upper)
    return bound(values, lower, upper, products + more, tol, "preconditioned")
