"""Singular values of a batch of Jacobians with everything that is known of their errors."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.certificate import log_volume_and_error
from polarity_sampling.volume.qr import triangular_factor
from polarity_sampling.volume.singular_values import EPS64, SingularValues, rounding_of_gram


@dataclass(frozen=True)
class Spectrum:
    """The m leading singular values of B Jacobians, m >= k."""

    singular_values: Tensor  # [B, m] float64, descending
    floor: Tensor  # [B] noise floor
    eta: Tensor  # [B] bound on ||Delta J||_2
    delta: Tensor  # [B, m] bound on the error of sigma^2 by everything else

    @property
    def rank(self) -> Tensor:
        """[B] int64: how many of the m lie above the floor."""
        return polarity_ext.floored_log_sum(self.singular_values, self.floor, self.eta, self.delta)[2]

    def leading(self, top_k: int) -> "Spectrum":
        """The k largest alone."""
        return Spectrum(self.singular_values[:, :top_k], self.floor, self.eta, self.delta[:, :top_k])

    def log_volume(self) -> tuple[Tensor, Tensor]:
        """Sum of the logarithms of all m, and a bound on its error; [B] each."""
        return log_volume_and_error(self.singular_values, self.floor, self.eta, self.delta)

    def replace_rows(self, index: Tensor, other: "Spectrum") -> "Spectrum":
        """A copy with rows `index` from `other`."""
        columns = {}
        for field in fields(Spectrum):
            column = getattr(self, field.name).clone()
            column[index] = getattr(other, field.name)
            columns[field.name] = column
        return Spectrum(**columns)


def noise_floor(eta: Tensor, size: int, dtype: torch.dtype) -> Tensor:
    """[B], in units of sigma_1: below it a value out of `size` cannot be told from zero.

    That is where the Jacobian's own rounding, eta [B], or that of the Gram matrix drowns it; but never above
    1e-5 for a float32 Jacobian.
    """
    gram = 2.0 * math.sqrt(float(rounding_of_gram(torch.ones(()), size)))
    floor = torch.clamp(2.0 * eta, min=gram)
    return floor.clamp(max=1e-5) if dtype == torch.float32 else floor


def gram_spectrum(columns: Tensor, eta: Tensor) -> Spectrum:
    """From the Jacobian's columns [B, D, n] by the Gram matrix with float64 products."""
    return spectrum_of_gram(polarity_ext.gram(columns), eta, columns.dtype)


def spectrum_of_gram(gram: Tensor, eta: Tensor, dtype: torch.dtype) -> Spectrum:
    """From J^T J [B, n, n], of columns in `dtype`; eta [B] in units of sigma_1."""
    size = gram.shape[1]
    eigenvalues = dense.eigenvalues(gram)
    sigma = torch.sqrt(torch.clamp(eigenvalues, min=0.0))
    delta = rounding_of_gram(eigenvalues[:, 0], size)
    largest = sigma[:, 0]
    return Spectrum(
        sigma, noise_floor(eta, size, dtype) * largest, eta * largest, delta[:, None].expand_as(sigma)
    )


def bracketed_spectrum(found: SingularValues, size: int, eta: Tensor, dtype: torch.dtype) -> Spectrum:
    """From brackets that some route found among `size` directions; eta [B] in units of sigma_1."""
    squares = found.values.square()
    delta = torch.maximum(found.upper.square() - squares, squares - found.lower.square())
    largest = found.values[:, 0]
    return Spectrum(found.values, noise_floor(eta, size, dtype) * largest, eta * largest, delta)


def svd_spectrum(columns: Tensor, eta: Tensor) -> Spectrum:
    """From float64 columns [B, D, n] by QR and an SVD of R: resolves ratios down to about 1e-14."""
    sigma = dense.singular_values(triangular_factor(columns))
    bound = (eta + (16.0 + columns.shape[2]) * EPS64) * sigma[:, 0]
    return Spectrum(sigma, 2.0 * bound, bound, torch.zeros_like(sigma))
