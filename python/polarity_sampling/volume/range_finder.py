"""Subspace iteration: the randomized range finder with power steps, in latent space."""

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.krylov import PROBE_STEPS, random_block
from polarity_sampling.volume.norm_bound import FAILURE, deflated_norm
from polarity_sampling.volume.operator import LinearOperator
from polarity_sampling.volume.ritz import Subspace
from polarity_sampling.volume.singular_values import (
    SingularValues,
    Status,
    converged_or,
    log_error,
    rounding_of_gram,
)

OVERSAMPLING = 10


def range_finder(
    operator: LinearOperator,
    top_k: int,
    *,
    tol: float,
    power_steps: int = 1,
    oversampling: int = OVERSAMPLING,
    start: Tensor | None = None,
    seed: int = 0,
) -> SingularValues:
    """Top-k singular values from a basis of l = k + oversampling directions multiplied by J^T J a few times.

    N. Halko, P.-G. Martinsson, J. A. Tropp, Finding structure with randomness, algorithms 4.4 and 5.1 (SIAM
    Review 53, 2011), with the iteration on the side of the latents, where it is small. 2 l (power_steps +
    1) products and up to 24 for the certificate. `block_krylov` keeps the blocks that this throws away,
    and needs fewer products at every accuracy; this one needs the least memory.

    Args:
        operator: J.
        top_k: k.
        tol: wanted error of the sum of log sigma; decides nothing but `status`.
        power_steps: multiplications by J^T J before the Rayleigh-Ritz step.
        oversampling: l - k.
        start: first directions [K, l] instead of random ones.
        seed: of the random directions and the probe.
    """
    batch, _, dim = operator.shape
    width = min(dim, top_k + oversampling)
    first = random_block(dim, width, seed, 0, operator.device) if start is None else start.double()
    basis = dense.orthonormal_columns(first)[0].expand(batch, dim, first.shape[1])
    for _ in range(power_steps):
        pulled = operator.mT @ (operator @ basis.to(operator.dtype))
        basis = dense.orthonormal_columns(pulled.double())[0]
    space = Subspace.of(operator, basis)
    ritz = space.ritz()
    norm, spent = deflated_norm(
        operator,
        space.vectors(ritz, torch.arange(batch, device=operator.device)),
        seed=seed,
        offset=1 << 32,
        max_steps=PROBE_STEPS,
        decided=lambda rows, at_least, at_most: at_most <= 1.1 * at_least,
    )
    delta = rounding_of_gram(ritz.values[:, 0], basis.shape[2])[:, None]
    lower = (ritz.lower(top_k) - delta).clamp(min=0.0).sqrt()
    upper = (ritz.upper(top_k, norm) + delta).sqrt()
    status = converged_or(log_error(lower, lower, upper), tol, Status.SLOW_SPECTRUM)
    products = 2 * basis.shape[2] * (power_steps + 1) + spent
    return SingularValues(lower, lower, upper, "bound", FAILURE, products, status, "range_finder")


def shared_basis(operator: LinearOperator, top_k: int, basis: Tensor) -> SingularValues:
    """Singular values of J restricted to directions that latents share: l products, no adjoint.

    They are lower bounds (Courant-Fischer). What they miss is nearly the same for all latents; how nearly
    must be found out by calibration, so the upper ends here are infinite.

    Args:
        operator: J.
        top_k: k, at most l.
        basis: orthonormal directions [K, l], for instance of `leading_directions`.
    """
    rounded = basis.to(operator.dtype)
    factor = dense.cholesky((rounded.double().mT @ rounded.double())[None])
    half = dense.solve_lower(factor, polarity_ext.gram(operator @ rounded))
    eigenvalues = dense.eigenvalues(dense.solve_lower(factor, half.mT))[:, :top_k]
    delta = rounding_of_gram(eigenvalues[:, 0], basis.shape[1])
    values = eigenvalues.clamp(min=0.0).sqrt()
    lower = (eigenvalues - delta[:, None]).clamp(min=0.0).sqrt()
    products = torch.full((values.shape[0],), basis.shape[1], dtype=torch.int64, device=values.device)
    unknown = torch.full_like(values, torch.inf)
    status = torch.full_like(products, Status.SLOW_SPECTRUM, dtype=torch.int8)
    return SingularValues(values, lower, unknown, "bound", 0.0, products, status, "shared_basis")


def leading_directions(mean_gram: Tensor, count: int) -> Tensor:
    """[K, count]: eigenvectors of the mean Gram matrix [K, K] of some latents, leading ones first.

    In generators the leading right singular directions of different latents nearly coincide.
    """
    return dense.eigenvectors(mean_gram[None])[1][0, :, :count]
