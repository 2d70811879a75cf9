"""`log_volume`: the log-volume of a generator at a batch of latents, each with a bound on its error."""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.captured_route import CPU_BUFFER
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.jacobian.inputs import checked_inputs, generator_for
from polarity_sampling.jacobian.precision import Primal
from polarity_sampling.memory import parse_memory
from polarity_sampling.precision import in_full_precision
from polarity_sampling.volume.calibration import CHECK_PROBES, rounding_of
from polarity_sampling.volume.latents import nonzero, why_no_more
from polarity_sampling.volume.plan import TolMode, plan_for
from polarity_sampling.volume.routes import Method, Settings, Volumes, one_batch
from polarity_sampling.volume.svd import check_tol
from polarity_sampling.volume.top_k import auto_top_k

_METHODS, _TOL_MODES, _PRIMALS = get_args(Method), get_args(TolMode), ("auto", *get_args(Primal))
# Latents handled together at most; by then the cost of a call has vanished in that of its products.
MAX_BATCH = 1024
# On a GPU the call is dearer and its products are cheaper.
MAX_GPU_BATCH = 8192
# On a CPU as many at least, where the memory allows it: many enough for products at full speed.
_ENOUGH = 64


@dataclass(frozen=True)
class LogVolume:
    """Log-volumes of B latents; `log_volume` describes the fields."""

    value: Tensor
    """[B] float64: sum over i <= k of log max(sigma_i, floor), in nats."""
    error: Tensor
    """[B] float64: bound on the error of `value` (an estimate of it where `certificate` says so); inf where
    one of the k lies below the noise floor."""
    converged: Tensor
    """[B] bool: error <= tol."""
    status: Tensor
    """[B] int8: why, values of `Status`."""
    singular_values: Tensor
    """[B, k] float64, descending."""
    rank: Tensor
    """[B] int64: singular values above the noise floor (the float64 floor where recomputed), out of all n, or
    out of the k where the route finds no more."""
    floor: Tensor
    """[B] float64: noise floor of the singular values."""
    eta: Tensor
    """[B] float64: bound on the spectral norm of the Jacobian's rounding error."""
    delta: Tensor
    """[B] float64: bound on the error of the squared singular values, the largest of the k."""
    recomputed: Tensor
    """[B] bool: float32 missed tol, so the latent was done again in float64."""
    spent: Tensor
    """[B] int64: Jacobian products, a vector each; those that are compared with float64 count."""
    method: str
    """Route of the batch: "exact", "float64", "krylov", "fixed_krylov", ..."""
    certificate: Literal["bound", "estimate"]
    """A bound fails with probability `failure`; an estimate rests on latents like those calibrated on."""
    failure: float
    """Probability that an error is not what it claims to be, per latent; over probes for a bound."""
    tol: float
    tol_mode: TolMode

    @property
    def top_k(self) -> int:
        """k, the number of singular values in the sum."""
        return self.singular_values.shape[1]

    @property
    def products(self) -> int:
        """Jacobian products of the latent that took most."""
        return int(self.spent.max())


@in_full_precision
def log_volume(
    generator: "Generator | nn.Module",
    z: Tensor,
    label: Tensor | int | None = None,
    top_k: int | Literal["auto"] | None = "auto",
    *,
    method: Method = "auto",
    tol: float = 1e-2,
    tol_mode: TolMode = "absolute",
    primal: Primal | Literal["auto"] = "auto",
    seed: int = 0,
    memory: str | int = "1GiB",
) -> LogVolume:
    """Sum of the log singular values of dG/dz at every latent (Humayun et al., CVPR 2022, arXiv 2203.01993).

    A latent has n singular values: K, or K - 1 on a sphere, or r where nothing reads the latent but linear
    layers that pass on r < K numbers (Linear(100, 32) in front: 32, as far as the module can be captured).
    All others are zero for every latent and enter no sum.

    "exact" forms n products, their Gram matrix with float64 products, and its eigenvalues. "auto" takes it
    unless n is so large beside k, and the singular values of some calibration latents decay so fast, that a
    certified Krylov iteration took fewer products on those; a latent that it does not bring to `tol` within
    n products is done exactly. The forward pass runs in float64, which decides on which side of its kink an
    activation is, and a random product in float64 checks the rounding of every latent. Latents whose
    rounding exceeds `tol` are done again in float64. Exact products of a perceptron that is small or has few
    active units are all in float64 (on a CPU), because there that is also the fastest way.

    What a latent gets depends on the generator and the arguments, never on the other latents of the call.

    Args:
        generator: a `Generator` or a module (then K is taken from z and the base law is normal).
        z: latents [B, K], dtype of the generator.
        label: classes [B] int64 or one class, for a conditional generator.
        top_k: how many of the leading singular values enter; None for all n. "auto" is the largest k that
            stays above the noise floor for 99% of seeded draws of the base law: a property of the
            generator, never of the given z.
        method: "auto", or a route by name: "exact", "krylov", "range_finder", "qr" or "preconditioned" (see
            `ps.volume.svd`), or "float64", the whole computation in float64 with a QR factorisation.
        tol: wanted bound on the error, nats. A latent that misses it is marked, not hidden.
        tol_mode: "absolute": for every latent |value - truth| <= error, a bound. "relative", for "auto" only:
            there is one c for all latents with |value - truth - c| <= error, so that log-volumes of two
            latents differ by what they should up to the sum of their errors; sampling weights feel nothing
            else. A fixed number of products does it, found out on 228 calibration latents (n products each,
            once), and the error is the range of errors on 200 of those, widened by half, plus rounding: an
            estimate, for latents like draws of the base law. A latent that looks unlike them is done exactly.
            With more than 1,024 directions the absolute bound is what meets it, without that calibration.
        primal: precision of the forward pass (see `jacobian`); the float64 check needs one in float64 anyway.
            "float64": ValueError where the generator cannot be captured or does not run in it. "working":
            the generator's own; two products check every latent then, and one with an activation on the
            wrong side of its kink is done again. "auto" is "float64" wherever that is possible.
        seed: of the draws for top_k="auto", random first directions and probes.
        memory: budget for tangents in flight and stored products.

    Returns:
        `LogVolume`.

    Raises:
        ValueError, TypeError: an argument is out of range or does not fit the generator.
        GeneratorError: the generator cannot be differentiated latent by latent.
    """
    check_tol(tol)
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}; expected one of {', '.join(_METHODS)}")
    if tol_mode not in _TOL_MODES:
        raise ValueError(f"tol_mode is {tol_mode!r}; expected 'absolute' or 'relative'")
    if tol_mode == "relative" and method != "auto":
        raise ValueError(f"tol_mode 'relative' chooses its own route; expected method='auto', not {method!r}")
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**63:
        raise ValueError(f"seed is {seed!r}; expected an integer in [0, 2**63)")
    budget = parse_memory(memory)
    if primal not in _PRIMALS:
        raise ValueError(f"primal is {primal!r}; expected 'auto', 'working' or 'float64'")
    generator = generator_for(generator, z, label).at_rest()
    z, labels = checked_inputs(generator, z, label)
    size = nonzero(generator, z, labels)
    if top_k == "auto":
        top_k = auto_top_k(generator, seed, budget)
    elif top_k is None:
        top_k = size
    elif isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= size:
        raise ValueError(
            f"top_k is {top_k!r}; expected 'auto', None or an integer in 1..{size}"
            f"{why_no_more(generator, size)}"
        )

    settings = Settings(
        generator=generator,
        top_k=top_k,
        method=method,
        tol=tol,
        plan=plan_for(generator, top_k, tol, tol_mode, budget) if method == "auto" else None,
        rounding=rounding_of(generator, z.dtype, budget, primal),
        seed=seed,
        memory=budget,
    )
    batch = batch_size(footprint(generator, z, labels).dim_out, z.shape[1], budget, z.device)
    several = (None,) * -(-z.shape[0] // batch) if labels is None else labels.split(batch)
    parts = [one_batch(settings, zs, label) for zs, label in zip(z.split(batch), several, strict=True)]
    columns = parts[0] if len(parts) == 1 else Volumes(*map(torch.cat, zip(*parts, strict=True)))
    return LogVolume(
        **columns._asdict(),
        method=settings.route,
        certificate=settings.certificate,
        failure=settings.failure,
        tol=tol,
        tol_mode=tol_mode,
    )


def batch_size(dim_out: int, dim_in: int, budget: int, device: torch.device) -> int:
    """Latents handled together: a power of two whose columns, with a float64 copy, fit half the budget.

    On a CPU not many more than are enough, unless their columns are a piece of memory that is kept from call
    to call: to write to new memory costs a small network more than its products.
    """
    columns = dim_out * (dim_in + CHECK_PROBES)
    on_cpu = device.type == "cpu"
    most = min(MAX_BATCH if on_cpu else MAX_GPU_BATCH, budget // (4 * columns * 8))
    if on_cpu:
        most = min(most, max(_ENOUGH, CPU_BUFFER // (columns * 4)))
    return 1 << max(0, most.bit_length() - 1)
