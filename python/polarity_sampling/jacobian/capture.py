"""A generator as a graph of ATen operators without side effects, recorded by running it once."""

import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functionalize
from torch.fx import Graph, Node
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.modulation import share_kernels
from polarity_sampling.jacobian.stage import Call, Operand

aten = torch.ops.aten

# Their derivative is zero wherever it exists, or is meant to be.
_CUT = {
    aten.detach.default, aten.floor.default, aten.ceil.default, aten.round.default, aten.trunc.default,
    aten.sign.default, aten.sgn.default, aten.zeros_like.default, aten.ones_like.default,
    aten.empty_like.default, aten.full_like.default, aten.new_zeros.default, aten.new_ones.default,
    aten.new_empty.default, aten.new_full.default, aten.heaviside.default,
}  # fmt: skip


@dataclass(frozen=True)
class Capture:
    """The graph of ``generator.flat`` at one batch size."""

    graph: Graph
    inputs: tuple[Node, ...]
    """z, and label if there is one."""
    output: Node
    operands: dict[Node, tuple[Operand, ...]]
    """Of every node, its outputs."""

    def call(self, node: Node) -> Call:
        """A node's operator with its arguments by name."""
        schema = node.target._schema  # type: ignore[union-attr]
        arguments: dict[str, Any] = {}
        for i, argument in enumerate(schema.arguments):
            if i < len(node.args):
                arguments[argument.name] = node.args[i]
            else:
                arguments[argument.name] = node.kwargs.get(argument.name, argument.default_value)
        bound = {name: self.bound(value) for name, value in arguments.items()}
        return Call(node.target, bound, self.operands[node])  # type: ignore[arg-type]

    def bound(self, value: Any) -> Any:
        """An argument with `Operand` in place of nodes."""
        if isinstance(value, Node):
            return self.operands[value][0]
        if isinstance(value, list | tuple):
            return [self.bound(item) for item in value]
        return value


def capture(generator: Generator, z: Tensor, label: Tensor | None) -> Capture:
    """Runs the generator on z [B, K] (and label [B]) and records it.

    Raises:
        RuntimeError and others: torch cannot record this forward (it branches on values, say).
    """
    inputs = (z,) if label is None else (z, label)

    def flat(*inputs: Tensor) -> Tensor:
        return generator.flat(inputs[0], inputs[1] if len(inputs) == 2 else None)

    with torch.no_grad(), _Recordable(), _as_written():
        recorded = make_fx(flat)(*inputs)
        _drop_side_effects(recorded.graph)
        recorded.recompile()
        # Two passes, because custom autograd functions are refused under functionalize but can be recorded.
        recorded = make_fx(functionalize(recorded, remove="mutations"))(*inputs)
        recorded = share_kernels(recorded, inputs)
    recorded.graph.eliminate_dead_code()
    graph = recorded.graph
    operands = _evaluate(recorded, inputs)
    placeholders = tuple(n for n in graph.nodes if n.op == "placeholder")
    output = next(n for n in graph.nodes if n.op == "output").args[0]
    return Capture(graph, placeholders, output, operands)


def _as_written() -> AbstractContextManager[None]:
    """What ``torch.compile`` has wrapped is recorded as it was before, instead of refused."""
    dynamo = sys.modules.get("torch._dynamo")  # takes long to import, and was by whoever compiled something
    return nullcontext() if dynamo is None else dynamo.config.patch(error_on_nested_fx_trace=False)


class _Recordable(TorchFunctionMode):
    """Puts operators that can be recorded in the place of some that look at values."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.one_hot:
            func = _one_hot
        if func is torch.lstm:
            func = _decomposable_lstm
        return func(*args, **(kwargs or {}))


def _one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    if num_classes < 0:
        num_classes = int(tensor.max()) + 1  # refuses to be recorded, as it should
    return (tensor[..., None] == torch.arange(num_classes, device=tensor.device)).long()


def _decomposable_lstm(*args: Any, **kwargs: Any) -> Any:
    """Without the fused layer of oneDNN, which has no forward derivative."""
    enabled = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        return torch.lstm(*args, **kwargs)
    finally:
        torch._C._set_mkldnn_enabled(enabled)


def _drop_side_effects(graph: Graph) -> None:
    for node in reversed(list(graph.nodes)):
        if node.op != "call_function":
            continue
        name = str(node.target)
        if not node.users and (name.startswith("profiler.") or "_assert" in name):
            graph.erase_node(node)
    graph.eliminate_dead_code()


def _evaluate(recorded: torch.fx.GraphModule, inputs: tuple[Tensor, ...]) -> dict[Node, tuple[Operand, ...]]:
    """Runs the graph, notes shapes, folds constants, and follows what has a derivative by z."""
    values: dict[Node, Any] = {}
    kinds: dict[Node, str] = {}
    operands: dict[Node, tuple[Operand, ...]] = {}
    remaining = {node: len(node.users) for node in recorded.graph.nodes}
    given = iter(inputs)
    for node in recorded.graph.nodes:
        if node.op == "output":
            break
        if node.op == "placeholder":
            values[node] = next(given)
            kinds[node] = "active" if values[node].is_floating_point() else "primal"
        elif node.op == "get_attr":
            values[node] = getattr(recorded, node.target).detach()
            kinds[node] = "constant"
        else:
            sources = node.all_input_nodes
            args = torch.fx.map_arg(node.args, values.__getitem__)
            kwargs = torch.fx.map_arg(node.kwargs, values.__getitem__)
            values[node] = node.target(*args, **kwargs)
            kinds[node] = _kind({kinds[source] for source in sources}, node)
            for source in set(sources):
                remaining[source] -= 1
                if remaining[source] == 0:
                    del values[source]
        outputs = values[node] if isinstance(values[node], tuple | list) else (values[node],)
        operands[node] = tuple(
            Operand(
                node,
                out.shape,
                out.dtype,
                out.device,
                "primal" if kinds[node] == "active" and not out.is_floating_point() else kinds[node],  # type: ignore[arg-type]
                out if kinds[node] == "constant" else None,
            )
            for out in outputs
            if isinstance(out, Tensor)
        )
        if kinds[node] == "active" and operands[node] and not any(out.active for out in operands[node]):
            kinds[node] = "primal"  # comparisons and indices: what is made of them has no derivative either
    return operands


def _kind(sources: set[str], node: Node) -> str:
    if "active" in sources:
        return "primal" if node.target in _CUT else "active"
    return "primal" if "primal" in sources else "constant"
