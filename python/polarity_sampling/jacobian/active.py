"""Which convolutions of a stage leave out inactive units: settled once, on calibration latents.

The derivative of a ReLU is exactly zero for half of the units and more, the same ones for all tangents of a
latent. `polarity_ext.ActiveConvolutions` multiplies and computes only the others. Filtering of whole images
takes fewer multiplications than their plain sum, but all of them: which of the two is less work depends on
the kernels, and on how many units of the network are active.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from polarity_ext import ActiveConvolution, ActiveConvolutions, active_weight
from polarity_sampling.jacobian.rules.convolution import Convolution
from polarity_sampling.jacobian.rules.convolution_forms import pace
from polarity_sampling.jacobian.rules.pointwise import COMPILED, FEW_CHANNELS, Pointwise, Rectifier

# Multiplications of active units in the time of one of a matrix product, with all registers full of probes.
_PACE = 0.55
_REGISTER = 64  # bytes of AVX-512; fewer probes fill those of a lesser set
_TOGETHER = 4  # registers of probes for which a weight is read
_READING = 1.0  # takes as long as multiplying by so many of them; assumed, from three networks on one machine

Part = tuple[Convolution, Pointwise | None]
"""A convolution by a fixed weight, and what multiplies its results."""


class ActiveTail:
    """The last of some convolutions one behind the other: from which on inactive units are left out.

    Args:
        parts: in the order of tangents or, transposed, of cotangents.
        factors: of the parts at calibration latents, as stages keep them.
    """

    def __init__(self, parts: Sequence[Part], transposed: bool, factors: Sequence[Tensor | None]) -> None:
        self._parts = list(parts)
        self._kernels = [_kernel(*part, transposed) for part in parts]
        # Of one sample and probe, by part: multiplications, weighed by the time that they take.
        self._whole = [work_of(convolution, transposed) for convolution, _ in parts]
        self._active = self._work_of_active_units(factors, transposed)
        self._starts = [i for i in range(len(parts)) if i == 0 or not _is_leaky(parts[i - 1][1])]
        weight = parts[-1][0].weight
        assert weight is not None
        self._fill = _REGISTER // weight.element_size()
        first = self.start(_TOGETHER * self._fill, shared=False)
        if first is not None:  # with fewer tangents it begins later, or not at all
            self._kernels[:first] = [None] * first
        self._calls: dict[int, ActiveConvolutions] = {}

    def start(self, probes: int, shared: bool) -> int | None:
        """From which part on, for so many tangents; None: from none.

        Args:
            shared: the tangents are those of all samples, so that the first convolution takes no time.
        """
        return self._cheapest(probes, int(shared))[0]

    def work(self, probes: int) -> float:
        """`Stage.work` of one sample, for tangents of its own."""
        return self._cheapest(probes, 0)[1]

    def _cheapest(self, probes: int, first: int) -> tuple[int | None, float]:
        """Where to start behind part ``first``, and the work that is left then."""
        registers = -(-probes // self._fill)
        read = -(-registers // _TOGETHER)
        filled = self._fill * (registers * (_TOGETHER - _READING) / _TOGETHER + read * _READING)
        best, least = None, (probes + 1) * sum(self._whole[first:])
        for i in self._starts:
            if i < first:
                continue
            work = (probes + 1) * sum(self._whole[first:i]) + filled * sum(self._active[i:])
            if work < least:
                best, least = i, work
        return best, least

    @property
    def start_of_some(self) -> int | None:
        """Of a register full of tangents of every sample."""
        return self.start(self._fill, shared=False)

    @property
    def is_of_use(self) -> bool:
        """Whether it ever begins."""
        many = _TOGETHER * self._fill
        return any(self.start(many, shared) is not None for shared in (False, True))

    @property
    def bytes(self) -> int:
        """Of rearranged weights."""
        return sum(kernel.weight.nbytes for kernel in self._kernels if kernel is not None)

    def apply(self, start: int, t: Tensor, factors: Sequence[Tensor | None]) -> Tensor:
        """Tangents [L, B or 1, C, H, W] through part ``start`` and all behind it.

        Args:
            factors: of t, and of the results of each of these parts.
        """
        if start not in self._calls:
            self._calls[start] = self._made(start)
        last = self._kernels[-1]
        assert last is not None
        return self._calls[start](t, factors, channels_last=last.channels > FEW_CHANNELS)

    def _made(self, start: int) -> ActiveConvolutions:
        kernels = [kernel for kernel in self._kernels[start:] if kernel is not None]
        before = self._parts[start - 1][1] if start > 0 else None
        if isinstance(before, Rectifier):
            return ActiveConvolutions(kernels, slope=before.slopes[1], channels_last=before.channels_last)
        return ActiveConvolutions(kernels)

    def _work_of_active_units(self, factors: Sequence[Tensor | None], transposed: bool) -> list[float]:
        if not any(self._kernels):
            return [math.inf] * len(self._parts)
        work = []
        before: Tensor | None = None  # active units of every pixel, [B or 1, 1, H, W]
        for (convolution, scale), kernel, factor in zip(self._parts, self._kernels, factors, strict=True):
            behind = None if scale is None or factor is None else _active_units(factor, scale)
            if kernel is None:
                work.append(math.inf)
            else:
                if before is None:
                    size = convolution.directed(transposed).before
                    before = torch.full((1, 1, *size), float(kernel.weight.shape[2]), dtype=torch.float32)
                work.append(_multiplications(kernel, before, behind) / _PACE)
            before = behind
        return work


def _kernel(convolution: Convolution, scale: Pointwise | None, transposed: bool) -> ActiveConvolution | None:
    """None where units cannot be left out, by a kernel of another kind or because none are zero behind it."""
    weight, g = convolution.weight, convolution.directed(transposed)
    plain = weight is not None and weight.ndim == 4 and g.groups == 1 and set(g.dilation) == {1}
    if not plain or convolution.compute is not None or convolution.lean or len(set(g.stride)) > 1:
        return None
    assert weight is not None
    if weight.device.type != "cpu" or weight.dtype not in COMPILED:
        return None
    kernel, size, padding = ((pair[0], pair[1]) for pair in (weight.shape[2:], g.after, g.padding))
    ordered = active_weight(weight, g.stride[0], g.transposed)
    one = ActiveConvolution(ordered, kernel, size, g.stride[0], padding, g.transposed)
    if _is_leaky(scale):
        return None
    if isinstance(scale, Rectifier):
        return one._replace(slope=scale.slopes[1], channels_last=scale.channels_last)
    return one


def _is_leaky(scale: Pointwise | None) -> bool:
    return isinstance(scale, Rectifier) and scale.slopes[0] != 0


def work_of(convolution: Convolution, transposed: bool) -> float:
    """Multiplications of all units for one sample and probe, in the time of one of a matrix product."""
    weight, samples = convolution.weight, convolution.input.shape[0]
    assert weight is not None
    return convolution.flops / (2 * samples) / pace(weight, convolution.directed(transposed))


def _active_units(factor: Tensor, scale: Pointwise) -> Tensor:
    """Of every pixel, [B or 1, 1, H, W]."""
    batch, channels, *size = scale.shape
    if not isinstance(scale, Rectifier):
        return (factor != 0).sum(1, keepdim=True).float()
    if _is_leaky(scale):
        return torch.full((1, 1, *size), float(channels), dtype=torch.float32)
    bits = (factor[:, :, None] >> torch.arange(8, dtype=torch.uint8)) & 1
    units = bits.flatten(1)[:, : channels * math.prod(size)]
    if scale.channels_last:
        return units.view(batch, 1, *size, channels).sum(-1).float()
    return units.view(batch, channels, *size).sum(1, keepdim=True).float()


def _multiplications(kernel: ActiveConvolution, before: Tensor, behind: Tensor | None) -> float:
    """Of one sample and probe, on the average of those whose units were counted."""
    ones = active_weight(
        torch.ones(1, 1, *kernel.kernel, dtype=torch.float32), kernel.stride, kernel.transposed
    )
    seen = kernel._replace(weight=ones)(before)
    return float((seen * (kernel.channels if behind is None else behind)).mean(0).sum())
