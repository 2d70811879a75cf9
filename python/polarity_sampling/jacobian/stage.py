"""One linear map of a tangent program, and the call of an ATen operator that it is the derivative of."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torch.fx import Node
from torch.utils import _pytree as pytree

Residual = tuple[Tensor, ...]
"""What a stage keeps of a primal pass."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A tensor argument of a call, or one of its outputs; each is only equal to itself."""

    node: Node
    shape: torch.Size
    dtype: torch.dtype
    device: torch.device
    kind: Literal["constant", "primal", "active"]
    """Depends on the weights alone; on the latents but without a derivative; with one."""
    value: Tensor | None = None
    """Of a constant."""

    @property
    def active(self) -> bool:
        return self.kind == "active"

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass(frozen=True, eq=False)
class Call:
    """A node of the graph: an operator with every argument by name, tensors as `Operand`."""

    op: torch._ops.OpOverload
    arguments: Mapping[str, Any]
    outputs: tuple[Operand, ...]

    def __getitem__(self, name: str) -> Any:
        return self.arguments[name]

    @property
    def out(self) -> Operand:
        return self.outputs[0]

    @property
    def active(self) -> tuple[Operand, ...]:
        """Inputs with a tangent, in the order of the arguments; the order of a stage's inputs."""
        return tuple(leaf for leaf in self.operands if leaf.active)

    @property
    def operands(self) -> tuple[Operand, ...]:
        leaves = pytree.tree_leaves(dict(self.arguments))
        return tuple(leaf for leaf in leaves if isinstance(leaf, Operand))

    def only_active(self, name: str) -> bool:
        """The argument of that name is the one active input."""
        operand = self[name]
        return isinstance(operand, Operand) and operand.active and len(self.active) == 1


class Stage:
    """The derivative of one call: ``push`` applies it to tangents, ``pull`` its transpose to cotangents.

    A tangent of a tensor of shape S has shape [L, *S], L probes. Rules subclass this or use `Map`.
    """

    fallback: ClassVar[bool] = False
    """Made of torch.func transforms of the operator: right, but not fast."""
    push_shares = False
    """What ``push`` returns may lie in the memory of what it was given."""
    pull_shares = False
    outputs: int | None = None
    """How many of the call's outputs have a tangent, the first ones; None for all."""
    flops = 0
    """Floating-point operations of ``push`` for one probe."""
    any_batch = False
    """Works on tangents [L, 1, ...] that all samples share as well as on [L, B, ...]."""
    compute: torch.dtype | None = None
    """Of matrix products and convolutions, if not that of the tangents."""
    broadcasts = False
    """Takes tangents that all samples share, and returns those of every sample."""
    any_strides = False
    """Takes tangents in any layout of memory."""
    lean = False
    """Keeps no rearranged copy of a weight that is larger than the weight."""
    primal_bytes = 0
    """Of weights rearranged for the primal pass."""
    push_bytes = 0
    """Of weights rearranged for ``push``, beside those."""
    pull_bytes = 0

    def primal(self, call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, Residual]:
        """The operator's own result, and what push and pull need of it."""
        out = call(*args, **kwargs)
        return out, self.residual(args, kwargs, out)

    def residual(self, args: Sequence[Any], kwargs: Any, out: Any) -> Residual:
        return ()

    def join(self, residuals: Sequence[Residual]) -> Residual:
        """The residual, of those of the calls that this stage stands for."""
        (residual,) = residuals
        return residual

    def settle(self, residual: Residual, transposed: bool) -> None:
        """Choose how to run, by what the stage needs of calibration latents; for ``pull`` if transposed."""

    def work(self, probes: int) -> float:
        """Time for so many probes together, in multiplications at the pace of a matrix product.

        One probe more than there are: what a product of few columns takes beside those of many.
        """
        return self.flops / 2 * (probes + 1)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        """Tangents of the outputs from those of the active inputs.

        Args:
            residual: of the primal pass.
            tangents: one [L, *S] for every active input.
            owned: the first of them is of no further use, its memory may be overwritten.
        """
        raise NotImplementedError

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        """Cotangents of the active inputs from those of the outputs (None: zero, nobody used it)."""
        raise NotImplementedError


class Map(Stage):
    """A fixed linear map of one tensor to one tensor."""

    def __init__(
        self,
        push: Callable[[Tensor], Tensor],
        pull: Callable[[Tensor], Tensor],
        *,
        shares: bool = False,
        any_batch: bool = False,
    ) -> None:
        self.forward, self.transpose = push, pull
        self.push_shares = self.pull_shares = shares
        self.any_batch = any_batch

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return (self.forward(tangents[0]),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (self.transpose(u),)


Rule = Callable[[Call], Stage | None]

_rules: dict[torch._ops.OpOverload, Rule] = {}


def rule(*ops: torch._ops.OpOverload) -> Callable[[Rule], Rule]:
    """Declares a function that makes the stage of a call of these operators, or None to decline."""

    def register(make: Rule) -> Rule:
        for op in ops:
            assert op not in _rules, f"{op} has two rules"
            _rules[op] = make
        return make

    return register


def rule_for(op: torch._ops.OpOverload) -> Rule | None:
    return _rules.get(op)
