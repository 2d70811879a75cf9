"""Convolutions and what multiplies their every number behind them, run as one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

from torch import Tensor

from polarity_ext import ChainedConvolution, ConvolutionChain
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
        first = parts[0].scale
        assert first is not None
        self._batch = first.shape[0]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        """``residual``: the one tensor of every part that has a factor."""
        return (self._run(residual, tangents[0], owned, self._pushed, False),)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (self._run(residual, u, owned, self._pulled, True),)

    @cached_property
    def _pushed(self) -> "list[_Group]":
        return _groups(self.parts, False)

    @cached_property
    def _pulled(self) -> "list[_Group]":
        return _groups(self.parts, True)

    def _run(
        self, residual: Residual, t: Tensor, owned: bool, groups: "list[_Group]", transposed: bool
    ) -> Tensor:
        kept = iter(residual)
        for parts, chain in groups:
            factors = [None if part.scale is None else next(kept) for part in parts]
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
