"""What Jacobians are asked for: a generator or a module, latents and classes."""

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator


def generator_for(model: "Generator | nn.Module", z: Tensor, label: Tensor | int | None) -> Generator:
    """The generator itself, or one around a plain module, whose K and classes are those of z and label."""
    if isinstance(model, nn.Module) and isinstance(z, Tensor) and z.ndim == 2:
        generator = Generator.of(model, latent_dim=z.shape[1])
        if label is None:
            return generator
        # A plain module does not say how many classes it has: those present must do.
        classes = int(torch.as_tensor(label).max()) + 1
        return Generator(generator.module, z.shape[1], generator.base, max(classes, 1))
    return Generator.of(model)


def checked_inputs(
    generator: Generator, z: Tensor, label: Tensor | int | None
) -> tuple[Tensor, Tensor | None]:
    """z and label as the generator takes them, once it is sure that there is a Jacobian."""
    dtype = generator.fixed_dtype
    if dtype not in (None, torch.float32, torch.float64):
        raise TypeError(
            f"the generator computes in {dtype}; a Jacobian needs float32 or float64: call module.float()"
        )
    inputs = generator.inputs(z, label)
    generator.check()
    return inputs
