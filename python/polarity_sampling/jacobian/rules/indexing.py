"""Elements picked by indices that do not depend on a tangent."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from polarity_sampling.jacobian.stage import Call, Residual, Stage, rule

aten = torch.ops.aten


class Index(Stage):
    """``self[indices]``, as NumPy has it; elements picked twice add up on the way back."""

    def __init__(self, call: Call) -> None:
        self._before = tuple(call["self"].shape)
        self._given = [index is not None for index in call["indices"]]

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        return tuple(index for index in args[1] if index is not None)

    def _indices(self, residual: Residual) -> list[Tensor | None]:
        found = iter(residual)
        return [None, *(next(found) if given else None for given in self._given)]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return (aten.index(tangents[0], self._indices(residual)),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        whole = u.new_zeros(u.shape[0], *self._before)
        return (aten.index_put(whole, self._indices(residual), u, accumulate=True),)


@rule(aten.index.Tensor)
def index(call: Call) -> Stage | None:
    if not call.only_active("self") or any(i is not None and i.dtype == torch.bool for i in call["indices"]):
        return None
    places = [k for k, i in enumerate(call["indices"]) if i is not None]
    # Indices that are apart would move to the front, before the probes.
    adjacent = places == list(range(places[0], places[0] + len(places)))
    return Index(call) if adjacent else None
