"""An upper bound on the norm of what a subspace leaves out, from a few steps of Lanczos.

M. E. Hochstenbach, Probabilistic upper bounds for the matrix two-norm, J. Sci. Comput. 57 (2013): Lanczos
from a standard normal vector w gives polynomials p_j, orthonormal under w, with |p_j(H) w| = |w|. So the
eigenvector of the largest eigenvalue nu satisfies |p_j(nu)| |g| <= |w| with g its component of w, which is
standard normal: unless |g| < d, nu is below the point where p_j reaches |w| / d. That event is the same for
every j, so that bounds of several steps may be compared and the search stopped at will.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.operator import LinearOperator, rows_of

# Probability that a bound is not one. Its price is logarithmic: 1e-3 saves about a third of the steps.
FAILURE = 1e-6
_SMALLEST_COMPONENT = FAILURE * math.sqrt(math.pi / 2.0)
_NEWTON_STEPS = 5  # an upper bound after any number of them
_ROUNDING = 1e-13  # of the steps themselves, which reach the norm to all digits where it is separated


def deflated_norm(
    operator: LinearOperator,
    basis: Tensor,
    *,
    seed: int,
    offset: int,
    max_steps: int,
    decided: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> tuple[Tensor, Tensor]:
    """Bounds on the norm of J^T J between vectors orthogonal to the basis.

    Args:
        operator: J.
        basis: [B, K, l] float64, orthonormal; chosen without knowledge of the probe.
        seed, offset: which probe of the stream; a basis that depends on an earlier probe needs another.
        max_steps: Lanczos steps at most; two products each.
        decided: called after every step with (members of the batch, norm at least, norm at most); says
            for which of them this is enough.

    Returns:
        nu [B] with probability 1 - `FAILURE` each, and the products spent on it [B].
    """
    batch, _, dim = operator.shape
    rows = torch.arange(batch, device=operator.device)
    bounds = torch.zeros(batch, dtype=torch.float64, device=operator.device)
    products = torch.zeros(batch, dtype=torch.int64, device=operator.device)
    if basis.shape[2] == dim:
        return bounds, products  # nothing is left out
    steps = min(max_steps, dim - basis.shape[2])
    # The basis and the Lanczos vectors, zeros until there are any. A vector times either copy reads in order.
    across = torch.nn.functional.pad(basis.mT, (0, 0, 0, steps))
    columns = across.mT.contiguous()
    probe = polarity_ext.gaussian(seed, offset * dim, (dim,), device=operator.device).double()
    remainder = _project(probe.expand(batch, 1, dim), columns, across)
    norm = length = remainder.norm(dim=(1, 2))
    length = length.log() - math.log(_SMALLEST_COMPONENT)
    diagonal = torch.zeros(batch, 0, dtype=torch.float64, device=operator.device)
    beside = torch.zeros(batch, 0, dtype=torch.float64, device=operator.device)
    for step in range(1, steps + 1):
        vector = remainder[:, 0] / norm.clamp(min=1e-300)[:, None]
        columns[:, :, step - steps - 1] = across[:, step - steps - 1] = vector
        image = operator @ vector[:, :, None].to(operator.dtype)
        pulled = (operator.mT @ image).mT.double()
        products[rows] += 2
        diagonal = torch.cat([diagonal, image.double().square().sum((1, 2))[:, None]], 1)
        remainder = pulled
        for _ in range(2):  # once more, for what rounding left: all of it where nothing else remains
            remainder = _project(remainder, columns, across)
        norm = remainder.norm(dim=(1, 2))
        beside = torch.cat([beside, norm[:, None]], 1)
        at_least, at_most = _norm_between(diagonal, beside, length)
        bounds[rows] = torch.where(bounds[rows] > 0, torch.minimum(bounds[rows], at_most), at_most)
        undecided = ~decided(rows, at_least, bounds[rows])
        if step == steps or not undecided.any():
            break
        if not undecided.all():
            index = undecided.nonzero()[:, 0]
            operator, rows = rows_of(operator, index), rows[index]
            columns, across, remainder, norm = columns[index], across[index], remainder[index], norm[index]
            diagonal, beside, length = diagonal[index], beside[index], length[index]
    return bounds, products


def _project(vectors: Tensor, columns: Tensor, across: Tensor) -> Tensor:
    """Vectors [B, 1, K] without their components along orthonormal columns [B, K, l], also as [B, l, K]."""
    return vectors - (vectors @ columns) @ across


def _norm_between(diagonal: Tensor, beside: Tensor, log_target: Tensor) -> tuple[Tensor, Tensor]:
    """Largest zero of p_j, and the point beyond it where log p_j = log_target; [B] each.

    log p_j(t) = sum of log(t - tau_m) - sum of log beta_m with tau_m the eigenvalues of the tridiagonal
    matrix: it rises from -inf at the largest of them.
    """
    size = diagonal.shape[1]
    tridiagonal = torch.diag_embed(diagonal)
    if size > 1:
        inner = torch.diag_embed(beside[:, :-1], offset=1)
        tridiagonal = tridiagonal + inner + inner.mT
    zeros = dense.eigenvalues(tridiagonal).clamp(min=0.0)
    largest = zeros[:, 0]
    gaps = largest[:, None] - zeros
    target = log_target + beside.clamp(min=1e-300).log().sum(1)
    # With t = largest + exp(s) that is convex in s: Newton's method comes from above and stays there. Every
    # factor is at least t - largest, so that this is far enough:
    s = target / size
    for _ in range(_NEWTON_STEPS):
        distances = gaps + s.exp()[:, None]
        excess = (distances.log().sum(1) - target).clamp(min=0.0)
        s = s - excess / (s.exp()[:, None] / distances).sum(1)
    return largest, (largest + s.exp()) * (1.0 + _ROUNDING)
