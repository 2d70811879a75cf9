"""A sequence of linear stages, its transpose, and how either is run in little memory."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from torch import Tensor

from polarity_ext.ops.layout import is_dense
from polarity_sampling.jacobian.epilogue import Convolutions, joined
from polarity_sampling.jacobian.rules.convolution import Convolution
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

    links: tuple[int, ...]
    """Whose residuals it needs."""
    stage: Stage
    apply: Callable[[Residual, Sequence[Tensor | None], bool], Sequence[Tensor]]
    """The stage's ``push`` or ``pull``."""
    shares: bool
    """What it returns may lie in the memory of what it was given."""
    reads: tuple[int | None, ...]
    writes: tuple[int, ...]
    between: tuple[int, ...]
    """Slots that it goes through in turn."""
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
            plan = [_Planned((i,), link.stage, link.inputs, link.outputs) for i, link in enumerate(links)]
            self._entry, self._exit = source, target
        plan = _merged(plan, self._exit)
        self._steps = self._schedule(plan)
        self.any_strides = self._takes_any_strides(plan)
        """Takes probes in any layout of memory."""
        self.bytes_per_probe = self._peak() * itemsize
        self._itemsize = itemsize

    def settle(self, residuals: Sequence[Residual]) -> None:
        """Has stages choose how they run, by what they need of calibration latents."""
        for step in self._steps:
            step.stage.settle(_together(residuals, step.links), self.transposed)

    def work(self, probes: int) -> float:
        """`Stage.work` of all stages, for one sample."""
        return sum(step.stage.work(probes) for step in self._steps) / self._batch

    @property
    def active_bytes(self) -> int:
        """Of weights rearranged for stages that leave out inactive units."""
        stages = (step.stage for step in self._steps)
        return sum(stage.active_bytes for stage in stages if isinstance(stage, Convolutions))

    @property
    def largest(self) -> int:
        """Bytes of the largest tangent, for one probe."""
        written = [slot for step in self._steps for slot in (*_formed(step), *step.writes)]
        return max(map(self._size, written)) * self._itemsize

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
            residual = residuals[step.links[0]] if len(step.links) == 1 else _together(residuals, step.links)
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
        for i, planned in reversed(list(enumerate(plan))):
            for slot in planned.reads:
                if slot is not None:
                    last_use.setdefault(slot, i)
        memory: dict[int, set[int]] = {self._entry: {self._entry}}  # slot -> buffers it may lie in
        shared = {self._entry}
        steps = []
        for i, planned in enumerate(plan):
            stage, reads, writes = planned.stage, planned.reads, planned.writes
            given = [slot for slot in reads if slot is not None]
            backwards = self.transposed and len(planned.links) > 0
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
            steps.append(
                _Step(
                    planned.links, stage, apply, shares, reads, writes, planned.between, owned, frees, expands
                )
            )
        return steps

    def _takes_any_strides(self, plan: "list[_Planned]") -> bool:
        """Whether all stages do that get the probes, or views of them."""
        views = {self._entry}
        for planned in plan:
            stage = planned.stage
            if views.isdisjoint(planned.reads):
                continue
            if not stage.any_strides:
                return False
            if stage.pull_shares if self.transposed else stage.push_shares:
                views.update(planned.writes)
        return True

    def _peak(self) -> int:
        """The most elements alive at once for one probe, with a temporary for every operand of a stage."""
        alive, peak = {self._entry}, 0
        for step in self._steps:
            given = [slot for slot in step.reads if slot is not None]
            before = sum(self._size(slot) for slot in alive)
            inside = max((self._size(a) + self._size(b) for a, b in pairwise(step.between)), default=0)
            alive.update(step.writes)
            temporary = 0 if step.owned else sum(self._size(slot) for slot in given)
            peak = max(peak, before + inside, sum(self._size(slot) for slot in alive) + temporary)
            alive.difference_update(step.frees)
        return max(peak, self._size(self._entry))

    def _size(self, slot: int) -> int:
        return math.prod(self._shapes[slot])


@dataclass(frozen=True)
class _Planned:
    """A stage in one direction."""

    links: tuple[int, ...]
    """Whose residuals it needs; a `Sum` is none."""
    stage: Stage
    reads: tuple[int | None, ...]
    writes: tuple[int, ...]
    between: tuple[int, ...] = ()
    """Slots of those that were joined; the last one is what it writes."""


def _formed(step: _Step) -> tuple[int, ...]:
    """Those of the slots between that are written to whole."""
    return step.between[: step.stage.whole] if isinstance(step.stage, Convolutions) else step.between


def _together(residuals: Sequence[Residual], links: tuple[int, ...]) -> Residual:
    return tuple(part for link in links for part in residuals[link])


def _merged(plan: list[_Planned], exit_: int) -> list[_Planned]:
    """Neighbours that run as one, in this direction; what the first one wrote is seen by nobody else."""
    readers = Counter(slot for planned in plan for slot in planned.reads)
    readers[exit_] += 1
    merged: list[_Planned] = []
    for second in plan:
        if merged and second.reads == merged[-1].writes and readers[second.reads[0]] == 1:
            first = merged[-1]
            both = joined(first.stage, second.stage)
            if both is not None:
                # A factor is multiplied by in place.
                inner = first.between if first.between else first.writes
                between = (*inner, *second.writes) if isinstance(second.stage, Convolution) else inner
                merged[-1] = _Planned(
                    (*first.links, *second.links), both, first.reads, second.writes, between
                )
                continue
        merged.append(second)
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
            plan.append(_Planned((), Sum(), tuple(found), (total,)))
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
        plan.append(_Planned((i,), link.stage, reads, tuple(writes)))
    final = collect(source)
    assert final is not None
    return [
        replace(planned, writes=tuple(source if slot == final else slot for slot in planned.writes))
        for planned in plan
    ]


def _new(shapes: list[tuple[int, ...]], slot: int) -> int:
    shapes.append(shapes[slot])
    return len(shapes) - 1
