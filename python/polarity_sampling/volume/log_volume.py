"""`log_volume`: the log-volume of a generator at a batch of latents, each with a bound on its error."""

import math
from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import JacobianOperator, jacobian
from polarity_sampling.laws import Sphere
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume.calibration import (
    SAFETY,
    Rounding,
    auto_top_k,
    disagreement,
    probe_matrix,
    rounding_of,
)
from polarity_sampling.volume.certificate import log_volume_and_error
from polarity_sampling.volume.spectrum import Spectrum, columns_of, gram_spectrum, input_basis, svd_spectrum

Method = Literal["auto", "exact", "float64"]

# Probes of the float64 check of every latent, and how far above the generator's typical rounding error
# their disagreement must be to be taken for an activation on the wrong side of a kink.
CHECK_PROBES = 2
KINK = 3.0
# Latents handled together at most; by then the cost of a call has vanished in that of its products.
MAX_BATCH = 1024


@dataclass(frozen=True)
class LogVolume:
    """Log-volumes of B latents; `log_volume` describes the fields."""

    value: Tensor
    """[B] float64: sum over i <= k of log max(sigma_i, floor), in nats."""
    error: Tensor
    """[B] float64: bound on the error of `value`; inf where one of the k lies below the noise floor."""
    converged: Tensor
    """[B] bool: error <= tol."""
    singular_values: Tensor
    """[B, k] float64, descending."""
    rank: Tensor
    """[B] int64: singular values of all n above the noise floor (the float64 floor where recomputed)."""
    floor: Tensor
    """[B] float64: noise floor of the singular values."""
    eta: Tensor
    """[B] float64: bound on the spectral norm of the Jacobian's rounding error."""
    delta: Tensor
    """[B] float64: bound on the error of the squared singular values."""
    recomputed: Tensor
    """[B] bool: float32 missed tol, so the latent was done again in float64."""
    method: str
    """"exact" or "float64"."""
    products: int
    """Jacobian products per latent; a recomputed one took n more, in float64."""

    @property
    def top_k(self) -> int:
        """k, the number of singular values in the sum."""
        return self.singular_values.shape[1]


def log_volume(
    generator: "Generator | nn.Module",
    z: Tensor,
    label: Tensor | int | None = None,
    top_k: int | Literal["auto"] | None = "auto",
    *,
    method: Method = "auto",
    tol: float = 1e-2,
    seed: int = 0,
    memory: str | int = "1GiB",
) -> LogVolume:
    """Sum of the log singular values of dG/dz at every latent (Humayun et al., CVPR 2022, arXiv 2203.01993).

    All n = K products are formed (n = K - 1 on a sphere), their Gram matrix with float64 products, and its
    eigenvalues. Two random products in float64 check every latent: they bound the rounding inside the
    network and notice activations that float32 put on the wrong side of a kink. Latents whose error bound
    exceeds `tol` are done again in float64 with an SVD.

    Args:
        generator: a `Generator` or a module (then K is taken from z and the base law is normal).
        z: latents [B, K], dtype of the generator.
        label: classes [B] int64 or one class, for a conditional generator.
        top_k: how many of the leading singular values enter; None for all n. "auto" is the largest k that
            stays above the noise floor for 99% of seeded draws of the base law: a property of the
            generator, never of the given z.
        method: "exact" as above, "float64" the whole computation in float64, "auto" chooses ("exact").
        tol: wanted bound on the error, nats. A latent that misses it is marked, not hidden.
        seed: of the draws for top_k="auto".
        memory: budget for tangents in flight and stored products.

    Returns:
        `LogVolume`.

    Raises:
        ValueError, TypeError: an argument is out of range or does not fit the generator.
        GeneratorError: the generator cannot be differentiated latent by latent.
    """
    if not (isinstance(tol, int | float) and math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol is {tol!r}; expected a positive number (nats)")
    if method not in ("auto", "exact", "float64"):
        raise ValueError(f"method is {method!r}; expected 'auto', 'exact' or 'float64'")
    budget = parse_memory(memory)
    # One operator on the first latents settles what a plain module leaves open: K, classes, D.
    first = jacobian(generator, z, label, memory=budget)
    generator, z, labels = first.generator, first.z, first.label
    size = directions(generator)
    if top_k == "auto":
        top_k = auto_top_k(generator, seed, budget)
    elif top_k is None:
        top_k = size
    elif isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= size:
        raise ValueError(f"top_k is {top_k!r}; expected 'auto', None or an integer in 1..{size}")

    rounding = rounding_of(generator, z.dtype, budget)
    batch = batch_size(first, budget)
    parts = []
    for i in range(0, z.shape[0], batch):
        part = slice(i, i + batch)
        parts.append(
            _one_batch(
                generator,
                z[part],
                None if labels is None else labels[part],
                top_k,
                method,
                tol,
                rounding,
                budget,
            )
        )
    columns = {f.name: torch.cat([getattr(p, f.name) for p in parts]) for f in fields(LogVolume)[:-2]}
    return LogVolume(**columns, method=parts[0].method, products=parts[0].products)


def directions(generator: Generator) -> int:
    """n, the number of singular values of a latent: K, or K - 1 on a sphere."""
    return generator.latent_dim - isinstance(generator.base, Sphere)


def batch_size(operator: JacobianOperator, budget: int) -> int:
    """Latents handled together: a power of two whose columns, with a float64 copy, fit half the budget."""
    _, dim_out, dim_in = operator.shape
    fitting = budget // (4 * dim_out * (dim_in + CHECK_PROBES) * 8)
    return 1 << max(0, min(MAX_BATCH, fitting).bit_length() - 1)


def _one_batch(
    generator: Generator,
    z: Tensor,
    label: Tensor | None,
    top_k: int,
    method: Method,
    tol: float,
    rounding: Rounding,
    memory: int,
) -> LogVolume:
    basis = input_basis(generator, z)
    if method == "float64":
        spectrum = _in_float64(generator, z, label, rounding, memory)
        recomputed = torch.ones(z.shape[0], dtype=torch.bool, device=z.device)
        products = basis.shape[-1]
    else:
        spectrum, products = _in_working_precision(generator, z, label, basis, rounding, memory)
        recomputed = torch.zeros(z.shape[0], dtype=torch.bool, device=z.device)
        if rounding.verified:
            _, error = _value_and_error(spectrum, top_k)
            recomputed = error > tol
        if recomputed.any():
            again = _in_float64(
                generator, z[recomputed], None if label is None else label[recomputed], rounding, memory
            )
            spectrum = spectrum.replace_rows(recomputed, again)
    value, error = _value_and_error(spectrum, top_k)
    return LogVolume(
        value=value,
        error=error,
        converged=error <= tol,
        singular_values=spectrum.singular_values[:, :top_k].clone(),
        rank=(spectrum.singular_values > spectrum.floor[:, None]).sum(1),
        floor=spectrum.floor,
        eta=spectrum.eta,
        delta=spectrum.delta,
        recomputed=recomputed,
        method="float64" if method == "float64" else "exact",
        products=products,
    )


def _value_and_error(spectrum: Spectrum, top_k: int) -> tuple[Tensor, Tensor]:
    return log_volume_and_error(
        spectrum.singular_values[:, :top_k], spectrum.floor, spectrum.eta, spectrum.delta
    )


def _in_working_precision(
    generator: Generator, z: Tensor, label: Tensor | None, basis: Tensor, rounding: Rounding, memory: int
) -> tuple[Spectrum, int]:
    """Gram route, with the rounding bound of every latent checked against float64 products."""
    eta = torch.full((z.shape[0],), rounding.eta, dtype=torch.float64, device=z.device)
    operator = jacobian(generator, z, label, memory=memory)
    if z.dtype == torch.float64 or not rounding.verified:
        return gram_spectrum(operator @ basis, eta), basis.shape[-1]
    probes = probe_matrix(z.shape[1], CHECK_PROBES, z.dtype, z.device)
    columns, working = columns_of(operator, basis, probes)
    double = jacobian(generator.in_dtype(torch.float64), z.double(), label, memory=memory)
    found = disagreement(working, double @ probes.double())
    spectrum = gram_spectrum(columns, eta)
    kinked = found > KINK * rounding.frobenius * spectrum.singular_values[:, 0]
    # The floor stays where the generator's rounding puts it; only the error bar knows about this latent.
    checked = torch.where(kinked, torch.maximum(spectrum.eta, SAFETY * found), spectrum.eta)
    spectrum = Spectrum(spectrum.singular_values, spectrum.floor, checked, spectrum.delta)
    return spectrum, basis.shape[-1] + CHECK_PROBES


def _in_float64(
    generator: Generator, z: Tensor, label: Tensor | None, rounding: Rounding, memory: int
) -> Spectrum:
    """SVD of the float64 Jacobian, a few latents at a time."""
    double = generator.in_dtype(torch.float64)
    eta = torch.full((z.shape[0],), rounding.eta64, dtype=torch.float64, device=z.device)
    z = z.double()
    operator = jacobian(double, z, label, memory=memory)
    return svd_spectrum((operator @ input_basis(generator, z)).contiguous(), eta)
