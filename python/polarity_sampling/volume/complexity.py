"""Local complexity: how many linear regions of a generator meet around a latent, by their boundaries."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

import polarity_ext
from polarity_sampling.errors import GeneratorError
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.memory import parse_memory

# Piecewise affine activations by their ATen names, with what is compared with zero.
_KINKS: dict[str, Callable[..., tuple[Tensor, ...]]] = {
    "relu": lambda x, *_: (x,),
    "leaky_relu": lambda x, *_: (x,),
    "_prelu_kernel": lambda x, *_: (x,),
    "rrelu_with_noise": lambda x, *_: (x,),
    "threshold": lambda x, at, *_: (x - at,),
    "clamp_min": lambda x, at, *_: (x - at,),
    "hardtanh": lambda x, low=-1.0, high=1.0, *_: (x - low, x - high),
    "relu6": lambda x, *_: (x, x - 6.0),
    "abs": lambda x, *_: (x,),
}


class _SignChanges(TorchDispatchMode):
    """Counts, for each latent, the units whose sign is not the same at all of its points."""

    def __init__(self, latents: int, points: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._shape = (latents, points)
        self.units = 0
        self.counts = torch.zeros(latents, dtype=torch.int64)

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = str(func).split(".")[1].rstrip("_")
        rows = self._shape[0] * self._shape[1]
        if name in _KINKS and isinstance(args[0], Tensor) and args[0].shape[:1] == (rows,):
            for values in _KINKS[name](*args):
                positive = values.reshape(*self._shape, -1) > 0
                changed = positive.any(1) & ~positive.all(1)
                self.units += changed.shape[1]
                self.counts = self.counts.to(changed.device) + changed.sum(1)
        return func(*args, **(kwargs or {}))


def local_complexity(
    generator: "Generator | nn.Module",
    z: Tensor,
    label: Tensor | int | None = None,
    *,
    radius: float = 1e-2,
    directions: int | None = None,
    seed: int = 0,
    memory: str | int = "1GiB",
) -> Tensor:
    """Units whose activation changes pieces within a small cross-polytope around each latent, [B] int64.

    A. I. Humayun, R. Balestriero, R. Baraniuk, Deep Networks Always Grok and Here is Why (ICML 2024, arXiv
    2402.15555), section 2: every such unit is a boundary between linear regions that passes between the
    vertices. Counted are the pre-activations of ReLU, leaky ReLU, PReLU, ReLU6, hardtanh, thresholds and
    absolute values, whether modules or functions; smooth activations have no regions and max pooling is left
    out.

    Args:
        generator, z, label: as of `log_volume`.
        radius: distance of the vertices from z, in units of the latent.
        directions: p; vertices are z +- radius * q_i for p random orthonormal q_i, the same for every latent.
            Default 25, or K if that is less.
        seed: of the q_i.
        memory: budget for activations in flight.

    Raises:
        ValueError: radius is not positive or directions is not in 1..K.
        GeneratorError: the generator has no piecewise affine activation, or samples depend on each other.
    """
    generator = Generator.of(generator, latent_dim=z.shape[1] if z.ndim == 2 else None)
    z, labels = generator.inputs(z, label)
    dim = z.shape[1]
    generator.check()
    if not radius > 0:
        raise ValueError(f"radius is {radius!r}; expected a positive distance")
    count = min(25, dim) if directions is None else directions
    if isinstance(count, bool) or not 1 <= count <= dim:
        raise ValueError(f"directions is {directions!r}; expected 1..{dim}")
    frame = torch.linalg.qr(polarity_ext.gaussian(seed, 0, (dim, count)).double())[0].T
    vertices = radius * torch.cat([frame, -frame]).to(z.device, z.dtype)
    points = vertices.shape[0]
    step = max(1, parse_memory(memory) // (footprint(generator, z, labels).bytes_per_tangent * points))
    found = []
    for i in range(0, z.shape[0], step):
        part = z[i : i + step]
        around = (part[:, None] + vertices).flatten(0, 1)
        classes = None if labels is None else labels[i : i + step].repeat_interleave(points)
        with torch.no_grad(), _SignChanges(part.shape[0], points) as signs:
            generator.flat(around, classes)
        if not signs.units:
            raise GeneratorError(
                f"{generator.name} has no piecewise affine activation (ReLU and the like): it has no linear "
                "regions to count"
            )
        found.append(signs.counts)
    return torch.cat(found)
