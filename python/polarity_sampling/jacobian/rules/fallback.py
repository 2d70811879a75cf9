"""Any operator that torch can differentiate, by torch.func on that operator alone."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.func import jvp, vjp
from torch.utils import _pytree as pytree

from polarity_ext.ops.function import no_derivatives
from polarity_sampling.jacobian.quiet_vmap import quiet_vmap
from polarity_sampling.jacobian.stage import Call, Residual, Stage

# Operators whose forward derivative torch refused; theirs is the transpose of the transpose.
_Function = Callable[..., tuple[Tensor, ...]]


class Fallback(Stage):
    """``vmap(jvp)`` and ``vmap(vjp)`` at the point of the primal pass.

    Operators outside of ATen have a forward derivative that is zero without a word unless their authors
    gave them one, so theirs is always the transpose of their reverse derivative.
    """

    fallback = True

    def __init__(self, call: Call) -> None:
        self._call = call
        self._active = [operand.active for operand in call.operands]
        self._wanted = [out.active for out in call.outputs]
        self._by_transpose = call.op.namespace not in ("aten", "prims")
        self._spec: pytree.TreeSpec | None = None
        self._template: list[Any] = []

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        leaves, spec = pytree.tree_flatten((list(args), kwargs))
        # All tensors of the call; what is not a tensor never changes.
        self._template = [None if isinstance(leaf, Tensor) else leaf for leaf in leaves]
        self._places = [i for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)]
        self._spec = spec
        return tuple(leaves[i] for i in self._places)

    def _function(self, residual: Residual) -> tuple[_Function, tuple[Tensor, ...]]:
        """The outputs with a tangent, as a function of the active inputs; and the point."""
        spec, active = self._spec, self._active
        assert spec is not None

        def function(*point: Tensor) -> tuple[Tensor, ...]:
            leaves, given = list(self._template), iter(point)
            for place, tensor, is_active in zip(self._places, residual, active, strict=True):
                leaves[place] = next(given) if is_active else tensor
            args, kwargs = pytree.tree_unflatten(leaves, spec)
            out = self._call.op(*args, **kwargs)
            outputs = tuple(out) if isinstance(out, tuple | list) else (out,)
            return tuple(o for o, wanted in zip(outputs, self._wanted, strict=True) if wanted)

        return function, tuple(t for t, is_active in zip(residual, active, strict=True) if is_active)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        with no_derivatives(False):
            return self._push(residual, tangents)

    def _push(self, residual: Residual, tangents: Sequence[Tensor]) -> Sequence[Tensor]:
        function, point = self._function(residual)
        if not self._by_transpose:
            try:
                pushed = quiet_vmap(lambda *t: jvp(function, point, t)[1])(*tangents)
                return self._all_outputs(pushed, tangents[0].shape[0])
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError):
                self._by_transpose = True
        # u -> J^T u is linear, so its own transpose at any u is t -> J t.
        with torch.enable_grad():
            pulled = vjp(function, *point)
        outputs, pullback = pulled[0], pulled[1]
        zeros = tuple(torch.zeros_like(out) for out in outputs)
        push = vjp(lambda *u: pullback(u), *zeros)[1]
        return self._all_outputs(quiet_vmap(lambda *t: push(t))(*tangents), tangents[0].shape[0])

    def _all_outputs(self, pushed: tuple[Tensor, ...], probes: int) -> Sequence[Tensor]:
        found = iter(pushed)
        return [
            next(found) if out.active else torch.zeros(probes, *out.shape, dtype=out.dtype, device=out.device)
            for out in self._call.outputs
        ]

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        function, point = self._function(residual)
        probes = next(u.shape[0] for u in cotangents if u is not None)
        full = tuple(
            u if u is not None else torch.zeros(probes, *out.shape, dtype=out.dtype, device=out.device)
            for u, out in zip(cotangents, self._call.outputs, strict=True)
            if out.active
        )
        with no_derivatives(False):
            pullback = vjp(function, *point)[1]
            return list(quiet_vmap(pullback)(full))
