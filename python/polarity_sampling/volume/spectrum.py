"""Singular values of a batch of Jacobians with everything that is known of their errors."""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.qr import triangular_factor
from polarity_sampling.volume.singular_values import SingularValues, rounding_unit


@dataclass(frozen=True)
class Spectrum:
    """The m leading singular values of B Jacobians, m >= k."""

    singular_values: Tensor  # [B, m] float64, descending
    floor: Tensor  # [B] noise floor
    eta: Tensor  # [B] bound on ||Delta J||_2
    delta: Tensor  # [B, m] bound on the error of sigma^2 by everything else

    @staticmethod
    def of(sigma: Tensor, delta: Tensor, size: int, eta: float, dtype: torch.dtype) -> "Spectrum":
        """With the noise floor of `size` directions of a Jacobian in `dtype`; eta in units of sigma_1."""
        largest = sigma[:, 0]
        return Spectrum(sigma, noise_floor(eta, size, dtype) * largest, eta * largest, delta)

    def leading(self, top_k: int) -> "Spectrum":
        """The k largest alone."""
        if self.singular_values.shape[1] == top_k:
            return self
        return Spectrum(self.singular_values[:, :top_k], self.floor, self.eta, self.delta[:, :top_k])

    def log_volume(self, top_k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Sum of the logarithms of the k largest, a bound on its error, and how many of all m lie above the
        floor (int64); [B] each."""
        return polarity_ext.floored_log_sum(self.singular_values, self.floor, self.eta, self.delta, top_k)

    def replace_rows(self, index: Tensor, other: "Spectrum") -> "Spectrum":
        """A copy with rows `index` from `other`."""
        columns = {}
        for field in fields(Spectrum):
            column = getattr(self, field.name).clone()
            column[index] = getattr(other, field.name)
            columns[field.name] = column
        return Spectrum(**columns)


def noise_floor(eta: float, size: int, dtype: torch.dtype) -> float:
    """In units of sigma_1: below it a value out of `size` cannot be told from zero.

    That is where the Jacobian's own rounding, eta, or that of the Gram matrix drowns it; but never above
    1e-5 for a float32 Jacobian.
    """
    floor = max(2.0 * eta, 2.0 * math.sqrt(rounding_unit(size)))
    return min(floor, 1e-5) if dtype == torch.float32 else floor


def gram_spectrum(columns: Tensor, eta: float) -> Spectrum:
    """From the Jacobian's columns [B, D, n] by the Gram matrix with float64 products."""
    return spectrum_of_gram(polarity_ext.gram(columns), eta, columns.dtype)


def spectrum_of_gram(gram: Tensor, eta: float, dtype: torch.dtype) -> Spectrum:
    """From J^T J [B, n, n], of columns in `dtype`; eta in units of sigma_1."""
    size = gram.shape[1]
    squares = dense.eigenvalues(gram).clamp_(min=0.0)
    delta = rounding_unit(size) * squares[:, :1]
    return Spectrum.of(squares.sqrt(), delta.expand_as(squares), size, eta, dtype)


def spectrum_of_layer_gram(gram: Tensor, size: Tensor, eta: float) -> Spectrum:
    """From J^T J [B, n, n] and its size [B] as of `polarity_ext.mlp_gram`; eta in units of sigma_1.

    Sums round in proportion to the size, which is that of the factors of J and no less than sigma_1^2.
    """
    squares = dense.eigenvalues(gram).clamp(min=0.0)
    largest = squares[:, 0].sqrt()
    delta = rounding_unit(gram.shape[1]) * size
    floor = torch.maximum(2.0 * eta * largest, 2.0 * delta.sqrt()).clamp(max=1e-5 * largest)
    return Spectrum(squares.sqrt(), floor, eta * largest, delta[:, None].expand_as(squares))


def bracketed_spectrum(found: SingularValues, size: int, eta: float, dtype: torch.dtype) -> Spectrum:
    """From brackets that some route found among `size` directions; eta in units of sigma_1."""
    squares = found.values.square()
    delta = torch.maximum(found.upper.square() - squares, squares - found.lower.square())
    return Spectrum.of(found.values, delta, size, eta, dtype)


def svd_spectrum(columns: Tensor, eta: float) -> Spectrum:
    """From float64 columns [B, D, n] by QR and an SVD of R: resolves ratios down to about 1e-14."""
    sigma = dense.singular_values(triangular_factor(columns))
    bound = (eta + rounding_unit(columns.shape[2])) * sigma[:, 0]
    return Spectrum(sigma, 2.0 * bound, bound, torch.zeros_like(sigma))
