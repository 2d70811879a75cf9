"""Neighbouring stages made one.

Fixed scales and nearest-neighbour upsampling go into the weights of convolutions, zeros around an image into
their padding, the two halves of a separable filter into one; factors of the same elements are multiplied.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from polarity_sampling.jacobian.program import Link
from polarity_sampling.jacobian.rules.contraction import Product
from polarity_sampling.jacobian.rules.convolution import Convolution
from polarity_sampling.jacobian.rules.pointwise import Chain, Pointwise, Rectifier
from polarity_sampling.jacobian.rules.pooling import Enlargement
from polarity_sampling.jacobian.rules.shape import Padding


def fuse(links: Sequence[Link], target: int) -> list[Link]:
    """The same map in fewer passes over the tangents. ``target`` is the slot of the result."""
    readers = Counter(slot for link in links for slot in link.inputs)
    readers[target] += 1
    fused: list[Link] = []
    producer: dict[int, int] = {}
    for link in links:
        place = producer.get(link.inputs[0])
        alone = len(link.inputs) == 1 and readers[link.inputs[0]] == 1
        joined = _join(fused[place], link) if alone and place is not None else None
        if joined is None or place is None:
            fused.append(link)
            place = len(fused) - 1
        else:
            fused[place] = joined
        for slot in link.outputs:
            producer[slot] = place
    return fused


def _with_convolution(a: Enlargement | Padding | Convolution, b: Convolution) -> Convolution | None:
    if isinstance(a, Enlargement):
        return b.behind(a.factor)
    return b.padded(a.pad) if isinstance(a, Padding) else b.filtering(a)


def _join(first: Link, second: Link) -> Link | None:
    """One link for two, of which the second has no other operand; None where there is none."""
    a, b = first.stage, second.stage
    if len(first.outputs) != 1:
        return None
    parts, ops = (*first.parts, *second.parts), (*first.ops, *second.ops)
    if isinstance(a, Enlargement | Padding | Convolution) and isinstance(b, Convolution):
        # Neither has anything to remember of a primal pass.
        both = _with_convolution(a, b)
        return None if both is None else replace(second, stage=both, inputs=first.inputs, ops=ops)
    if not isinstance(b, Pointwise) or not b.keeps_shape:
        return None
    if isinstance(a, Convolution | Product) and b.fixed is not None:
        scaled = a.scaled(b.fixed[0])
        # The second has nothing to remember of a primal pass.
        return None if scaled is None else replace(first, stage=scaled, outputs=second.outputs, ops=ops)
    if not isinstance(a, Pointwise) or not a.keeps_shape:
        return None
    if isinstance(a, Rectifier) and (scale := _scale(b)) is not None:
        return replace(first, stage=a.scaled(scale), outputs=second.outputs, ops=ops)
    if isinstance(b, Rectifier) and (scale := _scale(a)) is not None:
        return replace(second, stage=b.scaled(scale), inputs=first.inputs, ops=ops)
    return replace(first, stage=Chain([a, b]), outputs=second.outputs, parts=parts, ops=ops)


def _scale(stage: Pointwise) -> float | None:
    """The number that everything is multiplied by, if that is all."""
    factor = None if stage.fixed is None else stage.fixed[0]
    return factor if isinstance(factor, float) else None
