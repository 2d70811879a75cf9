"""Do a parent's singular vectors save products? Krylov for pCN proposals, from four kinds of first block.

    python -m benchmarks.samplers warm_start [--generator NAME] [--out FILE]

LATENTS draws of the base law each make one pCN proposal of size b. The products that certify the proposal's
log-volume to TOL are counted for block Krylov from a random block (`cold`), from directions that all latents
of the generator share (`shared`, what `ps.log_volume` may use) and from the parent's own leading right
singular vectors, as many as serve best (`warm`); each with the block width that is best for it. Routes see a
Jacobian through J^T J alone, so they run on factors of its Gram matrix. `exact` takes K.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import polarity_sampling as ps
import torch
from polarity_sampling.samplers.smc.reference import latents_from
from polarity_sampling.volume import dense
from polarity_sampling.volume.krylov import block_krylov
from polarity_sampling.volume.plan import TRIED_BLOCKS, shared_directions
from polarity_sampling.volume.singular_values import Status
from torch import Tensor

import polarity_ext
from tests import shared_models

GENERATORS = ("fashionmnist_gan_mlp", "celeba_dcgan32")
LATENTS, TOL, SEED = 32, 1e-2, 31
TOP_K = (10, 20)
SIZES = (0.02, 0.1, 0.3, 0.9)
_BATCH = 16


def grams(generator: ps.Generator, x: Tensor) -> Tensor:
    """J^T J [n, K, K] at the latents that standard normals x stand for."""
    eye = torch.eye(generator.latent_dim)
    latents = latents_from(generator.base, x).split(_BATCH)
    return torch.cat([polarity_ext.gram(ps.jacobian(generator, z) @ eye) for z in latents])


def factors(gram: Tensor) -> tuple[Tensor, Tensor]:
    """Operators [n, K, K] float32 with these Gram matrices, and right singular vectors, leading first."""
    values, vectors = dense.eigenvectors(gram)
    return (values.clamp(min=0.0).sqrt()[:, :, None] * vectors.mT).float(), vectors


def products(operator: Tensor, top_k: int, start: Tensor | None, block: int) -> float:
    """Mean over latents; one that Krylov does not bring to TOL within K products is done exactly."""
    dim = operator.shape[2]
    found = block_krylov(operator, top_k, tol=TOL, max_products=dim, start=start, block=block)
    slow = found.status == Status.SLOW_SPECTRUM
    return float((found.products + dim * slow).double().mean())


HEADER = ["generator", "top_k", "b", "cold", "shared", "warm", "vectors", "exact"]


def measure(name: str) -> Iterator[list[object]]:
    """Lines of the table: mean products per latent."""
    generator = shared_models.load(name)
    dim = generator.latent_dim
    x, noise = (polarity_ext.gaussian(SEED, i << 32, (LATENTS, dim)).double() for i in (0, 1))
    parents = factors(grams(generator, x))[1]
    for b in SIZES:
        operator, _ = factors(grams(generator, (1 - b * b) ** 0.5 * x + b * noise))
        for top_k in TOP_K:
            cold = min(products(operator, top_k, None, block) for block in TRIED_BLOCKS)
            shared = min(
                products(operator, top_k, shared_directions(generator, block, "1GiB"), block)
                for block in TRIED_BLOCKS
            )
            warm, count = min(
                (products(operator, top_k, parents[:, :, :count], block), count)
                for count in (4, top_k // 2, top_k, top_k + 8)
                for block in TRIED_BLOCKS
            )
            yield [name, top_k, b, f"{cold:.1f}", f"{shared:.1f}", f"{warm:.1f}", count, dim]


def main(names: list[str], out: Path) -> None:
    """Put lines of the generators named (all by default) into `out`, others' kept."""
    torch.set_num_threads(1)
    kept: list[list[object]] = []
    if names and out.exists():
        with out.open() as file:
            kept = [list(line) for line in list(csv.reader(file))[1:] if line[0] not in names]
    print(*HEADER, sep=",")
    for name in names or GENERATORS:
        for line in measure(name):
            print(*line, sep=",", flush=True)
            kept.append(line)
    with out.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([HEADER, *kept])
