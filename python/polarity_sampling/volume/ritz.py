"""Rayleigh-Ritz in a subspace of the latent space, with two-sided bounds on the singular values.

For A = J^T J and an orthonormal basis of Ritz vectors v_j (values theta_j, residuals r_j = A v_j - theta_j
v_j) A is, in that basis and its complement,

    [ diag(theta)   R^T ]
    [      R         H  ]      with 0 <= H <= nu.

Lower ends. The Ritz values of A in the space A^(1/2) span(v) are those of Theta + Theta^(-1/2) R^T R
Theta^(-1/2), and never above the eigenvalues (Courant-Fischer). They use the products J^T (J v) that the
residuals need anyway and take up most of what the Ritz values miss. Divided by a small theta, the rounding of
those products would pass for an eigenvalue. How far v_i^T J^T (J v_j) and (J v_i)^T J v_j differ tells how
large it is, and a residual counts as far as it and its theta are above that.

Upper ends. lambda_i is at most the largest eigenvalue of A without v_1 .. v_(i-1) (Courant-Fischer again).
By the Schur complement that is below u as soon as

    sum over j >= i of |r_j|^2 / (u - theta_j) <= u - nu,    u > max(theta_i, nu).

The smallest such u is the bound. For an isolated theta_i it is theta_i + |r_i|^2 / (theta_i - nu) to first
order; within a cluster the residuals of the cluster add up, so no separation inside a cluster is needed.
The classical bounds by residuals and gaps are in B. N. Parlett, The Symmetric Eigenvalue Problem (1980),
chapter 11.
"""

import math
from dataclasses import dataclass, fields
from functools import cached_property

import torch
from torch import Tensor

from polarity_sampling.volume import dense
from polarity_sampling.volume.operator import LinearOperator

# Images that are held in float64 together.
_ROWS = 64
# Of the curve that decides an upper end; after any number of them it is one.
_TANGENTS = 5
# Ritz values this far below the largest are rounding: their residuals are not divided by them.
_NEGLIGIBLE = 1e-14
# Rounding is not the same for every residual.
_SAFETY = 3.0


@dataclass(frozen=True)
class Subspace:
    """Latent directions q in rows, with what the operator and its adjoint make of them; grows by blocks.

    J^T J Q is kept as what it has outside the subspace, beside inner products: residuals of all Ritz vectors
    are combinations of that.
    """

    basis: Tensor  # Q^T [B, l, K] float64, orthonormal up to the rounding of the operator's precision
    images: Tensor  # (J Q)^T [B, l, D]
    outside: Tensor  # (J^T J Q)^T without its part in the subspace, [B, l, K] float64
    overlap: Tensor  # Q^T Q [B, l, l]
    factor: Tensor  # its lower Cholesky factor
    projected: Tensor  # (J Q)^T J Q [B, l, l]
    noise: Tensor  # [B]: sum of squares of Q^T (J^T J Q) - (J Q)^T J Q, which is all rounding

    @staticmethod
    def of(operator: LinearOperator, basis: Tensor) -> "Subspace":
        """Two products for each column of the orthonormal basis [B, K, l]."""
        batch, dim_out, dim = operator.shape
        nothing = torch.empty(batch, 0, dim, dtype=torch.float64, device=operator.device)
        images = torch.empty(batch, 0, dim_out, dtype=operator.dtype, device=operator.device)
        square = nothing[:, :, :0]
        noise = torch.zeros(batch, dtype=torch.float64, device=operator.device)
        return Subspace(nothing, images, nothing, square, square, square, noise).extended(operator, basis)

    @property
    def size(self) -> int:
        return self.basis.shape[1]

    def extended(self, operator: LinearOperator, block: Tensor) -> "Subspace":
        """With the orthonormal columns of [B, K, m], orthogonal to all before; 2 m products."""
        rounded = block.to(operator.dtype)
        image = operator @ rounded
        pulled = (operator.mT @ image).mT.double().contiguous()
        # What was multiplied is the rounded block; everything that follows is about that one.
        new = rounded.mT.double().contiguous()
        width = new.shape[1]
        basis = torch.cat([self.basis, new], 1)
        images = torch.cat([self.images, image.mT], 1)
        inner, along = (torch.cat([new, pulled], 1) @ basis.mT).split(width, 1)
        overlap = _bordered(self.overlap, inner)
        wide = image.mT.double().contiguous()
        # A few rows at a time: images in float64 would be the largest tensor of all.
        parts = [wide @ part.double().mT for part in images.split(_ROWS, 1)]
        projected = _bordered(self.projected, torch.cat(parts, 2))
        factor = dense.cholesky(overlap)
        outside = torch.baddbmm(pulled, dense.solve_gram(factor, along.mT).mT, basis, alpha=-1.0)
        # As far as rounding leaves the new directions not quite orthonormal, too much stays outside: no harm.
        found = new @ self.outside.mT
        before = torch.baddbmm(self.outside, found.mT, new, alpha=-1.0)
        along_before = torch.baddbmm(found, inner[:, :, :-width], self.projected)  # Q^T J^T J Q below `along`
        expected = projected[:, -width:]
        noise = (along - expected).square().sum((1, 2))
        noise = noise + (along_before - expected[:, :, :-width]).square().sum((1, 2)) + self.noise
        outside = torch.cat([before, outside], 1)
        return Subspace(basis, images, outside, overlap, factor, projected, noise)

    def rows(self, index: Tensor) -> "Subspace":
        return Subspace(*(getattr(self, field.name)[index] for field in fields(self)))

    def without(self, block: Tensor) -> Tensor:
        """The rows of [B, m, K] without their part in the subspace."""
        along = dense.solve_gram(self.factor, (block @ self.basis.mT).mT)
        return torch.baddbmm(block, along.mT, self.basis, alpha=-1.0)

    def ritz(self) -> "RitzValues":
        half = dense.solve_lower(self.factor, self.projected)
        values, vectors = dense.eigenvectors(dense.solve_lower(self.factor, half.mT))
        combination = torch.linalg.solve_triangular(self.factor.mT, vectors, upper=True)
        # Not by inner products of what is outside, which round far above the square of a small residual.
        residuals = combination.mT @ self.outside
        rounding = self.noise.sqrt() / self.size * math.sqrt(self.basis.shape[2])
        return RitzValues(values.clamp(min=0.0), combination, residuals, rounding)

    def vectors(self, ritz: "RitzValues", rows: Tensor) -> Tensor:
        """[b, K, l]: the Ritz vectors of those members of the batch, orthonormal."""
        return (ritz.combination[rows].mT @ self.basis[rows]).mT


def _bordered(square: Tensor, rows: Tensor) -> Tensor:
    """The symmetric matrix [B, l + m, l + m] with these last rows and the square [B, l, l] before them."""
    size = square.shape[1]
    return torch.cat([torch.cat([square, rows[:, :, :size].mT], 2), rows], 1)


@dataclass(frozen=True)
class RitzValues:
    """Approximate eigenvalues of J^T J, descending, with their residuals."""

    values: Tensor  # theta [B, l]
    combination: Tensor  # [B, l, l]: the Ritz vectors as combinations of the basis
    residuals: Tensor  # R^T [B, l, K]
    rounding: Tensor  # [B]: the length of a residual's rounding, from what products have in the subspace

    @cached_property
    def squares(self) -> Tensor:
        """[B, l]: squared lengths of the residuals."""
        return self.residuals.square().sum(2)

    def lower(self, top_k: int) -> Tensor:
        """[B, k]: lower bounds on the k largest eigenvalues."""
        values, residuals = self.values[:, :top_k], self.residuals[:, :top_k]
        lengths = self.squares[:, :top_k].sqrt()
        real = values > _NEGLIGIBLE * values[:, :1]
        known = torch.minimum(lengths, values)
        clear = (known - _SAFETY * self.rounding[:, None]).clamp(min=0.0)
        scale = torch.where(real & (clear > 0), clear / known * values.rsqrt(), 0.0)
        moments = residuals @ residuals.mT
        return dense.eigenvalues(torch.diag_embed(values) + scale[:, :, None] * moments * scale[:, None, :])

    def upper(self, top_k: int, deflated_norm: Tensor, rows: Tensor | None = None) -> Tensor:
        """[B, k]: upper bounds on the k largest eigenvalues, given nu [B] >= the norm of H.

        With u = max(theta_i, nu) + x the condition says that sum |r_j|^2 x / (d_j + x) <= x (reach + x), the
        left side being concave in x. Its tangent at any x is above it, so that the x where the tangent meets
        the right side is enough, too, and by Newton's order nearer to the smallest that is.

        Args:
            top_k: k.
            deflated_norm: nu.
            rows: the members of the batch that nu is of; default all.
        """
        values, squares = self.values, self.squares
        if rows is not None:
            values, squares = values[rows], squares[rows]
        floor = torch.maximum(values[:, :top_k], deflated_norm[:, None])
        reach = floor - deflated_norm[:, None]
        later = torch.ones(top_k, values.shape[1], dtype=torch.bool, device=values.device).triu()
        distance = torch.where(later, floor[:, :, None] - values[:, None, :], torch.inf)  # d_j
        # As if every theta_j were where u begins:
        x = _positive_root(reach, squares.flip(1).cumsum(1).flip(1)[:, :top_k])
        for _ in range(_TANGENTS):
            x = x.clamp(min=torch.finfo(torch.float64).tiny)
            share = x[:, :, None] / (distance + x[:, :, None])
            parts = share * squares[:, None, :]
            left, constant = parts.sum(2), (parts * share).sum(2)
            x = _positive_root(reach - (left - constant) / x, constant)
        return torch.where(deflated_norm[:, None].isinf(), torch.inf, floor + x)


def _positive_root(p: Tensor, q: Tensor) -> Tensor:
    """The x >= 0 with x^2 + p x = q, for q >= 0."""
    length = torch.hypot(p, 2.0 * q.sqrt())
    return torch.where(p > 0, 2.0 * q / (p + length), 0.5 * (length - p))
