"""What is timed: the generators of the speed goals, with as many latents as a batch has."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import polarity_sampling as ps

from tests.architectures import convolutional, mlp, stylegan2


@dataclass(frozen=True)
class Workload:
    """Columns of J at ``batch`` latents, and as many products with its transpose."""

    make: Callable[[], ps.Generator]
    batch: int
    products: int | None = None
    """How many; None for all K. (Every further one costs the same.)"""


# Times depend on shapes and on the share of active units, not on what the weights mean.
WORKLOADS = {
    "dcgan": Workload(partial(convolutional.dcgan, 100, (512, 256, 128, 64)), 4),
    "mlp": Workload(mlp.generator, 64),
    "wgan-gp": Workload(convolutional.wgan_gp, 8),
    "vae-decoder": Workload(convolutional.vae_decoder, 32),
    # 64 channels at 64 px, 256 at 16 px and below.
    "stylegan2-fused": Workload(partial(stylegan2.generator, 64, 512, 64, 256, 8, fused=True), 1, 64),
    "stylegan2-scaled": Workload(partial(stylegan2.generator, 64, 512, 64, 256, 8, fused=False), 1, 64),
}
