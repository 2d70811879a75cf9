"""Chains of linear layers and activations as one stage, which leaves out what is inactive at a latent.

The derivative of a ReLU is exactly zero for half of the units of a layer and more: the tangents of one latent
need only some rows of one matrix, and of the next one only the columns that these feed.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor

import polarity_ext
from polarity_sampling.jacobian.program import Link
from polarity_sampling.jacobian.rules.contraction import Product
from polarity_sampling.jacobian.rules.pointwise import Pointwise
from polarity_sampling.jacobian.stage import Residual, Stage

_MOST_LAYERS = 8  # of one call of the op


class Perceptron(Stage):
    """Linear layers by constant matrices, each followed by a factor of every unit or by none."""

    broadcasts = any_strides = True

    def __init__(self, links: Sequence[Link]) -> None:
        self._links = list(links)
        matrices = [link.stage.matrix for link in links if isinstance(link.stage, Product)]
        # [in, out], [out, in] in memory: each direction reads rows from end to end.
        self._push = [matrix.contiguous().mT for matrix in matrices]
        self._pull = [matrix.mT.contiguous() for matrix in matrices]
        self.push_bytes = self.pull_bytes = sum(matrix.nbytes for matrix in matrices)
        self.flops = sum(link.stage.flops for link in links)
        self.widest_hidden = max(matrix.shape[1] for matrix in matrices[:-1])
        self._rows = next(link.stage.shape[0] for link in links if isinstance(link.stage, Pointwise))

    def join(self, residuals: Sequence[Residual]) -> Residual:
        """Factors [B, width], one for every layer."""
        left = iter(residuals)
        factors: list[Tensor] = []
        for link, following in zip(self._links, [*self._links[1:], None], strict=True):
            residual = link.stage.join([next(left) for _ in link.parts])
            if isinstance(link.stage, Pointwise):
                factors.append(link.stage.dense(residual).expand(link.stage.shape).contiguous())
            elif following is None or not isinstance(following.stage, Pointwise):
                weight = self._pull[len(factors)]
                factors.append(weight.new_ones(self._rows, weight.shape[0]))
        return tuple(factors)

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        return (polarity_ext.mlp_tangents(_shared(tangents[0]), self._push, residual),)

    def gram(self, residual: Residual, tangents: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """What `polarity_ext.mlp_gram` gives: of all that `push` would return, which is not formed."""
        return polarity_ext.mlp_gram(_shared(tangents[0]), self._push, residual)

    def gram_share(self, residual: Residual, probes: int) -> float:
        """Time of `gram` in float64 in parts of that of a Gram matrix of `push` in float32, roughly.

        By multiplications, of which float64 has half as many in a vector. At the samples of the residual.
        """
        if self.widest_hidden > 2 * self._push[-1].shape[0]:
            return math.inf  # what it keeps would outgrow what is spared
        active = [(factor != 0).sum(1).double() for factor in residual]
        before = [active[0].new_zeros(()), *active]  # products with the first matrix serve all samples
        inner = sum((a * b).mean() for a, b in zip(before[:-2], active[:-1], strict=True)) * probes
        last, outputs = active[-2], active[-1]
        behind = outputs * last * (last + 1) / 2 + last * probes * (last + probes / 2)
        formed = outputs * last * probes + outputs * probes * (probes + 1)
        return float((2 * inner + 2 * behind.mean()) / (inner + formed.mean()))

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        return (polarity_ext.mlp_cotangents(_shared(u), self._pull, residual),)


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
