"""Chains of linear layers and activations as one stage, which leaves out what is inactive at a latent.

The derivative of a ReLU is exactly zero for half of the units of a layer and more: the tangents of one latent
need only some rows of one matrix, and of the next one only the columns that these feed.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from torch import Tensor

import polarity_ext
from polarity_sampling.jacobian.program import Link
from polarity_sampling.jacobian.rules.contraction import Product
from polarity_sampling.jacobian.rules.pointwise import Pointwise
from polarity_sampling.jacobian.stage import Residual, Stage

_MOST_LAYERS = 8  # of one call of the op
# On a GPU the library's matrix products leave nothing out, but are as fast where so much of it is left; and
# for fewer multiplications one launch is faster than several. Assumed, from two networks on an H200.
_LEFT_ON_GPU = 0.5
_MOST_ON_GPU = 1 << 28


class GramWork(NamedTuple):
    """Multiplications that the Gram matrix of some products takes at one latent, roughly.

    Those in float64 count twice: half as many are in a vector.
    """

    checked: float
    """Of products in float32, one of which is formed in float64, too."""
    float64: float
    """Of products in float64."""
    layer: float
    """In float64 without the products of the last layer: `Perceptron.gram`."""


class Perceptron(Stage):
    """Linear layers by constant matrices, each followed by a factor of every unit or by none."""

    broadcasts = any_strides = True

    def __init__(self, links: Sequence[Link]) -> None:
        matrices = [link.stage.matrix for link in links if isinstance(link.stage, Product)]
        # [in, out], [out, in] in memory: each direction reads rows from end to end.
        self._push = [matrix.contiguous().mT for matrix in matrices]
        self._pull = [matrix.mT.contiguous() for matrix in matrices]
        self.push_bytes = self.pull_bytes = sum(matrix.nbytes for matrix in matrices)
        self.flops = sum(link.stage.flops for link in links)
        self.widest_hidden = max(matrix.shape[1] for matrix in matrices[:-1])
        self._rows = next(link.stage.shape[0] for link in links if isinstance(link.stage, Pointwise))
        self._activations = _activations(links)
        self._left = 1.0

    def join(self, residuals: Sequence[Residual]) -> Residual:
        """Factors [B, width], one for every layer."""
        factors = []
        for weight, activation in zip(self._pull, self._activations, strict=True):
            if activation is None:
                factors.append(weight.new_ones(self._rows, weight.shape[0]))
                continue
            stage, parts = activation
            factor = stage.dense(stage.join(residuals[parts]))
            if factor.shape != stage.shape:
                factor = factor.expand(stage.shape)
            factors.append(factor.contiguous())
        return tuple(factors)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        t = _shared(tangents[0])
        if not self._by_library(t):
            return (polarity_ext.mlp_tangents(t, self._push, residual),)
        for matrix, factor, activation in zip(self._push, residual, self._activations, strict=True):
            t = t @ matrix.mT
            if t.ndim == 2:  # of all samples until now
                t = t[:, None] * factor
            elif activation is not None:
                t = t.mul_(factor)
        return (t,)

    def gram(self, residual: Residual, tangents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `polarity_ext.mlp_gram` gives: of all that `push` would return, which is not formed."""
        return polarity_ext.mlp_gram(_shared(tangents[0]), self._push, residual)

    def gram_work(self, residual: Residual, probes: int) -> GramWork:
        """Of so many products, at the samples of the residual."""
        active = [(factor != 0).sum(1).double() for factor in residual]
        before = [active[0].new_zeros(()), *active]  # products with the first matrix serve all samples
        *inner, outer = [float((a * b).mean()) for a, b in zip(before[:-1], active, strict=True)]
        hidden, last, outputs = sum(inner), active[-2], active[-1]
        squares = float((outputs * probes * (probes + 1)).mean())
        behind = float((outputs * last * (last + 1) + last * probes * (2 * last + probes)).mean())
        if self.widest_hidden > 2 * self._push[-1].shape[0]:
            behind = math.inf  # what it keeps would outgrow what is spared
        return GramWork(
            checked=(probes + 2) * (hidden + outer) + squares,
            float64=2 * probes * (hidden + outer) + squares,
            layer=2 * probes * hidden + behind,
        )

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        t = _shared(u)
        if not self._by_library(t):
            return (polarity_ext.mlp_cotangents(t, self._pull, residual),)
        layers = zip(self._pull, residual, self._activations, strict=True)
        for matrix, factor, activation in reversed(list(layers)):
            if t.ndim == 2:
                t = t[:, None] * factor
            elif activation is not None:
                t = t * factor if t is u else t.mul_(factor)
            t = t @ matrix
        return (t,)

    def settle(self, residual: Residual, transposed: bool) -> None:
        """Finds out what the kernels leave out at calibration latents."""
        active = [(factor != 0).sum(1).double() for factor in residual]
        before = [active[0].new_full((), self._push[0].shape[1]), *active]
        left = sum(float((a * b).mean()) for a, b in zip(before[:-1], active, strict=True))
        self._left = left / self._multiplications

    def work(self, probes: int) -> float:
        """Of what is not left out."""
        return self._left * self._rows * self._multiplications * (probes + 1)

    @property
    def _multiplications(self) -> int:
        """Of one sample and probe."""
        return sum(matrix.numel() for matrix in self._push)

    def _by_library(self, probes: Tensor) -> bool:
        """Whether the library is faster for probes [L, B or none, *]."""
        if probes.device.type == "cpu":
            return False
        count = probes.shape[0]
        tile = next(size for size in (8, 16, 32) if count <= size or size == 32)  # of the kernels
        left = self._left * (-(-count // tile) * tile) / count
        return left > _LEFT_ON_GPU and count * self._rows * self._multiplications > _MOST_ON_GPU


def _activations(links: Sequence[Link]) -> list[tuple[Pointwise, slice] | None]:
    """Behind every layer: the activation and which of the chain's residuals it needs, or None."""
    found: list[tuple[Pointwise, slice] | None] = []
    start = 0
    for link in links:
        parts = slice(start, start + len(link.parts))
        if isinstance(link.stage, Pointwise):
            found[-1] = link.stage, parts
        else:
            found.append(None)
        start = parts.stop
    return found


def _shared(probes: Tensor) -> Tensor:
    """Probes [L, 1, K] as [L, K]."""
    return probes[:, 0] if probes.shape[1] == 1 else probes


def gather_perceptrons(links: Sequence[Link], target: int) -> list[Link]:
    """The same map, chains of at least two linear layers made one. ``target`` is the slot of the result."""
    readers = Counter(slot for link in links for slot in link.inputs)
    readers[target] += 1
    gathered: list[Link] = []
    chain: list[Link] = []
    for link in links:
        only = bool(chain) and link.inputs == chain[-1].outputs and readers[link.inputs[0]] == 1
        if not (only and _continues(chain, link.stage)):
            gathered += _closed(chain)
            chain = []
        chain.append(link)
    return gathered + _closed(chain)


def _continues(chain: Sequence[Link], stage: Stage) -> bool:
    """Whether a chain that begins with a layer may go on with this stage."""
    if not _is_layer(chain[0].stage):
        return False
    return (
        _layers(chain) < _MOST_LAYERS if _is_layer(stage) else _is_activation(stage, behind=chain[-1].stage)
    )


def _closed(chain: Sequence[Link]) -> list[Link]:
    if _layers(chain) < 2 or _layers(chain) == len(chain):
        return list(chain)
    parts = tuple(part for link in chain for part in link.parts)
    ops = tuple(op for link in chain for op in link.ops)
    return [replace(chain[0], stage=Perceptron(chain), outputs=chain[-1].outputs, parts=parts, ops=ops)]


def _layers(chain: Sequence[Link]) -> int:
    return sum(_is_layer(link.stage) for link in chain)


def _is_layer(stage: Stage) -> bool:
    """By a matrix that all samples share, in the precision of the tangents."""
    return isinstance(stage, Product) and stage.weight is not None and stage.compute is None


def _is_activation(stage: Stage, behind: Stage) -> bool:
    """A factor of its own for every sample and unit."""
    varies = isinstance(stage, Pointwise) and stage.keeps_shape and stage.fixed is None
    return varies and _is_layer(behind)
