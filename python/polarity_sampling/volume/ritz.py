"""Rayleigh-Ritz in a subspace of the latent space, with two-sided bounds on the singular values.

For A = J^T J and an orthonormal basis of Ritz vectors v_j (values theta_j, residuals r_j = A v_j - theta_j
v_j) A is, in that basis and its complement,

    [ diag(theta)   R^T ]
    [      R         H  ]      with 0 <= H <= nu.

Lower ends. The Ritz values of A in the space A^(1/2) span(v) are those of Theta + Theta^(-1/2) R^T R
Theta^(-1/2), and never above the eigenvalues (Courant-Fischer). They use the products J^T (J v) that the
residuals need anyway and take up most of what the Ritz values miss. Divided by a small theta, the rounding of
those products would pass for an eigenvalue. Exact residuals are orthogonal to all v, so what they have along
v tells how large it is, and a residual counts as far as it and its theta are above that.

Upper ends. lambda_i is at most the largest eigenvalue of A without v_1 .. v_(i-1) (Courant-Fischer again).
By the Schur complement that is below u as soon as

    sum over j >= i of |r_j|^2 / (u - theta_j) <= u - nu,    u > max(theta_i, nu).

The smallest such u is the bound. For an isolated theta_i it is theta_i + |r_i|^2 / (theta_i - nu) to first
order; within a cluster the residuals of the cluster add up, so no separation inside a cluster is needed.
The classical bounds by residuals and gaps are in B. N. Parlett, The Symmetric Eigenvalue Problem (1980),
chapter 11.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.operator import LinearOperator

# A bisection on a logarithmic scale: each step halves the ratio of upper to lower bound's logarithm.
_BISECTIONS = 40
# Ritz values this far below the largest are rounding: their residuals are not divided by them.
_NEGLIGIBLE = 1e-14
# Rounding is not the same for every residual.
_SAFETY = 3.0


@dataclass(frozen=True)
class Subspace:
    """A basis of latent directions with what the operator and its adjoint make of them."""

    basis: Tensor  # Q [B, K, l] float64, orthonormal up to the rounding of the operator's precision
    images: Tensor  # J Q [B, D, l]
    pulled: Tensor  # J^T J Q [B, K, l] float64

    @staticmethod
    def of(operator: LinearOperator, basis: Tensor) -> "Subspace":
        """Two products for each column of the orthonormal basis [B, K, l]."""
        rounded = basis.to(operator.dtype)
        images = operator @ rounded
        pulled = operator.mT @ images
        # What was multiplied is the rounded basis; everything that follows is about that one.
        return Subspace(rounded.double(), images, pulled.double())

    @property
    def size(self) -> int:
        return self.basis.shape[2]

    def extended(self, other: "Subspace") -> "Subspace":
        return Subspace(
            torch.cat([self.basis, other.basis], 2),
            torch.cat([self.images, other.images], 2),
            torch.cat([self.pulled, other.pulled], 2),
        )

    def rows(self, index: Tensor) -> "Subspace":
        return Subspace(self.basis[index], self.images[index], self.pulled[index])

    def ritz(self) -> "RitzValues":
        lower = dense.cholesky(self.basis.mT @ self.basis)
        gram = dense.solve_lower(lower, polarity_ext.gram(self.images))
        values, vectors = dense.eigenvectors(dense.solve_lower(lower, gram.mT))
        values = values.clamp(min=0.0)
        combination = torch.linalg.solve_triangular(lower.mT, vectors, upper=True)
        ritz_vectors = self.basis @ combination
        residuals = self.pulled @ combination - ritz_vectors * values[:, None]
        return RitzValues(values, ritz_vectors, residuals)


@dataclass(frozen=True)
class RitzValues:
    """Approximate eigenvalues of J^T J, descending, with their residuals."""

    values: Tensor  # theta [B, l]
    vectors: Tensor  # v [B, K, l], orthonormal
    residuals: Tensor  # r [B, K, l]

    def rounding(self) -> Tensor:
        """[B]: the length of a residual's rounding, from its part inside the subspace."""
        _, dim, size = self.vectors.shape
        inside = self.vectors.mT @ self.residuals  # size^2 numbers
        length: Tensor = torch.linalg.matrix_norm(inside) / size * math.sqrt(dim)
        return length

    def lower(self, top_k: int) -> Tensor:
        """[B, k]: lower bounds on the k largest eigenvalues."""
        values, residuals = self.values[:, :top_k], self.residuals[:, :, :top_k]
        real = values > _NEGLIGIBLE * values[:, :1]
        known = torch.minimum(residuals.norm(dim=1), values)
        clear = (known - _SAFETY * self.rounding()[:, None]).clamp(min=0.0)
        scale = torch.where(real & (clear > 0), clear / known * values.rsqrt(), 0.0)
        gram = residuals.mT @ residuals
        return dense.eigenvalues(torch.diag_embed(values) + scale[:, :, None] * gram * scale[:, None, :])

    def upper(self, top_k: int, deflated_norm: Tensor) -> Tensor:
        """[B, k]: upper bounds on the k largest eigenvalues, given nu [B] >= the norm of H."""
        values = self.values[:, :top_k]
        floor = torch.maximum(values, deflated_norm[:, None])  # u is above it, by an unknown x > 0
        later = torch.ones(top_k, self.values.shape[1], dtype=torch.bool, device=values.device).triu()
        squares = self.residuals.square().sum(1)
        terms = torch.where(later, squares[:, None, :], 0.0)  # |r_j|^2, j >= i, in [B, i, j]
        distance = torch.where(later, floor[:, :, None] - self.values[:, None, :], 1.0)
        reach = (floor - deflated_norm[:, None]).clamp(min=0.0)
        high = terms.sum(2).sqrt()  # enough: then every denominator is at least the square root
        low = torch.minimum(squares[:, :top_k] / (4.0 * (reach + high)), high)
        for _ in range(_BISECTIONS):
            x = torch.sqrt(low * high)
            enough = (terms / (distance + x[:, :, None])).sum(2) <= reach + x
            high = torch.where(enough, x, high)
            low = torch.where(enough, low, x)
        return floor + high
