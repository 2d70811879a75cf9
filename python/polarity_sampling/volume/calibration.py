"""What is measured once for each generator: its rounding error and the Gram matrices of a few latents."""

import math
import warnings
import weakref
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

import polarity_ext
from polarity_sampling.errors import PolarityWarning
from polarity_sampling.generator import Generator, Version
from polarity_sampling.jacobian.compiled import NotCapturedError
from polarity_sampling.jacobian.operator import JacobianOperator, jacobian
from polarity_sampling.jacobian.precision import Primal
from polarity_sampling.laws import Law
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.latents import input_basis, spans_all
from polarity_sampling.volume.singular_values import EPS32, EPS64
from polarity_sampling.volume.spectrum import gram_spectrum

# Streams of their own, so that no calibration latent is a latent of somebody's bank.
_LATENT_SEED = 0x5EED_CA11
_PROBE_SEED = 0x5EED_9B0E

# Probes of the float64 check of every latent, and how far above the generator's typical rounding error
# their disagreement must be to be taken for more than that. An activation on the wrong side of its kink
# changes J in one direction, which a single probe may miss; where float64 has settled the activations, the
# roundings of many products are left, in many directions, and one probe sees their size.
CHECK_PROBES = 2
SETTLED_PROBES = 1
KINK = 3.0
# Columns whose sum is checked where only rounding is left.
_SUMMED = 8

FEWEST_ROUNDINGS = 6.0
ROUNDING_LATENTS = 8
ROUNDING_PROBES = 8
# Bounds are set this far above estimates, because latents differ.
SAFETY = 2.0
# That of products in float64 which nobody checks so far again: there is plenty to spare.
UNCHECKED = 1024.0
# Latents calibrated together.
BATCH = 16
# Directions n up to which n products and a matrix [n, n] of several latents are nothing to speak of. Beyond,
# where latents are images of noise, what is settled once for a generator is settled by a few products.
MOST_DIRECTIONS = 1024
# Directions up to which the largest singular value is found by all products; else by a block Krylov space.
_ALL_DIRECTIONS = 128
_LARGEST_STEPS = 4
# Part of the usual multiplications that others may take instead of them.
WORTH_SPARING = 0.8
# Multiplications at a latent that do not count beside the calls that a check is made of.
NEGLIGIBLE = 1 << 14
# What is assumed of a module that cannot run in float64: the coarsest error a float32 network shows.
ASSUMED_ROUNDING = 1e-5


def probe_matrix(dim: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard normal probes [K, count]; their entries are float32 numbers in every precision."""
    return polarity_ext.gaussian(_PROBE_SEED, 0, (dim, count)).to(device, dtype)


def summed_columns(size: int) -> Tensor:
    """[size, 1]: signs by which a few of so many columns are added up, of the norm of a sign for each."""
    weights = torch.zeros(size, 1, dtype=torch.float32)
    count = min(size, _SUMMED)
    signs = probe_matrix(count, 1, torch.float32, torch.device("cpu")).sign()
    weights[torch.arange(count) * size // count] = signs * math.sqrt(size / count)
    return weights


def sum_of_columns(columns: Tensor) -> Tensor:
    """Columns [B, D, n] times `summed_columns`, in float64: [B, D, 1].

    What it differs by from the product in float64 is the rounding of these columns, and of nothing else.
    """
    weights = summed_columns(columns.shape[2])[:, 0]
    total = columns.new_zeros(columns.shape[:2], dtype=torch.float64)
    for i in weights.nonzero()[:, 0].tolist():
        total.add_(columns[:, :, i], alpha=float(weights[i]))
    return total[:, :, None]


def calibration_latents(generator: Generator, count: int, seed: int) -> tuple[Tensor, Tensor | None]:
    """Draws of the base law with classes in turn: (z [count, K], labels [count] or None)."""
    z = generator.base.draw(_LATENT_SEED + seed, torch.arange(count), generator.latent_dim)
    classes = generator.num_classes
    label = None if classes is None else torch.arange(count, device=generator.device) % classes
    return z.to(generator.device, generator.dtype), label


def disagreement(working: Tensor, reference: Tensor) -> Tensor:
    """Estimate of ||Delta J||_F from J @ probes in two precisions, [B, D, p] each -> [B].

    Unbiased for the square: E ||Delta J v||^2 = ||Delta J||_F^2 for standard normal v (Hutchinson).
    """
    norm: Tensor = torch.linalg.vector_norm(working - reference, dim=(1, 2))
    return norm / math.sqrt(working.shape[2])


def _schatten4(working: Tensor, reference: Tensor) -> Tensor:
    """Estimate of (sum sigma_i(Delta J)^4)^(1/4) >= ||Delta J||_2 from products with probes, [B].

    For independent standard normal u, v: E <Delta J u, Delta J v>^2 = sum sigma_i^4. Rounding errors spread
    over many directions, where this is far closer to the spectral norm than the Frobenius norm is.
    """
    gram = polarity_ext.gram(working.double() - reference)
    count = gram.shape[1]
    pairs = torch.triu(gram, diagonal=1).square().sum((1, 2)) / (count * (count - 1) / 2)
    return pairs**0.25


GramRoute = Literal["checked", "float64", "layer"]
"""By products in the generator's precision, which float64 checks; of small perceptrons by products in float64
alone; or, in float64 as well, without those of the last layer."""


@dataclass(frozen=True)
class Rounding:
    """Size of the rounding error of J in units of sigma_1, for one generator in one precision."""

    eta: float
    """Bound on ||Delta J||_2."""
    frobenius: float
    """Typical ||Delta J||_F: what `disagreement` shows of an ordinary latent."""
    eta64: float
    """`eta` of the same network in float64."""
    verified: bool
    """Measured against float64, or assumed because the module does not run in it."""
    primal: Primal
    """Whose forward pass decided on the activations."""
    gram: GramRoute = "checked"
    """How the exact route comes to Gram matrices."""

    @property
    def probes(self) -> int:
        """Of the float64 check of every latent."""
        return SETTLED_PROBES if self.primal == "float64" else CHECK_PROBES


# What a result may depend on, to the last bit: the budget sets how many probes go together.
Key = tuple[Version, Law, torch.dtype, int, int]

_Kept = dict[Primal | Literal["auto"], tuple[Key, Rounding]]

_rounding: "weakref.WeakKeyDictionary[nn.Module, _Kept]" = weakref.WeakKeyDictionary()
_grams: "weakref.WeakKeyDictionary[nn.Module, tuple[Key, Tensor]]" = weakref.WeakKeyDictionary()


def key_of(generator: Generator, memory: str | int, seed: int) -> Key:
    """What results of a calibration are kept under."""
    return generator.version(), generator.base, generator.dtype, parse_memory(memory), seed


def rounding_of(
    generator: Generator, dtype: torch.dtype, memory: str | int, primal: Primal | Literal["auto"] = "auto"
) -> Rounding:
    """Measures the rounding error on a few latents of the base law; once for each state of the weights.

    "auto" is a forward pass in float64 wherever the generator allows it: the float64 check needs one anyway.
    """
    key = (generator.version(), generator.base, dtype, parse_memory(memory), 0)
    kept = _rounding.setdefault(generator.module, {})
    if primal not in kept or kept[primal][0] != key:
        kept[primal] = (key, _measure(generator, dtype, memory, primal))
    return kept[primal][1]


def _measure(
    generator: Generator, dtype: torch.dtype, memory: str | int, primal: Primal | Literal["auto"]
) -> Rounding:
    z, label = calibration_latents(generator, ROUNDING_LATENTS, seed=0)
    z = z.float()
    probes = probe_matrix(generator.latent_dim, ROUNDING_PROBES, torch.float32, generator.device)
    try:
        double = generator.in_dtype(torch.float64)
        reference = jacobian(double, z.double(), label, memory=memory) @ probes.double()
    except (RuntimeError, TypeError) as error:
        warnings.warn(
            f"{generator.name} does not run in float64 ({error}), so rounding inside the network cannot be "
            f"measured: errors assume {ASSUMED_ROUNDING} of the largest singular value. Remove dtype casts "
            "from its forward.",
            PolarityWarning,
            stacklevel=4,
        )
        return Rounding(ASSUMED_ROUNDING, ASSUMED_ROUNDING, ASSUMED_ROUNDING, False, "working")
    single = generator.in_dtype(torch.float32)
    if primal == "auto":
        primal = "float64" if dtype != torch.float64 and _settles(single, z, label, memory) else "working"
    operator = jacobian(single, z, label, memory=memory, primal=primal)
    largest, working = _largest(operator, probes)
    # Medians leave out latents next to a kink, whose own probes will show it. At least as many roundings as
    # a short chain of operations makes, because a small network can be lucky on eight latents.
    spectral, frobenius = (
        max(float(torch.where(largest > 0, norm / largest, 0.0).median()), FEWEST_ROUNDINGS * EPS32)
        for norm in (_schatten4(working, reference), disagreement(working, reference))
    )
    scale = EPS64 / EPS32 if dtype == torch.float64 else 1.0
    eta = SAFETY * spectral
    route = "checked" if dtype == torch.float64 else _gram_route(operator, input_basis(single, z), memory)
    return Rounding(eta * scale, frobenius * scale, eta * EPS64 / EPS32, True, primal, route)


def _largest(operator: JacobianOperator, probes: Tensor) -> tuple[Tensor, Tensor]:
    """sigma_1 [B], or with many directions a lower bound close to it; and products [B, D, p] with the probes.

    Rounding in units of a lower bound is larger, if anything.
    """
    dim = operator.shape[2]
    if dim > _ALL_DIRECTIONS:
        krylov = fixed_krylov(operator, probes, _LARGEST_STEPS)
        return krylov.eigenvalues[:, 0].sqrt(), operator @ probes
    identity = torch.eye(dim, dtype=torch.float32, device=operator.device)
    both = operator @ torch.cat([identity, probes], 1)
    columns, working = both[:, :, :dim], both[:, :, dim:]
    return gram_spectrum(columns, 0.0).singular_values[:, 0], working


def _gram_route(operator: JacobianOperator, basis: Tensor, memory: str | int) -> GramRoute:
    """The fastest at these latents."""
    size = basis.shape[-1]
    work = operator.gram_work(size)
    if work is None:
        return "checked"
    if work.layer < WORTH_SPARING * work.checked:
        return "layer"
    columns = 8 * operator.shape[1] * size  # of one latent, and as many more as batches are made for
    fits = 4 * columns <= parse_memory(memory)
    return "float64" if fits and work.float64 <= work.checked + NEGLIGIBLE else "checked"


def _settles(generator: Generator, z: Tensor, label: Tensor | None, memory: str | int) -> bool:
    """Whether products can follow a forward pass in float64."""
    try:
        return jacobian(generator, z, label, memory=memory, primal="float64").route == "captured"
    except NotCapturedError:  # at all, or in float64 with other operations than in float32
        return False


def calibration_grams(generator: Generator, count: int, memory: str | int, seed: int = 0) -> Tensor:
    """J^T J [count, K, K] float64 at the first `count` calibration latents, n products each; kept.

    Of the directions in which volume is measured alone, in the coordinates of R^K: on a sphere the radial
    direction is in the kernel.
    """
    key = key_of(generator, memory, seed)
    kept = _grams.get(generator.module)
    have = kept[1] if kept is not None and kept[0] == key else None
    done = 0 if have is None else have.shape[0]
    if done < count:
        z, label = calibration_latents(generator, -(-count // BATCH) * BATCH, seed)
        parts = [] if have is None else [have]
        for i in range(done, count, BATCH):
            rows = slice(i, i + BATCH)
            operator = jacobian(generator, z[rows], None if label is None else label[rows], memory=memory)
            basis = input_basis(generator, z[rows])
            gram = polarity_ext.gram(operator @ basis)
            if not spans_all(basis):
                gram = basis.double() @ gram @ basis.double().mT
            parts.append(gram)
        have = torch.cat(parts)
        _grams[generator.module] = (key, have)
    assert have is not None
    return have[:count]
