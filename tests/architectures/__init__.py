"""Generators of the architectures in use, written from their papers, with random weights.

`ARCHITECTURES` has each of them in a size that tests can afford; the functions make any other.
"""

from collections.abc import Callable
from functools import partial

import polarity_sampling as ps

from tests.architectures import (
    biggan,
    convolutional,
    mlp,
    progan,
    siren,
    stylegan2,
    stylegan3,
    transformer,
    vae,
)

ARCHITECTURES: dict[str, Callable[[], ps.Generator]] = {
    "mlp": partial(mlp.generator, (8, 64, 64, 20), (0.5, 0.4)),
    "dcgan": convolutional.dcgan,
    "wgan-gp": partial(convolutional.wgan_gp, 8, (16, 12, 8)),
    "vae-decoder": partial(convolutional.vae_decoder, 6, 24, 6),
    "residual-vae": vae.generator,
    "progan": progan.generator,
    "biggan": biggan.generator,
    "stylegan2-fused": partial(stylegan2.generator, fused=True),
    "stylegan2-scaled": partial(stylegan2.generator, fused=False),
    "stylegan3-fused": partial(stylegan3.generator, fused=True),
    "stylegan3-scaled": partial(stylegan3.generator, fused=False),
    "transformer": partial(transformer.generator, explicit=True, gated=False),
    "transformer-sdpa": partial(transformer.generator, explicit=False, gated=False),
    "transformer-gated": partial(transformer.generator, explicit=True, gated=True),
    "siren": siren.generator,
}
