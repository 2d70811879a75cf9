"""Convolutions and what multiplies their every number behind them, run as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from torch import Tensor

from polarity_ext import ChainedConvolution, ConvolutionChain
from polarity_sampling.jacobian.active import ActiveTail, work_of
from polarity_sampling.jacobian.rules.convolution import Convolution
from polarity_sampling.jacobian.rules.convolution_forms import ToFew, Winograd
from polarity_sampling.jacobian.rules.pointwise import Pointwise, Rectifier
from polarity_sampling.jacobian.stage import Residual, Stage


@dataclass(frozen=True)
class Scaled:
    """A convolution by a fixed weight, and the factor of every number behind it, if there is one."""

    convolution: Convolution
    scale: Pointwise | None

    def apply(self, t: Tensor, factor: Tensor | None, owned: bool, transposed: bool) -> Tensor:
        """One after the other."""
        convolution, scale = self.convolution, self.scale
        (t,) = convolution.pull((), [t], owned) if transposed else convolution.push((), [t], owned)
        if scale is not None:
            assert factor is not None
            (t,) = scale.pull((factor,), [t], True) if transposed else scale.push((factor,), [t], True)
        return t

    def chained(self, transposed: bool) -> ChainedConvolution | None:
        """As one kernel; None where the form of the convolution has none that multiplies what it writes."""
        form, scale = self.convolution.form(transposed), self.scale
        if isinstance(form, Winograd):
            if scale is None:
                return form.chained()
            return (
                form.chained(scale.slopes) if isinstance(scale, Rectifier) and scale.channels_last else None
            )
        of_results = scale is None or not isinstance(scale, Rectifier)
        return form.chained() if isinstance(form, ToFew) and of_results else None

    def takes(self, t: Tensor, factor: Tensor | None, transposed: bool) -> bool:
        """Whether the kernel is for tangents [L, B, *] of so many images, and for the factor as it is."""
        form, scale = self.convolution.form(transposed), self.scale
        if isinstance(form, Winograd) and t.shape[0] * t.shape[1] < form.enough:
            return False
        if scale is None or factor is None or isinstance(scale, Rectifier):
            return True
        return factor.shape == scale.shape and factor.dtype == t.dtype


class Convolutions(Stage):
    """One behind the other, in as few calls as their forms allow and each in one pass over the tangents.

    In a transposed program a convolution is the one that its factor feeds: there, too, it comes first.
    The first one has a factor: tangents that all samples share differ from sample to sample behind it.
    """

    broadcasts = True

    def __init__(self, parts: Sequence[Scaled]) -> None:
        self.parts = list(parts)
        self._tail: ActiveTail | None = None
        self._heads: dict[int, list[_Group]] = {}
        first = parts[0].scale
        assert first is not None
        self._batch = first.shape[0]
        self._whole = 0.0

    def settle(self, residual: Residual, transposed: bool) -> None:
        """Chooses which convolutions leave out inactive units, by those of calibration latents."""
        parts = [(part.convolution, part.scale) for part in self.parts]
        tail = ActiveTail(parts, transposed, self._factors(residual))
        self._tail = tail if tail.is_of_use else None
        self._whole = sum(work_of(part.convolution, transposed) for part in self.parts)

    def work(self, probes: int) -> float:
        """Of what is chosen."""
        one = (probes + 1) * self._whole if self._tail is None else self._tail.work(probes)
        return self._batch * one

    @property
    def active_bytes(self) -> int:
        """Of weights rearranged for what leaves out inactive units."""
        return 0 if self._tail is None else self._tail.bytes

    @property
    def whole(self) -> int:
        """How many of the convolutions, the first ones, yield all units where tangents fill a register."""
        start = None if self._tail is None else self._tail.start_of_some
        return len(self.parts) if start is None else start

    def _factors(self, residual: Residual) -> list[Tensor | None]:
        kept = iter(residual)
        return [None if part.scale is None else next(kept) for part in self.parts]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        """``residual``: the one tensor of every part that has a factor."""
        return (self._run(residual, tangents[0], owned, False),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (self._run(residual, u, owned, True),)

    @cached_property
    def _pushed(self) -> "list[_Group]":
        return _groups(self.parts, False)

    @cached_property
    def _pulled(self) -> "list[_Group]":
        return _groups(self.parts, True)

    def _run(self, residual: Residual, t: Tensor, owned: bool, transposed: bool) -> Tensor:
        given = self._factors(residual)
        tail, start = self._tail, None
        if tail is not None and self._match(given, t):
            start = tail.start(t.shape[0], shared=t.shape[1] != self._batch)
        if tail is not None and start is not None:
            if start > 0:
                t = self._run_groups(given, t, owned, self._head(start, transposed), transposed)
            before = given[start - 1] if start > 0 else None
            return tail.apply(start, t, [before, *given[start:]])
        return self._run_groups(given, t, owned, self._pulled if transposed else self._pushed, transposed)

    def _head(self, start: int, transposed: bool) -> "list[_Group]":
        """The convolutions before part ``start``, without the factor behind the last one."""
        if start not in self._heads:
            *others, last = self.parts[:start]
            self._heads[start] = _groups([*others, Scaled(last.convolution, None)], transposed)
        return self._heads[start]

    def _match(self, factors: Sequence[Tensor | None], t: Tensor) -> bool:
        """Whether all factors but those of rectifiers are numbers of every result, in the dtype of t."""
        numbers = [
            (part.scale, factor)
            for part, factor in zip(self.parts, factors, strict=True)
            if part.scale is not None and factor is not None and not isinstance(part.scale, Rectifier)
        ]
        return all(factor.shape == scale.shape and factor.dtype == t.dtype for scale, factor in numbers)

    def _run_groups(
        self,
        given: Sequence[Tensor | None],
        t: Tensor,
        owned: bool,
        groups: "list[_Group]",
        transposed: bool,
    ) -> Tensor:
        kept = iter(given)
        for parts, chain in groups:
            here = zip(parts, kept)  # noqa: B905 (the factors of the next group stay)
            factors = [None if part.scale is None else factor for part, factor in here]
            if chain is not None and self._fits(parts, factors, t, transposed):
                t = chain(t, factors)
                continue
            for part, factor in zip(parts, factors, strict=True):
                t = part.apply(t, factor, owned, transposed)
                owned = True
        return t

    def _fits(
        self, parts: Sequence[Scaled], factors: Sequence[Tensor | None], t: Tensor, transposed: bool
    ) -> bool:
        if t.shape[1] != self._batch:
            return False
        return all(part.takes(t, factor, transposed) for part, factor in zip(parts, factors, strict=True))


_Group = tuple[list[Scaled], ConvolutionChain | None]


def _groups(parts: Sequence[Scaled], transposed: bool) -> list[_Group]:
    """Neighbours that go together, and the call that they are; None: their forms are of other kinds."""
    kernels = [part.chained(transposed) for part in parts]
    found: list[_Group] = []
    for is_chain, places in groupby(range(len(parts)), lambda i: kernels[i] is not None):
        here = list(places)
        chain = ConvolutionChain([k for i in here if (k := kernels[i]) is not None]) if is_chain else None
        found.append(([parts[i] for i in here], chain))
    return found


def joined(first: Stage, second: Stage) -> Convolutions | None:
    """One stage for two, of which the second alone reads what the first one writes; None: there is none."""
    scale = second if isinstance(second, Pointwise) and second.keeps_shape and second.fixed is None else None
    if isinstance(first, Convolution):
        return Convolutions([Scaled(first, scale)]) if scale is not None and _is_fixed(first) else None
    if isinstance(first, Convolutions):
        *others, last = first.parts
        if isinstance(second, Convolution) and _is_fixed(second):
            return Convolutions([*first.parts, Scaled(second, None)])
        if scale is not None and last.scale is None:
            return Convolutions([*others, Scaled(last.convolution, scale)])
    return None


def _is_fixed(convolution: Convolution) -> bool:
    return convolution.weight is not None and convolution.any_batch
