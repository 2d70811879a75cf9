"""What is timed: the generators of the speed goals, with as many latents as a batch has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polarity_sampling as ps
from torch import Tensor

from tests.architectures import convolutional, mlp, stylegan2
from tests.architectures.kinks import latents_off_kinks


@dataclass(frozen=True)
class Workload:
    """Columns of J at ``batch`` latents, and as many products with its transpose."""

    make: Callable[[], ps.Generator]
    batch: int
    on_gpu: int
    """The batch there: as many latents as fill it."""
    products: int | None = None
    """How many; None for all K. (Every further one costs the same.)"""

    def on(self, device: str) -> tuple[ps.Generator, Tensor, Tensor | None]:
        """The generator, and a batch of latents with labels: the same weights and draws on every device."""
        made = self.make()
        if device == "cpu":
            return made, *latents_off_kinks(made, self.batch, seed=0)
        z, label = latents_off_kinks(made, self.on_gpu, seed=0)
        module = made.module.to(device)
        generator = ps.Generator(module, made.latent_dim, made.base, made.num_classes, name=made.name)
        return generator, z.to(device), None if label is None else label.to(device)


# Times depend on shapes and on the share of active units, not on what the weights mean.
WORKLOADS = {
    "dcgan": Workload(partial(convolutional.dcgan, 100, (512, 256, 128, 64)), 4, 64),
    "mlp": Workload(mlp.generator, 64, 4096),
    "wgan-gp": Workload(convolutional.wgan_gp, 8, 256),
    "vae-decoder": Workload(convolutional.vae_decoder, 32, 512),
    # 64 channels at 64 px, 256 at 16 px and below.
    "stylegan2-fused": Workload(partial(stylegan2.generator, 64, 512, 64, 256, 8, fused=True), 1, 8, 64),
    "stylegan2-scaled": Workload(partial(stylegan2.generator, 64, 512, 64, 256, 8, fused=False), 1, 8, 64),
}
