"""From the graph of a generator to its tangent program."""

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.fx import Node, map_arg

from polarity_sampling.jacobian.capture import Capture
from polarity_sampling.jacobian.fuse import fuse
from polarity_sampling.jacobian.perceptron import Perceptron, gather_perceptrons
from polarity_sampling.jacobian.program import Link, Program
from polarity_sampling.jacobian.rules import stage_of
from polarity_sampling.jacobian.rules.pointwise import Rectifier
from polarity_sampling.jacobian.stage import Call, Residual

aten = torch.ops.aten

# Weights and layouts may be rearranged, so that a view is not always possible.
_REARRANGED = {aten.view.default: aten.reshape.default, aten._unsafe_view.default: aten.reshape.default}


# They leave every number what it is.
_PLACES = {"aten.view", "aten._unsafe_view", "aten.unsqueeze", "aten.permute", "aten.clone"}


@dataclass(frozen=True)
class _Instruction:
    """One operator of the primal pass."""

    node: Node
    target: Any
    args: Any
    kwargs: Any
    stage: int | None
    """Which residual it makes."""
    frees: tuple[Node, ...]


class Lowered:
    """The primal pass of a generator at one batch size, and its tangent programs.

    Args:
        captured: its graph.
        compute: dtype of the matrix products and convolutions of tangents; None for that of the tangents.
        lean: keep no rearranged copies of weights that are larger than they.
    """

    def __init__(self, captured: Capture, compute: torch.dtype | None = None, lean: bool = False) -> None:
        self._inputs, self._output = captured.inputs, captured.output
        self.batch = captured.operands[self._inputs[0]][0].shape[0]
        constants = {
            node: operands[0].value
            for node, operands in captured.operands.items()
            if len(operands) == 1 and operands[0].kind == "constant"
        }
        self.constant = not captured.operands[captured.output][0].active
        slots = _slots(captured)
        used = _reaching(captured)
        links: list[Link] = []
        nodes: list[Node] = []
        for node in captured.graph.nodes:
            if node in used and node.op == "call_function" and node.target is not operator.getitem:
                call = captured.call(node)
                if call.active and any(out.active for out in call.outputs):
                    stage = stage_of(call)
                    stage.compute, stage.lean = compute, lean
                    inputs = tuple(slots[operand] for operand in call.active)
                    outputs = tuple(slots[out] for out in call.outputs[: stage.outputs])
                    links.append(Link(stage, inputs, outputs, (len(links),), (_name(call),)))
                    nodes.append(node)
        self.unfused = links
        """One link for every operator with a tangent, before neighbours were made one."""
        self.residual_bytes = 0
        """Of what `primal` keeps for the links, once it was run."""
        self._instructions = _primal_plan(captured, used, constants, nodes)
        needed = {source for step in self._instructions for source in step.node.all_input_nodes}
        needed.add(self._output)
        self._constants = {node: value for node, value in constants.items() if node in needed}
        self.links: list[Link] = []
        if not self.constant:
            shapes = self.shapes = _shapes(slots)
            ends = slots[captured.operands[self._inputs[0]][0]], slots[captured.operands[self._output][0]]
            self.ends = ends
            self.links = gather_perceptrons(fuse(links, ends[1]), ends[1])
            for part in [part for link in self.links for part in link.parts if len(link.parts) > 1]:
                if isinstance(rectifier := links[part].stage, Rectifier):
                    rectifier.keeps_bits = False  # they would be multiplied out
            itemsize = self._itemsize = captured.operands[self._output][0].dtype.itemsize
            self.push = Program(self.links, shapes, *ends, itemsize)
            self.pull = Program(self.links, shapes, *ends, itemsize, transposed=True)

    def bytes_of(self, slots: Sequence[int]) -> int:
        """Of the tangents in these slots, for one probe."""
        return sum(math.prod(self.shapes[slot]) for slot in slots) * self._itemsize

    @cached_property
    def push_bytes(self) -> int:
        """Of weights that stages have rearranged for the primal pass and for ``push``."""
        rearranged = sum(link.stage.primal_bytes for link in self.unfused)
        rearranged += sum(link.stage.push_bytes for link in self.links)
        return rearranged if self.constant else rearranged + self.push.active_bytes

    @cached_property
    def pull_bytes(self) -> int:
        """Of those for ``pull``, besides."""
        rearranged = sum(link.stage.pull_bytes for link in self.links)
        return rearranged if self.constant else rearranged + self.pull.active_bytes

    @cached_property
    def stages(self) -> list[tuple[type, tuple[str, ...]]]:
        """What the links are made of."""
        return [(type(link.stage), link.ops) for link in self.links]

    @cached_property
    def perceptron(self) -> Perceptron | None:
        """The stage that makes up the whole program, but for where samples have their numbers."""
        if not self.links:
            return None
        first, *others = self.links
        slot = first.outputs[0]
        for link in others:
            if link.inputs != (slot,) or not _PLACES.issuperset(link.ops):
                return None
            slot = link.outputs[0]
        whole = first.inputs == self.ends[:1] and slot == self.ends[1]
        return first.stage if whole and isinstance(first.stage, Perceptron) else None

    def primal(self, *inputs: Tensor) -> tuple[Tensor, list[Residual]]:
        """Samples [B, D], and what every link needs of this batch."""
        values: dict[Node, Any] = dict(self._constants)
        values.update(zip(self._inputs, inputs, strict=True))
        made: list[Residual] = [()] * len(self.unfused)
        for step in self._instructions:
            args = map_arg(step.args, values.__getitem__)
            kwargs = map_arg(step.kwargs, values.__getitem__) if step.kwargs else {}
            if step.stage is None:
                values[step.node] = step.target(*args, **kwargs)
            else:
                stage = self.unfused[step.stage].stage
                values[step.node], made[step.stage] = stage.primal(step.target, args, kwargs)
            for node in step.frees:
                del values[node]
        residuals = [link.stage.join([made[i] for i in link.parts]) for link in self.links]
        if not self.residual_bytes:
            self.residual_bytes = _bytes_of_storages(residuals)
        return values[self._output], residuals


def _bytes_of_storages(residuals: Sequence[Residual]) -> int:
    """Of the memory that they lie in: views of one tensor keep all of it."""
    storages = [part.untyped_storage() for residual in residuals for part in residual]
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _name(call: Call) -> str:
    return str(call.op).removesuffix(".default")


def _slots(captured: Capture) -> dict[Any, int]:
    """A number for every operand with a tangent; an item of a tuple is the operand it was made as."""
    slots: dict[Any, int] = {}
    for node, operands in captured.operands.items():
        if node.target is operator.getitem:
            source = captured.operands[node.args[0]][node.args[1]]  # type: ignore[index]
            slots[operands[0]] = slots[source]
        else:
            for operand in operands:
                slots[operand] = len(slots)
    return slots


def _shapes(slots: dict[Any, int]) -> list[tuple[int, ...]]:
    shapes: list[tuple[int, ...]] = [()] * (max(slots.values()) + 1)
    for operand, slot in slots.items():
        shapes[slot] = tuple(operand.shape)
    return shapes


def _reaching(captured: Capture) -> set[Node]:
    """Nodes that the samples depend on."""
    reached: set[Node] = set()
    todo = [captured.output]
    while todo:
        node = todo.pop()
        if node not in reached:
            reached.add(node)
            todo.extend(node.all_input_nodes)
    return reached


def _primal_plan(
    captured: Capture, used: set[Node], constants: dict[Node, Tensor | None], linked: Sequence[Node]
) -> list[_Instruction]:
    stage_of_node = {node: i for i, node in enumerate(linked)}
    run = [
        node
        for node in captured.graph.nodes
        if node in used
        and node.op == "call_function"
        and node not in constants
        and not _folded(captured, node)
    ]
    last_use = {captured.output: len(run)}
    for i, node in reversed(list(enumerate(run))):
        for source in node.all_input_nodes:
            last_use.setdefault(source, i)
    return [
        _Instruction(
            node,
            _REARRANGED.get(node.target, node.target),
            node.args,
            node.kwargs,
            stage_of_node.get(node),
            tuple(source for source in set(node.all_input_nodes) if last_use[source] == i),
        )
        for i, node in enumerate(run)
    ]


def _folded(captured: Capture, node: Node) -> bool:
    """An item of a constant tuple."""
    return captured.operands[node][0].kind == "constant"
