"""A constant times factors that vary over few of its dimensions, not multiplied out."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Factored:
    """``constant`` times every factor, broadcast; then with some neighbouring dimensions merged into one.

    Every method returns None where its result has no such form that is worth having.
    """

    constant: Tensor
    factors: tuple[Tensor, ...]
    """All of the rank of the constant."""
    merged: tuple[tuple[int, ...], ...]
    """For every dimension of the whole the dimensions of the parts, in order."""

    @staticmethod
    def of(constant: Tensor, factors: Sequence[Tensor]) -> "Factored":
        """Brings the parts to one rank by leading dimensions of size 1."""
        rank = max(part.ndim for part in (constant, *factors))
        lifted = [_lifted(part, rank) for part in (constant, *factors)]
        return Factored(lifted[0], tuple(lifted[1:]), tuple((dim,) for dim in range(rank)))

    @property
    def sizes(self) -> torch.Size:
        """Of the product, before the merge."""
        shapes = (part.shape for part in (self.constant, *self.factors))
        return torch.Size(torch.broadcast_shapes(*shapes))

    @property
    def shape(self) -> list[int]:
        """Of the whole."""
        return [math.prod(self.sizes[dim] for dim in dims) for dims in self.merged]

    @property
    def plain(self) -> bool:
        """No dimensions are merged."""
        return len(self.merged) == self.constant.ndim

    @cached_property
    def tensor(self) -> Tensor:
        """Multiplied out."""
        product = self.constant
        for factor in self.factors:
            product = product * factor
        return product if self.plain else product.expand(self.sizes).reshape(self.shape)

    def times(self, other: "Factored | Tensor | float", *, constant: bool = False) -> "Factored | None":
        """Multiplied by a number, a constant, a tensor that varies, or another of this kind."""
        if not isinstance(other, Tensor | Factored):
            return Factored(self.constant * other, self.factors, self.merged)
        if not self.plain:
            return None
        if isinstance(other, Factored):
            return self._times_factored(other)
        if constant:
            return Factored.of(self.constant * other, self.factors)
        # Factors of the same shape become one, so that nothing is multiplied twice at full size.
        lifted = Factored.of(self.constant, (*self.factors, other))
        *factors, last = lifted.factors
        for i, factor in enumerate(factors):
            if factor.shape == last.shape:
                factors[i] = factor * last
                return Factored.of(lifted.constant, factors)
        return lifted

    def _times_factored(self, other: "Factored") -> "Factored | None":
        if not other.plain:
            return None
        product: Factored | None = Factored.of(self.constant * other.constant, self.factors)
        for factor in other.factors:
            product = product and product.times(factor)
        return product

    def power(self, exponent: float) -> "Factored | None":
        if not float(exponent).is_integer():  # (-1 * -1) ** 0.5 is 1, the powers of its factors are NaN
            return None
        return self._by_parts(lambda part: part.pow(exponent))

    def to(self, dtype: torch.dtype) -> "Factored":
        return self._by_parts(lambda part: part.to(dtype))

    def flipped(self, dims: Sequence[int]) -> "Factored | None":
        return self._by_parts(lambda part: part.flip(list(dims))) if self.plain else None

    def permuted(self, dims: Sequence[int]) -> "Factored":
        """Dimensions of the whole in another order."""
        order = [part for dim in dims for part in self.merged[dim]]
        place = iter(range(len(order)))
        merged = tuple(tuple(next(place) for _ in self.merged[dim]) for dim in dims)
        permuted = self._by_parts(lambda part: part.permute(order))
        return Factored(permuted.constant, permuted.factors, merged)

    def _by_parts(self, function: Callable[[Tensor], Tensor]) -> "Factored":
        return Factored(function(self.constant), tuple(map(function, self.factors)), self.merged)

    def reshaped(self, shape: Sequence[int]) -> "Factored | None":
        """Merges neighbouring dimensions, or parts them again; never cuts a dimension of the parts."""
        sizes, dim = self.sizes, 0
        merged = []
        for size in shape:
            dims: list[int] = []
            while dim < len(sizes) and math.prod(sizes[d] for d in dims) < size:
                dims.append(dim)
                dim += 1
            if math.prod(sizes[d] for d in dims) != size:
                return None
            merged.append(dims)
        if any(sizes[d] != 1 for d in range(dim, len(sizes))) or not merged:
            return None
        merged[-1] += range(dim, len(sizes))
        return Factored(self.constant, self.factors, tuple(map(tuple, merged)))

    def summed(self, dims: Sequence[int], keepdim: bool) -> Tensor | None:
        """The sum over dimensions where some factor varies, as a matrix product with the constant."""
        if not self.plain:
            return None
        sizes, rank = self.sizes, self.constant.ndim
        summed = {dim % rank for dim in dims}
        outer = [f for f in self.factors if all(f.shape[dim] == 1 for dim in summed)]
        inner = [f for f in self.factors if all(f is not other for other in outer)]
        if not inner:
            return None
        factor, constant = math.prod(inner[1:], start=inner[0]), self.constant
        both = [dim for dim in summed if factor.shape[dim] != 1]
        alone = [dim for dim in summed if factor.shape[dim] == 1 and constant.shape[dim] != 1]
        if alone:
            constant = constant.sum(alone, keepdim=True)
        rows = [dim for dim in range(rank) if dim not in summed and factor.shape[dim] != 1]
        columns = [dim for dim in range(rank) if dim not in summed and constant.shape[dim] != 1]
        if set(rows) & set(columns):
            return None
        rest = [dim for dim in range(rank) if dim not in (*rows, *columns, *both)]
        length = math.prod(sizes[dim] for dim in both)
        constant = constant.expand([sizes[d] if d in both else constant.shape[d] for d in range(rank)])
        left = factor.permute(*rows, *both, *columns, *rest).reshape(-1, length)
        right = constant.permute(*both, *columns, *rows, *rest).reshape(length, -1)
        product = (left @ right).reshape(*(sizes[d] for d in (*rows, *columns)), *(1 for _ in (*both, *rest)))
        order = [*rows, *columns, *both, *rest]
        result = product.permute([order.index(dim) for dim in range(rank)])
        for scale in outer:
            result = result * scale
        return result if keepdim else result.reshape([sizes[d] for d in range(rank) if d not in summed])


def _lifted(part: Tensor, rank: int) -> Tensor:
    return part if part.ndim == rank else part.reshape((1,) * (rank - part.ndim) + part.shape)
