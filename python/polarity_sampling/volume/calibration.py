"""What is found out once for each generator: its rounding error and how many directions it resolves."""

import warnings
import weakref
from dataclasses import dataclass

import torch
from torch import Tensor, nn

import polarity_ext
from polarity_sampling.errors import GeneratorError, PolarityWarning
from polarity_sampling.generator import Generator, Version
from polarity_sampling.jacobian.operator import jacobian
from polarity_sampling.laws import Law
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume.spectrum import EPS32, EPS64, columns_of, gram_spectrum, input_basis

# Streams of their own, so that no calibration latent is a latent of somebody's bank.
_LATENT_SEED = 0x5EED_CA11
_PROBE_SEED = 0x5EED_9B0E

ROUNDING_LATENTS = 8
ROUNDING_PROBES = 8
# Bounds are set this far above estimates, because latents differ.
SAFETY = 2.0
TOP_K_LATENTS = 100
# What is assumed of a module that cannot run in float64: the coarsest error a float32 network shows.
ASSUMED_ROUNDING = 1e-5


def probe_matrix(dim: int, count: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Standard normal probes [K, count]; their entries are float32 numbers in every precision."""
    return polarity_ext.gaussian(_PROBE_SEED, 0, (dim, count)).to(device, dtype)


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
    return (working.double() - reference).square().sum(1).mean(1).sqrt()


def _schatten4(working: Tensor, reference: Tensor) -> Tensor:
    """Estimate of (sum sigma_i(Delta J)^4)^(1/4) >= ||Delta J||_2 from products with probes, [B].

    For independent standard normal u, v: E <Delta J u, Delta J v>^2 = sum sigma_i^4. Rounding errors spread
    over many directions, where this is far closer to the spectral norm than the Frobenius norm is.
    """
    gram = polarity_ext.gram(working.double() - reference)
    count = gram.shape[1]
    pairs = torch.triu(gram, diagonal=1).square().sum((1, 2)) / (count * (count - 1) / 2)
    return pairs**0.25


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


# What a result may depend on, to the last bit: the budget sets how many probes go together.
_Key = tuple[Version, Law, torch.dtype, int, int]

_rounding: "weakref.WeakKeyDictionary[nn.Module, tuple[_Key, Rounding]]" = weakref.WeakKeyDictionary()
_top_k: "weakref.WeakKeyDictionary[nn.Module, tuple[_Key, int]]" = weakref.WeakKeyDictionary()


def rounding_of(generator: Generator, dtype: torch.dtype, memory: str | int) -> Rounding:
    """Measures the rounding error on a few latents of the base law; once for each state of the weights."""
    key = (generator.version(), generator.base, dtype, parse_memory(memory), 0)
    kept = _rounding.get(generator.module)
    if kept is None or kept[0] != key:
        kept = (key, _measure(generator, dtype, memory))
        _rounding[generator.module] = kept
    return kept[1]


def _measure(generator: Generator, dtype: torch.dtype, memory: str | int) -> Rounding:
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
        return Rounding(ASSUMED_ROUNDING, ASSUMED_ROUNDING, ASSUMED_ROUNDING, verified=False)
    single = jacobian(generator.in_dtype(torch.float32), z, label, memory=memory)
    identity = torch.eye(generator.latent_dim, device=generator.device)
    columns, working = columns_of(single, identity, probes)
    largest = gram_spectrum(columns, torch.zeros(z.shape[0], device=z.device)).singular_values[:, 0]
    # Medians leave out latents next to a kink, whose own probes will show it. At least a few roundings,
    # because a network can be lucky on eight latents.
    spectral, frobenius = (
        max(float(torch.where(largest > 0, norm / largest, 0.0).median()), 2.0 * EPS32)
        for norm in (_schatten4(working, reference), disagreement(working, reference))
    )
    scale = EPS64 / EPS32 if dtype == torch.float64 else 1.0
    eta = SAFETY * spectral
    return Rounding(eta * scale, frobenius * scale, eta * EPS64 / EPS32, verified=True)


def auto_top_k(generator: Generator, seed: int = 0, memory: str | int = "1GiB") -> int:
    """The largest k whose sigma_k lies above the noise floor for 99% of seeded base draws.

    Found once for each generator (K products for each of 100 latents) and never from latents of a caller,
    so that all log-volumes of one generator are comparable.

    Raises:
        GeneratorError: no k qualifies: the generator ignores z, or is constant on most of its latents.
    """
    key = (generator.version(), generator.base, generator.dtype, parse_memory(memory), seed)
    kept = _top_k.get(generator.module)
    if kept is None or kept[0] != key:
        kept = (key, _largest_resolved(generator, seed, memory))
        _top_k[generator.module] = kept
    return kept[1]


def _largest_resolved(generator: Generator, seed: int, memory: str | int) -> int:
    z, label = calibration_latents(generator, TOP_K_LATENTS, seed)
    rounding = rounding_of(generator, z.dtype, memory)
    resolved = []
    for i in range(0, TOP_K_LATENTS, 10):
        part = z[i : i + 10]
        operator = jacobian(generator, part, None if label is None else label[i : i + 10], memory=memory)
        columns = operator @ input_basis(generator, part)
        spectrum = gram_spectrum(
            columns, columns.new_full((part.shape[0],), rounding.eta, dtype=torch.float64)
        )
        resolved.append(spectrum.singular_values > spectrum.floor[:, None])
    share = torch.cat(resolved).double().mean(0)
    top_k = int((share >= 0.99).sum())
    if top_k == 0:
        raise GeneratorError(
            f"{generator.name}: on {100 * (1 - float(share[0])):.0f}% of {TOP_K_LATENTS} latents of its base "
            "law the Jacobian is zero: the generator ignores z there (dead units, saturated output, "
            "untrained weights?). There is no volume to sample by; check the weights and base="
        )
    return top_k
