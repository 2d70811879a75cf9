"""`top_k="auto"`: how many directions of a generator lie above the noise, found once for each generator."""

import math
import weakref

import torch
from torch import Tensor, nn

from polarity_sampling.errors import GeneratorError
from polarity_sampling.generator import Generator
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume import dense
from polarity_sampling.volume.calibration import (
    Key,
    calibration_grams,
    calibration_latents,
    key_of,
    rounding_of,
)
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.gram import gram, identity
from polarity_sampling.volume.latents import Jacobians, directions, in_coordinates, input_basis, restricted
from polarity_sampling.volume.operator import rows_of
from polarity_sampling.volume.range_finder import leading_directions
from polarity_sampling.volume.spectrum import noise_floor

LATENTS = 100
SHARE = 0.99
# Latents with all products; enough where the answer is clear.
FIRST = 16
CONFIDENCE = 0.95
OVERSAMPLING = 8
_BATCH = 16

_kept: "weakref.WeakKeyDictionary[nn.Module, tuple[Key, int]]" = weakref.WeakKeyDictionary()


def auto_top_k(generator: Generator, seed: int = 0, memory: str | int = "1GiB") -> int:
    """The largest k whose sigma_k lies above the noise floor for 99% of seeded base draws.

    Found once for each generator, from latents of its own, never from a caller's, so that all log-volumes of
    one generator are comparable. 16 latents with all n products settle it where sigma_k is so far above the
    floor that 99% of all latents are, with 95% confidence, if log sigma_k is normal (one-sided tolerance
    limit). Otherwise the share is counted on 100 latents. There, k + 8 products are enough for a latent
    whose singular values on shared directions, which are lower bounds, already lie above the floor.

    Raises:
        ValueError: there are so many directions that Gram matrices of all do not fit the memory.
        GeneratorError: no k qualifies: the generator ignores z, or is constant on most of its latents.
    """
    key = key_of(generator, memory, seed)
    kept = _kept.get(generator.module)
    if kept is None or kept[0] != key:
        kept = (key, _find(generator, seed, memory))
        _kept[generator.module] = kept
    return kept[1]


def _find(generator: Generator, seed: int, memory: str | int) -> int:
    size = directions(generator)
    budget, matrices = parse_memory(memory), 2 * FIRST * 8 * generator.latent_dim**2
    if matrices > budget:
        raise ValueError(
            f"top_k='auto' looks at all {size} singular values of {FIRST} latents, whose Gram matrices take "
            f"{matrices / 2**30:.1f} GiB of the {budget / 2**30:.1f} that memory allows; with so many "
            "directions expected a number, such as top_k=10, or a larger memory="
        )
    rounding = rounding_of(generator, generator.dtype, memory)
    floor = noise_floor(rounding.eta, size, generator.dtype)
    grams = calibration_grams(generator, FIRST, memory, seed)
    ratios = _ratios(grams)[:, :size]
    # Two of the first latents below the floor are more than 1% of 100.
    most = int(((ratios <= floor).sum(0) <= 1).sum())
    if most and bool((_tolerance_limit(ratios[:, :most].log()) > math.log(floor)).all()):
        return most
    resolved = ratios[:, :most] > floor
    if most:
        resolved = torch.cat([resolved, _others(generator, seed, memory, grams, most, floor)])
        found = int((resolved.double().mean(0) >= SHARE).sum())
        if found:
            return found
    zero = float((ratios[:, 0] <= floor).double().mean())
    raise GeneratorError(
        f"{generator.name}: on {100 * zero:.0f}% of {FIRST} latents of its base law the Jacobian is zero: "
        "the generator ignores z there (dead units, saturated output, untrained weights?). There is no "
        "volume to sample by; check the weights and base="
    )


def _ratios(grams: Tensor) -> Tensor:
    """sigma_i / sigma_1 [N, n] of Gram matrices; zeros where all are zero."""
    sigma = dense.eigenvalues(grams).clamp(min=0.0).sqrt()
    return torch.where(sigma[:, :1] > 0, sigma / sigma[:, :1], 0.0)


def _tolerance_limit(samples: Tensor) -> Tensor:
    """Below it lie 1% of a normal law at most, with 95% confidence, by samples [N, k] of it; [k].

    Owen's factor: the quantile of a noncentral t distribution over sqrt(N).
    """
    from scipy.stats import nct, norm

    count = samples.shape[0]
    root = math.sqrt(count)
    factor = float(nct.ppf(CONFIDENCE, count - 1, float(norm.ppf(SHARE)) * root)) / root
    return samples.mean(0) - factor * samples.std(0)


def _others(
    generator: Generator, seed: int, memory: str | int, grams: Tensor, top_k: int, floor: float
) -> Tensor:
    """Which of the first `top_k` singular values lie above the floor, for the rest of the latents."""
    size = directions(generator)
    shared = leading_directions(grams.mean(0), min(size, top_k + OVERSAMPLING))
    z, label = calibration_latents(generator, LATENTS, seed)
    resolved = []
    for i in range(FIRST, LATENTS, _BATCH):
        rows = slice(i, min(i + _BATCH, LATENTS))
        latents = Jacobians.at(generator, z[rows], None if label is None else label[rows], memory)
        basis = input_basis(generator, z[rows])
        operator = restricted(latents, basis)
        eigenvalues = fixed_krylov(operator, in_coordinates(shared, basis), steps=1).eigenvalues[:, :top_k]
        # sigma_1 may be somewhat larger than the shared directions show.
        above = eigenvalues > (2.0 * floor) ** 2 * eigenvalues[:, :1]
        unclear = (~above.all(1)).nonzero()[:, 0]
        if unclear.numel():
            part = rows_of(operator, unclear)
            exact, _ = gram(part, identity(part), parse_memory(memory))
            above[unclear] = _ratios(exact)[:, :top_k] > floor
        resolved.append(above)
    return torch.cat(resolved)
