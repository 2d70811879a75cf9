"""A sequence of linear stages, its transpose, and how either is run in little memory."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from polarity_ext.ops.layout import is_dense
from polarity_sampling.jacobian.epilogue import scaled
from polarity_sampling.jacobian.stage import Residual, Stage


@dataclass(frozen=True)
class Link:
    """A stage between slots; every slot holds the tangent of one tensor of the graph."""

    stage: Stage
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    parts: tuple[int, ...] = ()
    """The calls whose residuals it needs."""
    ops: tuple[str, ...] = ()
    """All operators that it stands for."""


class Sum(Stage):
    """Adds up the cotangents that a tensor gets from those who used it."""

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        first, second, *rest = tangents
        total = first.add_(second) if owned and is_dense(first) else first + second
        for term in rest:
            total.add_(term)
        return (total,)


@dataclass(frozen=True)
class _Step:
    """One stage as the machine runs it."""

    link: int | None
    """Whose residual it needs; None for a `Sum`."""
    apply: Callable[[Residual, Sequence[Tensor | None], bool], Sequence[Tensor]]
    """The stage's ``push`` or ``pull``."""
    shares: bool
    """What it returns may lie in the memory of what it was given."""
    reads: tuple[int | None, ...]
    writes: tuple[int, ...]
    owned: bool
    """Nobody else needs the memory of the first operand."""
    frees: tuple[int, ...]
    expands: tuple[int, ...]
    """Operands that all samples still share, where the stage needs those of every sample."""


class Program:
    """Runs links forwards or, transposed, backwards.

    Args:
        links: in topological order.
        shapes: of every slot, without the probes.
        source: slot of the latents; target: slot of the samples.
        transposed: run from target to source.
    """

    def __init__(
        self,
        links: Sequence[Link],
        shapes: Sequence[tuple[int, ...]],
        source: int,
        target: int,
        itemsize: int,
        *,
        transposed: bool = False,
    ) -> None:
        self.transposed = transposed
        self._batch = shapes[source][0]
        self._shapes = list(shapes)
        if transposed:
            plan = _transpose(links, source, target, self._shapes)
            self._entry, self._exit = target, source
        else:
            plan = [(i, link.stage, tuple(link.inputs), link.outputs) for i, link in enumerate(links)]
            self._entry, self._exit = source, target
        plan = _merged(plan, self._exit)
        self._steps = self._schedule(plan)
        self.any_strides = self._takes_any_strides(plan)
        """Takes probes in any layout of memory."""
        self.bytes_per_probe = self._peak() * itemsize
        self.largest = max(self._size(slot) for step in self._steps for slot in step.writes) * itemsize
        """Bytes of the largest tangent, for one probe."""

    def run(self, residuals: Sequence[Residual], probes: Tensor) -> Tensor:
        """Probes [L, B, *], or [L, 1, *] for the same at every sample -> [L, B, *]."""
        values: list[Tensor | None] = [None] * len(self._shapes)
        values[self._entry] = probes
        shared = probes.shape[1] != self._batch
        for step in self._steps:
            operands = [None if slot is None else values[slot] for slot in step.reads]
            owned = step.owned
            if shared and step.expands:
                operands = [
                    self._expanded(t, step.shares) if t is not None and i in step.expands else t
                    for i, t in enumerate(operands)
                ]
                owned = False
            residual = () if step.link is None else residuals[step.link]
            results = step.apply(residual, operands, owned)
            del operands
            for slot, result in zip(step.writes, results, strict=True):
                values[slot] = result
            for slot in step.frees:
                values[slot] = None
        found = values[self._exit]
        assert found is not None
        return found

    def _expanded(self, tangent: Tensor, shares: bool) -> Tensor:
        full = tangent.expand(-1, self._batch, *tangent.shape[2:])
        # What lies in shared memory must not be written to later on.
        return full.contiguous() if shares else full

    def _schedule(self, plan: "list[_Planned]") -> list[_Step]:
        last_use = {self._exit: len(plan)}
        for i, (_, _, reads, _) in reversed(list(enumerate(plan))):
            for slot in reads:
                if slot is not None:
                    last_use.setdefault(slot, i)
        memory: dict[int, set[int]] = {self._entry: {self._entry}}  # slot -> buffers it may lie in
        shared = {self._entry}
        steps = []
        for i, (link, stage, reads, writes) in enumerate(plan):
            given = [slot for slot in reads if slot is not None]
            backwards = self.transposed and link is not None
            shares = stage.pull_shares if backwards else stage.push_shares
            sharing = set().union(*(memory[slot] for slot in given)) if shares else set()
            first = memory[given[0]]
            others = [s for s in memory if last_use.get(s, -1) > i or (s in given and s != given[0])]
            owned = (
                reads[0] is not None
                and last_use[given[0]] == i
                and given.count(given[0]) == 1
                and self._entry not in first
                and not any(first & memory[s] for s in others)
            )
            for slot in writes:
                # A buffer that was overwritten lives on in the result.
                memory[slot] = {slot} | sharing | (first if owned else set())
            everyone = all(slot in shared for slot in given)
            stays = everyone and stage.any_batch
            if stays:
                shared.update(writes)
            alike = stays or stage.broadcasts
            expands = () if alike else tuple(i for i, slot in enumerate(reads) if slot in shared)
            unused = [slot for slot in writes if slot not in last_use]
            frees = tuple({slot for slot in given if last_use[slot] == i} | set(unused))
            for slot in frees:
                memory.pop(slot, None)
            apply: Any = stage.pull if backwards else stage.push
            steps.append(_Step(link, apply, shares, reads, writes, owned, frees, expands))
        return steps

    def _takes_any_strides(self, plan: "list[_Planned]") -> bool:
        """Whether all stages do that get the probes, or views of them."""
        views = {self._entry}
        for _, stage, reads, writes in plan:
            if views.isdisjoint(reads):
                continue
            if not stage.any_strides:
                return False
            if stage.pull_shares if self.transposed else stage.push_shares:
                views.update(writes)
        return True

    def _peak(self) -> int:
        """The most elements alive at once for one probe, with a temporary for every operand of a stage."""
        alive, peak = {self._entry}, 0
        for step in self._steps:
            given = [slot for slot in step.reads if slot is not None]
            alive.update(step.writes)
            temporary = 0 if step.owned else sum(self._size(slot) for slot in given)
            peak = max(peak, sum(self._size(slot) for slot in alive) + temporary)
            alive.difference_update(step.frees)
        return max(peak, self._size(self._entry))

    def _size(self, slot: int) -> int:
        return math.prod(self._shapes[slot])


_Planned = tuple[int | None, Stage, tuple[int | None, ...], tuple[int, ...]]


def _merged(plan: list[_Planned], exit_: int) -> list[_Planned]:
    """Neighbours that run as one, in this direction; what the first one wrote is seen by nobody else."""
    readers = Counter(slot for _, _, reads, _ in plan for slot in reads)
    readers[exit_] += 1
    merged: list[_Planned] = []
    for link, stage, reads, writes in plan:
        if merged and reads == merged[-1][3] and readers[reads[0]] == 1:
            _, first, given, _ = merged[-1]
            both = scaled(first, stage)
            if both is not None:
                merged[-1] = link, both, given, writes
                continue
        merged.append((link, stage, reads, writes))
    return merged


def _transpose(
    links: Sequence[Link], source: int, target: int, shapes: list[tuple[int, ...]]
) -> list[_Planned]:
    """The links backwards; a slot read by several gets a slot for each of its cotangents, and their sum."""
    plan: list[_Planned] = []
    parts: dict[int, list[int]] = defaultdict(list)
    parts[target].append(target)

    def collect(slot: int) -> int | None:
        found = parts[slot]
        if len(found) > 1:
            total = _new(shapes, slot)
            plan.append((None, Sum(), tuple(found), (total,)))
            return total
        return found[0] if found else None

    for i, link in reversed(list(enumerate(links))):
        reads = tuple(collect(slot) for slot in link.outputs)
        if all(slot is None for slot in reads):
            continue
        writes = []
        for slot in link.inputs:
            part = _new(shapes, slot)
            parts[slot].append(part)
            writes.append(part)
        plan.append((i, link.stage, reads, tuple(writes)))
    final = collect(source)
    assert final is not None
    return [
        (i, stage, reads, tuple(source if slot == final else slot for slot in writes))
        for i, stage, reads, writes in plan
    ]


def _new(shapes: list[tuple[int, ...]], slot: int) -> int:
    shapes.append(shapes[slot])
    return len(shapes) - 1
