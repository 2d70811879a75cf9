"""Latents at which float32 and float64 agree on which side of its kink every unit lies.

A derivative jumps where a ReLU's input changes sign. If rounding decides that sign, two correct Jacobians
differ by far more than rounding, so a comparison of Jacobians to rounding has to stay away from there.
"""

import polarity_sampling as ps
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

aten = torch.ops.aten
_AT_ZERO = {aten.relu, aten.relu_, aten.leaky_relu, aten.leaky_relu_, aten._prelu_kernel}


def latents_off_kinks(generator: ps.Generator, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Of 16 times as many draws of the base law (and classes in turn), those farthest from every kink."""
    rows = torch.arange(16 * count)
    z = generator.base.draw(seed, rows, generator.latent_dim).to(generator.dtype)
    label = None if generator.num_classes is None else rows % generator.num_classes
    with torch.no_grad(), _Margins(len(rows)) as margins:
        generator.flat(z, label)
    best = margins.smallest.topk(count).indices
    return z[best], None if label is None else label[best]


class _Margins(TorchDispatchMode):
    """The smallest distance of any unit from its kink, for each sample, relative to its layer's units."""

    def __init__(self, samples: int) -> None:
        super().__init__()
        self.smallest = torch.full((samples,), torch.inf)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        op, x = func.overloadpacket, args[0] if args else None
        if op in _AT_ZERO:
            self._record(x, x)
        elif op in (aten.clamp, aten.hardtanh, aten.clamp_, aten.hardtanh_):
            for bound in args[1:3]:
                self._record(x - bound, x)
        elif op is aten.max_pool2d_with_indices:
            windows = F.unfold(
                x.flatten(0, 1)[:, None], args[1], stride=args[2] if len(args) > 2 else args[1]
            )
            first, second = windows.topk(2, dim=1).values.unbind(1)
            self._record((first - second).view(x.shape[0], -1), x)
        return func(*args, **(kwargs or {}))

    def _record(self, distance: Tensor, x: Tensor) -> None:
        scale = x.square().mean().sqrt()
        self.smallest = torch.minimum(self.smallest, distance.abs().flatten(1).amin(1) / scale)
