"""Singular values of a batch of Jacobians, computed exactly: all K products, then a K x K problem."""

from dataclasses import dataclass

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import JacobianOperator
from polarity_sampling.laws import Sphere

EPS32 = 2.0**-24
EPS64 = 2.0**-53


@dataclass(frozen=True)
class Spectrum:
    """Singular values of B Jacobians with bounds on what rounding did to them."""

    singular_values: Tensor  # [B, n] float64, descending
    floor: Tensor  # [B] noise floor
    eta: Tensor  # [B] bound on ||Delta J||_2
    delta: Tensor  # [B] bound on the error of sigma^2

    def replace_rows(self, mask: Tensor, other: "Spectrum") -> "Spectrum":
        """A copy with the rows of `mask` taken from `other`."""
        parts = []
        for name in ("singular_values", "floor", "eta", "delta"):
            column = getattr(self, name).clone()
            column[mask] = getattr(other, name)
            parts.append(column)
        return Spectrum(*parts)


def input_basis(generator: Generator, z: Tensor) -> Tensor:
    """Orthonormal directions of the latent space in which volume is measured.

    All of R^K ([K, K]); on a sphere the tangent space at each latent ([B, K, K - 1]): the columns of the
    Householder reflection that maps z to an axis, without the one along z.
    """
    dim = z.shape[1]
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    if not isinstance(generator.base, Sphere):
        return eye
    unit = z.double() / z.double().norm(dim=1, keepdim=True)
    sign = torch.where(unit[:, :1] < 0, -1.0, 1.0)
    mirror = unit + sign * eye[:1].double()
    mirror = mirror / mirror.norm(dim=1, keepdim=True)
    reflection = eye.double() - 2.0 * mirror[:, :, None] * mirror[:, None, :]
    tangent: Tensor = reflection[:, :, 1:].to(z.dtype)
    return tangent


def gram_spectrum(columns: Tensor, eta: Tensor) -> Spectrum:
    """From the Jacobian's columns [B, D, n] by the Gram matrix with float64 products.

    `eta` [B] is relative to sigma_1. The floor is where the Jacobian's own rounding or the Gram matrix's
    drowns a singular value, but never above 1e-5 sigma_1 for float32 input.
    """
    size = columns.shape[2]
    eigenvalues = torch.linalg.eigvalsh(polarity_ext.gram(columns)).flip(1)
    sigma = torch.sqrt(torch.clamp(eigenvalues, min=0.0))
    largest = sigma[:, 0]
    # Rounding of products and sums grows at most with the number of blocks, of the eigensolver with n.
    delta = (16.0 + size) * EPS64 * eigenvalues[:, 0].clamp(min=0.0)
    floor = torch.maximum(2.0 * eta * largest, 2.0 * torch.sqrt(delta))
    if columns.dtype == torch.float32:
        floor = torch.minimum(floor, 1e-5 * largest)
    return Spectrum(sigma, floor, eta * largest, delta)


def svd_spectrum(columns: Tensor, eta: Tensor) -> Spectrum:
    """From float64 columns [B, D, n] by an SVD: resolves ratios down to about 1e-14, at a higher cost."""
    sigma = torch.linalg.svdvals(columns)
    if sigma.shape[1] < columns.shape[2]:  # fewer outputs than latent coordinates
        sigma = torch.nn.functional.pad(sigma, (0, columns.shape[2] - sigma.shape[1]))
    largest = sigma[:, 0]
    bound = (eta + (16.0 + columns.shape[2]) * EPS64) * largest
    return Spectrum(sigma, 2.0 * bound, bound, torch.zeros_like(bound))


def columns_of(jacobian: JacobianOperator, basis: Tensor, probes: Tensor) -> tuple[Tensor, Tensor]:
    """J @ basis [B, D, n] and J @ probes [B, D, p] in one pass over the generator."""
    if basis.ndim == 3:
        probes = probes.expand(basis.shape[0], *probes.shape)
    both = jacobian @ torch.cat([basis, probes], dim=-1)
    size = basis.shape[-1]
    return both[:, :, :size], both[:, :, size:]
