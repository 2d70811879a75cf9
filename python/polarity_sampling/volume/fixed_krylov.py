"""Krylov with the same few products for every latent, and no residuals: accuracy comes from calibration."""

from dataclasses import dataclass

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.operator import LinearOperator
from polarity_sampling.volume.singular_values import rounding_of_gram


@dataclass(frozen=True)
class FixedKrylov:
    """What `fixed_krylov` found of B operators."""

    eigenvalues: Tensor
    """[B, l] float64, descending: lower bounds on those of J^T J."""
    basis: Tensor
    """[B, K, l] float64, orthonormal up to the rounding of the operator's precision."""
    images: Tensor
    """[B, D, l]: J times the basis."""
    products: int

    @property
    def delta(self) -> Tensor:
        """[B]: bound on the rounding of the eigenvalues."""
        return rounding_of_gram(self.eigenvalues[:, 0], self.eigenvalues.shape[1])

    def outside(self, probes: Tensor, images: Tensor, top_k: int) -> Tensor:
        """[B]: mean of |J P w|^2 over probes w, in units of the k-th eigenvalue; P projects out the basis.

        How much of the operator the basis misses: tells a latent that is unlike those of the calibration.

        Args:
            probes: [K, p] or [B, K, p].
            images: [B, D, p], J times the probes.
            top_k: k.
        """
        along = probes.double().mT @ self.basis
        inside = along.to(self.images.dtype) @ self.images.mT
        energy = (images.mT - inside).double().square().sum(2).mean(1)
        return energy / self.eigenvalues[:, top_k - 1].clamp(min=torch.finfo(torch.float64).tiny)


def fixed_krylov(operator: LinearOperator, start: Tensor, steps: int) -> FixedKrylov:
    """Rayleigh-Ritz in the block Krylov space of `start`: (2 steps - 1) m products.

    With one step that is the start alone, m products and no adjoint.

    Args:
        operator: J.
        start: directions [K, m] or [B, K, m].
        steps: blocks of m directions.
    """
    batch, _, dim = operator.shape
    width = start.shape[-1]
    first = dense.orthonormal_columns(start.double())[0].to(operator.dtype)
    images = operator @ first  # [K, m] as it is: the same tangents for all latents cost less
    basis = first.double().mT.expand(batch, width, dim)  # in rows
    for _ in range(1, steps):
        block = (operator.mT @ images[:, :, -width:].contiguous()).double()
        for _ in range(2):  # once more, for what rounding left
            block = dense.orthonormal_columns(block - ((block.mT @ basis.mT) @ basis).mT)[0]
        rounded = block.to(operator.dtype)
        basis = torch.cat([basis, rounded.mT.double()], 1)
        images = torch.cat([images, operator @ rounded], 2)
    basis = basis.mT
    same = steps == 1 and start.ndim == 2  # for all
    factor = dense.cholesky(polarity_ext.gram(basis[:1] if same else basis))
    half = dense.solve_lower(factor, polarity_ext.gram(images))
    eigenvalues = dense.eigenvalues(dense.solve_lower(factor, half.mT)).clamp(min=0.0)
    return FixedKrylov(eigenvalues, basis, images, (2 * steps - 1) * width)
