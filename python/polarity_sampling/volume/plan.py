"""Which route a generator's latents take: settled once, on latents of its own, by trying them out.

The routes see a Jacobian only through A = J^T J. So they are tried on factors of the Gram matrices of some
calibration latents, K x K each, which costs no network pass beyond those matrices; with too many directions
for that, on the Jacobians of fewer latents. What a latent gets therefore depends on the generator, top_k and
the tolerance, never on the other latents of its batch.
"""

import weakref
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import jacobian
from polarity_sampling.volume import dense
from polarity_sampling.volume.calibration import (
    CHECK_PROBES,
    MOST_DIRECTIONS,
    SAFETY,
    Key,
    calibration_grams,
    calibration_latents,
    key_of,
    probe_matrix,
)
from polarity_sampling.volume.cost import Costs
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.krylov import BLOCK, block_krylov
from polarity_sampling.volume.latents import (
    Jacobians,
    directions,
    in_coordinates,
    input_basis,
    restricted,
    spans_all,
)
from polarity_sampling.volume.range_finder import leading_directions
from polarity_sampling.volume.singular_values import Status
from polarity_sampling.volume.svd import worth_iterating

TolMode = Literal["absolute", "relative"]

# Latents on which adaptive routes are tried; half give the shared directions, half are tried on.
ADAPTIVE_LATENTS = 16
# Those on whose Jacobians they are tried where there are too many directions for Gram matrices.
FEW_LATENTS = 4
# Narrow blocks take fewer products, wide ones find larger clusters and make better use of a machine.
TRIED_BLOCKS = (2, 4, 8)
# Part of tol for what a route leaves out; the rest is for rounding.
ITERATED = 0.8
# Parts of the exact route's cost (`Costs`) that others may take. With a certificate for every latent (the
# adjoint, residuals) a product costs more than there, most in a small network; see
# benchmarks/volume/results/speed.csv.
WORTH_ITERATING = 0.45
WORTH_FIXED = 0.75
# What eigenvectors and orthogonal bases cost an adaptive iteration on a GPU, in floating-point operations of
# the network in the same time: libraries form them there for one latent after the other. Assumed, from
# 9 ms a latent on an H200.
ADAPTING_ON_GPU = 3e11
# Directions of a Krylov space of fixed length for each singular value. With fewer, or from a narrower block
# than four, errors of some latents are far above those of most, and the range of the scored ones is no guide.
OVERSAMPLING = 2
# A subspace that misses less than this part of tol cannot have spoilt anything.
_NEGLIGIBLE = 0.1
# Latents for a relative tolerance: the first give the shared directions, the others the errors. A fresh
# latent's error falls outside the range of n others with probability 2 / (n + 1), whatever their law.
BASIS_LATENTS = 28
SCORED_LATENTS = 200
COVERAGE = 1.0 - 2.0 / (SCORED_LATENTS + 1)
# The range is widened by this factor nevertheless.
WIDENED = 1.5


@dataclass(frozen=True)
class Plan:
    """A route with its settings."""

    route: Literal["exact", "krylov", "fixed_krylov"]
    start: Tensor | None = None
    """[K, m] float64: first directions."""
    block: int = BLOCK
    """Columns of the later blocks of krylov."""
    steps: int = 0
    """Of fixed_krylov."""
    correction: Tensor | None = None
    """[k]: middle of the errors of each log sigma_i on the scored latents."""
    spread: float = 0.0
    """Half the range of the errors of the log-volume there, widened; nats."""
    outside: float = float("inf")
    """A latent with more than this outside the subspace is unlike those latents."""


EXACT = Plan("exact")

_PlanKey = tuple[Key, int, float, TolMode]
_plans: "weakref.WeakKeyDictionary[nn.Module, dict[_PlanKey, Plan]]" = weakref.WeakKeyDictionary()


def plan_for(generator: Generator, top_k: int, tol: float, mode: TolMode, memory: str | int) -> Plan:
    """The cheapest plan that meets tol on calibration latents; kept until the weights change."""
    if mode == "absolute" and not worth_iterating(directions(generator), top_k):
        return EXACT
    key = (key_of(generator, memory, 0), top_k, tol, mode)
    kept = _plans.setdefault(generator.module, {})
    if key not in kept:
        for old in [k for k in kept if k[0] != key[0]]:
            del kept[old]
        choose = _absolute if mode == "absolute" else _relative
        kept[key] = choose(generator, top_k, tol, memory)
    return kept[key]


def shared_directions(generator: Generator, count: int, memory: str | int) -> Tensor:
    """[K, count] float64: leading eigenvectors of the mean Gram matrix of a few calibration latents."""
    grams = calibration_grams(generator, ADAPTIVE_LATENTS, memory)
    return leading_directions(grams[: ADAPTIVE_LATENTS // 2].mean(0), count)


def _absolute(generator: Generator, top_k: int, tol: float, memory: str | int) -> Plan:
    """Adaptive Krylov from a random or a shared start, or exact: whichever cost least."""
    size = directions(generator)
    if size > MOST_DIRECTIONS:
        return _by_products(generator, top_k, tol, memory)
    trial = slice(ADAPTIVE_LATENTS // 2, ADAPTIVE_LATENTS)
    factors, basis = _operators(generator, trial, memory)
    # In the generator's precision, so that its rounding is in the trial as well.
    factors = factors.to(generator.dtype)
    costs = Costs(generator, size, memory)
    best, least = EXACT, _worth_iterating(generator, size, memory)
    trials: list[tuple[Tensor | None, int]] = [(None, width) for width in TRIED_BLOCKS]
    trials += [(shared_directions(generator, width, memory), width) for width in TRIED_BLOCKS]
    for start, block in trials:
        first = None if start is None else in_coordinates(start, basis)
        found = block_krylov(factors, top_k, tol=ITERATED * tol, max_products=size, start=first, block=block)
        slow = found.status == Status.SLOW_SPECTRUM
        cost = costs.narrow(block, size) * float((found.products + size * slow).double().mean())
        if cost < least:
            best, least = Plan("krylov", start, block), cost
    return best


def _by_products(generator: Generator, top_k: int, tol: float, memory: str | int) -> Plan:
    """The same with random starts alone, by the Jacobians themselves."""
    size = directions(generator)
    costs = Costs(generator, size, memory)
    best, least = EXACT, _worth_iterating(generator, size, memory)
    z, label = calibration_latents(generator, FEW_LATENTS, 0)
    latents = Jacobians.at(generator, z, label, memory)
    operator = restricted(latents, input_basis(generator, z))
    for block in reversed(TRIED_BLOCKS):  # wide ones say sooner that there is nothing to gain
        most = int(least / costs.narrow(block, size))
        found = block_krylov(operator, top_k, tol=ITERATED * tol, max_products=most, block=block)
        if bool((found.status == Status.SLOW_SPECTRUM).any()):
            continue
        best, least = (
            Plan("krylov", None, block),
            costs.narrow(block, size) * float(found.products.double().mean()),
        )
    return best


def _worth_iterating(generator: Generator, size: int, memory: str | int) -> float:
    """So many products an adaptive iteration may take and be cheaper than `size` of the exact route."""
    # Assumed: all eigenvalues of so many directions take a GPU longer than the few steps here.
    if generator.device.type == "cpu" or size > MOST_DIRECTIONS:
        return WORTH_ITERATING * size
    z, label = calibration_latents(generator, 1, 0)
    flops = jacobian(generator, z, label, memory=memory).flops
    return WORTH_FIXED * size - ADAPTING_ON_GPU / flops


def _relative(generator: Generator, top_k: int, tol: float, memory: str | int) -> Plan:
    """The cheapest whose error is the same on all scored latents, to within tol.

    With too many directions for their Gram matrices that is the absolute plan, whose bound holds as well.
    """
    size = directions(generator)
    if size > MOST_DIRECTIONS:
        return _absolute(generator, top_k, tol, memory) if worth_iterating(size, top_k) else EXACT
    grams = calibration_grams(generator, BASIS_LATENTS + SCORED_LATENTS, memory)
    shared = leading_directions(grams[:BASIS_LATENTS].mean(0), size)
    factors, basis = _operators(generator, slice(BASIS_LATENTS, BASIS_LATENTS + SCORED_LATENTS), memory)
    truth = 0.5 * dense.eigenvalues(grams[BASIS_LATENTS:])[:, :top_k].clamp(min=0.0).log()
    if not torch.isfinite(truth).all():
        return EXACT  # latents of a rank below k: nothing that they share
    probes = in_coordinates(
        probe_matrix(generator.latent_dim, CHECK_PROBES, torch.float64, basis.device), basis
    )
    for width, steps in _candidates(top_k, size, Costs(generator, size, memory)):
        found = fixed_krylov(factors, in_coordinates(shared[:, :width], basis), steps)
        errors = 0.5 * found.eigenvalues[:, :top_k].log() - truth
        total = errors.sum(1)
        spread = WIDENED * 0.5 * float(total.max() - total.min())
        if spread <= ITERATED * tol:
            middle = 0.5 * (total.max() + total.min())
            correction = errors.mean(0) + (middle - total.mean()) / top_k
            outside = SAFETY * float(found.outside(probes, factors @ probes, top_k).max())
            outside = max(outside, _NEGLIGIBLE * tol)
            return Plan(
                "fixed_krylov",
                shared[:, :width],
                steps=steps,
                correction=correction,
                spread=spread,
                outside=outside,
            )
    return EXACT


def _candidates(top_k: int, size: int, costs: Costs) -> list[tuple[int, int]]:
    """(width of a block, blocks) worth taking instead of the exact route, cheapest first."""
    most = int(WORTH_FIXED * size)
    shared = [(width, 1) for width in range(top_k, most + 1, max(1, size // 25))]
    krylov = [
        (width, steps)
        for width in _widths(top_k)
        for steps in range(2, 12)
        if width * steps >= OVERSAMPLING * top_k and (2 * steps - 1) * width <= most
    ]
    cost = {plan: costs.fixed(*plan) for plan in shared + krylov}
    return sorted((plan for plan in cost if cost[plan] <= WORTH_FIXED * costs.exact), key=cost.__getitem__)


def _widths(top_k: int) -> list[int]:
    """From 4 up to k, each about a quarter more than the one before."""
    widths = [max(2, min(4, top_k))]
    while widths[-1] < top_k:
        widths.append(min(top_k, widths[-1] + max(1, widths[-1] // 4)))
    return widths


def _operators(generator: Generator, rows: slice, memory: str | int) -> tuple[Tensor, Tensor]:
    """Operators [N, K, n] float64 with the same A as some calibration latents; their `input_basis`."""
    grams = calibration_grams(generator, rows.stop, memory)[rows]
    values, vectors = dense.eigenvectors(grams)
    factors = values.clamp(min=0.0).sqrt()[:, :, None] * vectors.mT
    basis = input_basis(generator, calibration_latents(generator, rows.stop, 0)[0][rows])
    return (factors if spans_all(basis) else factors @ basis.double()), basis
