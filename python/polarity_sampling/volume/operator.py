"""What the algorithms need of an operator, and how to make a smaller one of it."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor


class Product(Protocol):
    """Something that can be applied to a batch of matrices."""

    def __matmul__(self, other: Any, /) -> Any: ...


@runtime_checkable
class LinearOperator(Protocol):
    """B linear maps R^K -> R^D; known by their products alone.

    A tensor [B, D, K] is one, and so is a `JacobianOperator`. An operator may have a method
    ``rows(index) -> LinearOperator`` that leaves out members of the batch; latents that have converged then
    cost nothing more.
    """

    @property
    def shape(self) -> torch.Size:
        """(B, D, K)."""

    @property
    def dtype(self) -> torch.dtype:
        """float32 or float64, of tangents and products alike."""

    @property
    def device(self) -> torch.device: ...

    @property
    def mT(self) -> Any:
        """The adjoint: ``operator.mT @ U`` is [B, K, L] for U [B, D, L]."""

    def __matmul__(self, other: Any, /) -> Any:
        """``operator @ V`` is [B, D, L] for V [B, K, L] or [K, L]."""


def check(operator: LinearOperator) -> None:
    """Raises TypeError or ValueError unless it looks like an operator that can be worked with."""
    if not isinstance(operator, LinearOperator):
        raise TypeError(
            f"operator is a {type(operator).__name__}; expected shape, dtype, device, mT and @ (a tensor "
            "[B, D, K], ps.jacobian(...), or your own)"
        )
    if len(operator.shape) != 3 or 0 in operator.shape:
        raise ValueError(f"operator has shape {tuple(operator.shape)}; expected (B, D, K), none of them 0")
    if operator.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"operator has dtype {operator.dtype}; expected float32 or float64")


def rows_of(operator: LinearOperator, index: Tensor) -> LinearOperator:
    """The members `index` (int64) of the batch, in that order."""
    if isinstance(operator, Tensor):
        chosen: LinearOperator = operator[index]
        return chosen
    rows = getattr(operator, "rows", None)
    return _Padded(operator, index) if rows is None else rows(index)


class _Padded:
    """A part of an operator that cannot be cut: the others get zeros to work on."""

    def __init__(self, operator: LinearOperator, index: Tensor) -> None:
        self._operator = operator
        self._index = index
        self.shape = torch.Size((index.numel(), *operator.shape[1:]))
        self.dtype = operator.dtype
        self.device = operator.device

    def rows(self, index: Tensor) -> LinearOperator:
        return _Padded(self._operator, self._index[index])

    def _apply(self, product: Product, probes: Tensor) -> Tensor:
        probes = probes.expand(self.shape[0], *probes.shape[-2:])
        padded = probes.new_zeros(self._operator.shape[0], *probes.shape[1:])
        padded[self._index] = probes
        out: Tensor = (product @ padded)[self._index]
        return out

    def __matmul__(self, tangents: Tensor) -> Tensor:
        return self._apply(self._operator, tangents)

    @property
    def mT(self) -> "Adjoint":
        return Adjoint(lambda cotangents: self._apply(self._operator.mT, cotangents))


class Restricted:
    """The operator on a subspace of its inputs: ``operator @ basis``.

    Args:
        operator: B maps from R^K.
        basis: [K, n] or [B, K, n], orthonormal.
    """

    def __init__(self, operator: LinearOperator, basis: Tensor) -> None:
        self._operator = operator
        self._basis = basis
        self.shape = torch.Size((*operator.shape[:2], basis.shape[-1]))
        self.dtype = operator.dtype
        self.device = operator.device

    def rows(self, index: Tensor) -> LinearOperator:
        basis = self._basis if self._basis.ndim == 2 else self._basis[index]
        return Restricted(rows_of(self._operator, index), basis)

    def __matmul__(self, tangents: Tensor) -> Tensor:
        out: Tensor = self._operator @ (self._basis @ tangents)
        return out

    @property
    def mT(self) -> "Adjoint":
        return Adjoint(lambda cotangents: self._basis.mT @ (self._operator.mT @ cotangents))


class Adjoint:
    """What stands for ``operator.mT`` where only its product is wanted."""

    def __init__(self, apply: Any) -> None:
        self._apply = apply

    def __matmul__(self, cotangents: Tensor) -> Tensor:
        out: Tensor = self._apply(cotangents)
        return out
