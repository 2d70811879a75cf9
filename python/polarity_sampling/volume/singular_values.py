"""What every algorithm returns: brackets around the leading singular values, and what they cost."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Literal

import torch
from torch import Tensor

EPS32 = 2.0**-24
EPS64 = 2.0**-53


class Status(IntEnum):
    """Why a latent met its tolerance, or why not."""

    CONVERGED = 0
    """The error is within tol."""
    BELOW_FLOOR = 1
    """One of the top k singular values cannot be told from zero: its logarithm is not known at all."""
    SLOW_SPECTRUM = 2
    """The singular values decay too slowly for the products allowed: use an exact method."""
    ROUNDING = 3
    """Rounding alone exceeds tol, in the best precision there is."""
    KINK = 4
    """Rounding put an activation on the other side of its kink, and no other precision could settle it."""


@dataclass(frozen=True)
class SingularValues:
    """Leading singular values of B operators, each inside a bracket."""

    values: Tensor
    """[B, k] float64, descending: the best guess within the bracket."""
    lower: Tensor
    """[B, k]: at least."""
    upper: Tensor
    """[B, k]: at most; inf where nothing is known."""
    certificate: Literal["bound", "estimate"]
    """A bound holds always, or with probability 1 - `failure` over the probes; an estimate usually."""
    failure: float
    """Probability that the bracket of a latent fails."""
    products: Tensor
    """[B] int64: products with the operator and its adjoint, a vector each."""
    status: Tensor
    """[B] int8, values of `Status`."""
    method: str

    @property
    def error(self) -> Tensor:
        """[B]: how far the sum of log `values` can be from the true one, nats; inf where one may be zero."""
        return log_error(self.values, self.lower, self.upper)

    def replace_rows(self, index: Tensor, other: "SingularValues") -> "SingularValues":
        """A copy with rows `index` from `other`, whose products come on top."""
        columns = {}
        for name in ("values", "lower", "upper", "status"):
            column = getattr(self, name).clone()
            column[index] = getattr(other, name)
            columns[name] = column
        products = self.products.clone()
        products[index] += other.products
        weaker = "estimate" if "estimate" in (self.certificate, other.certificate) else "bound"
        return SingularValues(
            columns["values"],
            columns["lower"],
            columns["upper"],
            "estimate" if weaker == "estimate" else "bound",
            max(self.failure, other.failure),
            products,
            columns["status"],
            self.method,
        )


def log_error(values: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """[B]: bound on the error of the sum of log values [B, k] that lie in brackets."""
    above = torch.log(upper / values).sum(1)
    below = torch.log(values / lower).sum(1)
    return torch.where(torch.isnan(above + below), torch.inf, torch.maximum(above, below))


def from_eigenvalues(eigenvalues: Tensor, delta: Tensor) -> tuple[Tensor, Tensor]:
    """Brackets on singular values from their squares [B, k], each off by at most delta [B]."""
    squares = eigenvalues.clamp(min=0.0)
    lower = torch.sqrt((squares - delta[:, None]).clamp(min=0.0))
    return lower, torch.sqrt(squares + delta[:, None])


def rounding_unit(size: int) -> float:
    """Bound on the error of a Gram matrix's eigenvalues by rounding, in units of the largest one.

    Products and sums contribute with the number of blocks they are summed in, the eigensolver with n.
    """
    return (16.0 + size) * EPS64


def rounding_of_gram(largest: Tensor, size: int) -> Tensor:
    """The same in their own unit, by the largest of them [B]."""
    return rounding_unit(size) * largest.clamp(min=0.0)


def converged_or(error: Tensor, tol: float, otherwise: Status) -> Tensor:
    """[B] int8: CONVERGED where error <= tol, BELOW_FLOOR where it is infinite, else `otherwise`."""
    status = torch.full_like(error, otherwise, dtype=torch.int8)
    status[torch.isinf(error)] = Status.BELOW_FLOOR
    status[error <= tol] = Status.CONVERGED
    return status


def bound(
    values: Tensor, lower: Tensor, upper: Tensor, products: int, tol: float, method: str
) -> SingularValues:
    """The result of a route that takes as many products for every latent and bounds nothing but rounding."""
    spent = torch.full((values.shape[0],), products, dtype=torch.int64, device=values.device)
    status = converged_or(log_error(values, lower, upper), tol, Status.ROUNDING)
    return SingularValues(values, lower, upper, "bound", 0.0, spent, status, method)
