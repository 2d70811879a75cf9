"""A batch of latents on its way to log-volumes: the route, the float64 check, and going over again."""

from dataclasses import dataclass, fields
from typing import Literal

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import jacobian
from polarity_sampling.volume.calibration import (
    CHECK_PROBES,
    KINK,
    SAFETY,
    Rounding,
    disagreement,
    probe_matrix,
)
from polarity_sampling.volume.fixed_krylov import fixed_krylov
from polarity_sampling.volume.gram import gram
from polarity_sampling.volume.krylov import block_krylov
from polarity_sampling.volume.latents import Jacobians, directions, in_coordinates, input_basis, restricted
from polarity_sampling.volume.norm_bound import FAILURE
from polarity_sampling.volume.plan import COVERAGE, ITERATED, Plan
from polarity_sampling.volume.singular_values import Status
from polarity_sampling.volume.spectrum import (
    Spectrum,
    bracketed_spectrum,
    noise_floor,
    spectrum_of_gram,
    spectrum_of_layer_gram,
    svd_spectrum,
)
from polarity_sampling.volume.svd import svd

Method = Literal["auto", "exact", "krylov", "range_finder", "qr", "preconditioned", "float64"]


@dataclass(frozen=True)
class Settings:
    """What is the same for all batches of a call."""

    generator: Generator
    top_k: int
    method: Method
    tol: float
    plan: Plan | None  # of method "auto"
    rounding: Rounding
    seed: int
    memory: int

    @property
    def route(self) -> str:
        return self.method if self.plan is None else self.plan.route

    @property
    def certificate(self) -> Literal["bound", "estimate"]:
        return "estimate" if self.route == "fixed_krylov" else "bound"

    @property
    def failure(self) -> float:
        return {"fixed_krylov": 1.0 - COVERAGE, "krylov": FAILURE, "range_finder": FAILURE}.get(
            self.route, 0.0
        )


@dataclass(frozen=True)
class Volumes:
    """The columns of a `LogVolume` that are computed batch by batch."""

    value: Tensor
    error: Tensor
    status: Tensor
    singular_values: Tensor
    rank: Tensor
    floor: Tensor
    eta: Tensor
    delta: Tensor
    recomputed: Tensor
    spent: Tensor


@dataclass(frozen=True)
class _Found:
    """What a route has to say of b latents."""

    spectrum: Spectrum
    rank: Tensor  # [b]
    spent: Tensor  # [b]
    slow: Tensor | None = None  # [b] bool: tol is out of reach of this route
    spread: Tensor | None = None  # [b] error that no spectrum shows: what a calibrated correction leaves

    def log_volume(self) -> tuple[Tensor, Tensor]:
        value, error = self.spectrum.log_volume()
        return value, error if self.spread is None else error + self.spread

    def replace_rows(self, index: Tensor, other: "_Found") -> "_Found":
        """Rows `index` from `other`, which left nothing out; its products come on top."""
        rank, spent = self.rank.clone(), self.spent.clone()
        rank[index] = other.rank
        spent[index] += other.spent
        slow, spread = (
            None if column is None else column.index_fill(0, index, 0) for column in (self.slow, self.spread)
        )
        return _Found(self.spectrum.replace_rows(index, other.spectrum), rank, spent, slow, spread)


def one_batch(settings: Settings, z: Tensor, label: Tensor | None) -> Volumes:
    """Log-volumes of latents z [b, K], all in memory together."""
    nobody = z.new_zeros(z.shape[0], dtype=torch.bool)
    if settings.method == "float64":
        found, kinked, recomputed = _in_float64(settings, z, label), nobody, ~nobody
    else:
        found, kinked = _in_working_precision(settings, z, label)
        recomputed = nobody
    value, error = found.log_volume()
    status = torch.full_like(found.rank, Status.CONVERGED, dtype=torch.int8)
    if not bool((error <= settings.tol).all()):
        if settings.method != "float64" and settings.rounding.verified:
            recomputed = error > settings.tol  # what rounding spoilt
            if found.slow is not None:  # a route that gave up would do no better in float64
                recomputed &= ~(found.slow & torch.isfinite(error))
            again = recomputed.nonzero()[:, 0]
            if again.numel():
                part = _in_float64(settings, z[again], None if label is None else label[again])
                found = found.replace_rows(again, part)
                value, error = found.log_volume()
        status = _status(found, error, settings.tol, kinked & ~recomputed)
    return Volumes(
        value=value,
        error=error,
        status=status,
        singular_values=found.spectrum.singular_values.clone(),
        rank=found.rank,
        floor=found.spectrum.floor,
        eta=found.spectrum.eta,
        delta=found.spectrum.delta.amax(1),
        recomputed=recomputed,
        spent=found.spent,
    )


def _status(found: _Found, error: Tensor, tol: float, kinked: Tensor) -> Tensor:
    """[b] int8: why a latent missed tol, if it did."""
    status = torch.full_like(found.rank, Status.ROUNDING, dtype=torch.int8)
    status[kinked] = Status.KINK
    if found.slow is not None:
        status[found.slow] = Status.SLOW_SPECTRUM
    status[(found.spectrum.singular_values <= found.spectrum.floor[:, None]).any(1)] = Status.BELOW_FLOOR
    status[error <= tol] = Status.CONVERGED
    return status


def _in_working_precision(settings: Settings, z: Tensor, label: Tensor | None) -> tuple[_Found, Tensor]:
    """The planned route, with the rounding bound of every latent checked against float64 products."""
    rounding = settings.rounding
    latents = Jacobians.at(settings.generator, z, label, settings.memory, rounding.primal)
    if settings.route == "exact" and rounding.spares_layer:
        found = _without_last_layer(settings, latents, input_basis(settings.generator, z.double()))
        return found, z.new_zeros(z.shape[0], dtype=torch.bool)
    basis = input_basis(settings.generator, z)
    checks = rounding.probes if z.dtype != torch.float64 and rounding.verified else 0
    if settings.certificate == "estimate" and rounding.primal == "float64":
        checks = 0  # no kinks are left, and an estimate may take rounding for what it was on other latents
    wanted = CHECK_PROBES if settings.route == "fixed_krylov" else checks
    probes = probe_matrix(z.shape[1], CHECK_PROBES, z.dtype, z.device)[:, :wanted]
    found, working = _along_route(settings, latents, basis, probes)
    if not checks:
        return found, z.new_zeros(z.shape[0], dtype=torch.bool)
    off = disagreement(working[:, :, :checks], _reference(settings, latents, probes[:, :checks].double()))
    spectrum = found.spectrum
    kinked = off > KINK * rounding.frobenius * spectrum.singular_values[:, 0]
    # The floor stays where the generator's rounding puts it; only the error bar knows about this latent.
    eta = torch.where(kinked, torch.maximum(spectrum.eta, SAFETY * off), spectrum.eta)
    spectrum = Spectrum(spectrum.singular_values, spectrum.floor, eta, spectrum.delta)
    return _Found(spectrum, found.rank, found.spent, found.slow, found.spread), kinked


def _reference(settings: Settings, latents: Jacobians, probes: Tensor) -> Tensor:
    """J @ probes in float64, [b, D, p]."""
    working = latents.operator
    if settings.rounding.primal == "float64":
        return working.in_float64(probes)
    double = settings.generator.in_dtype(torch.float64)
    return jacobian(double, working.z.double(), working.label, memory=settings.memory) @ probes


def _along_route(
    settings: Settings, latents: Jacobians, basis: Tensor, probes: Tensor
) -> tuple[_Found, Tensor]:
    """What the route finds, and J @ probes [b, D, p]."""
    if settings.route == "exact":
        return _exact(settings, latents, basis, probes)
    working = latents @ probes if probes.shape[1] else latents.operator.z.new_zeros(())
    if settings.route == "fixed_krylov":
        return _fixed(settings, latents, basis, probes, working), working
    return _bracketed(settings, latents, basis, probes.shape[1]), working


def _exact(settings: Settings, latents: Jacobians, basis: Tensor, probes: Tensor) -> tuple[_Found, Tensor]:
    """All products, those with the probes in the same pass where the columns fit the memory."""
    batch, dim_out, _ = latents.shape
    size, count = basis.shape[-1], probes.shape[1]
    if batch * dim_out * (size + count) * basis.element_size() <= settings.memory:
        probes = probes if basis.ndim == 2 else probes.expand(batch, *probes.shape)
        columns = latents @ torch.cat([basis, probes], -1)
        matrix, working = polarity_ext.gram(columns[:, :, :size]), columns[:, :, size:]
        products = size
    else:
        matrix, products = gram(latents, basis, settings.memory)
        working = latents @ probes if count else latents.operator.z.new_zeros(())
    spectrum = spectrum_of_gram(matrix, settings.rounding.eta, latents.dtype)
    return _found(spectrum, settings.top_k, products + count), working


def _without_last_layer(settings: Settings, latents: Jacobians, basis: Tensor) -> _Found:
    """All products, but those of the last layer; in float64, so that there is nothing to check."""
    found = latents.operator.gram_in_float64(basis)
    assert found is not None
    spectrum = spectrum_of_layer_gram(*found, settings.rounding.eta64)
    return _found(spectrum, settings.top_k, basis.shape[-1])


def _found(spectrum: Spectrum, top_k: int, products: int) -> _Found:
    """From all singular values."""
    rank = spectrum.rank
    return _Found(spectrum.leading(top_k), rank, torch.full_like(rank, products))


def _bracketed(settings: Settings, latents: Jacobians, basis: Tensor, count: int) -> _Found:
    """A route of `svd`. Planned, a latent that it does not bring to tol within n products is done exactly."""
    size = basis.shape[-1]
    eta = settings.rounding.eta
    operator = restricted(latents, basis)
    floor = noise_floor(eta, size, latents.dtype)
    tol = ITERATED * settings.tol
    if settings.plan is None:
        method = settings.method
        assert method != "exact"
        assert method != "float64"
        values = svd(
            operator,
            settings.top_k,
            method=method,
            tol=tol,
            floor=floor,
            seed=settings.seed,
            memory=settings.memory,
        )
    else:
        start = settings.plan.start
        values = block_krylov(
            operator,
            settings.top_k,
            tol=tol,
            max_products=size,
            start=None if start is None else in_coordinates(start, basis),
            block=settings.plan.block,
            floor=floor,
            seed=settings.seed,
        )
    spectrum = bracketed_spectrum(values, size, eta, latents.dtype)
    slow = values.status == Status.SLOW_SPECTRUM
    found = _Found(spectrum, spectrum.rank, values.products + count, slow)
    return found if settings.plan is None else _exact_for(settings, found, slow, latents, basis)


def _exact_for(settings: Settings, found: _Found, which: Tensor, latents: Jacobians, basis: Tensor) -> _Found:
    """The same with the latents `which` [b] done exactly."""
    index = which.nonzero()[:, 0]
    if not index.numel():
        return found
    part = basis if basis.ndim == 2 else basis[index]
    probes = basis.new_empty(latents.shape[2], 0)  # who called makes the check
    return found.replace_rows(index, _exact(settings, latents.rows(index), part, probes)[0])


def _fixed(settings: Settings, latents: Jacobians, basis: Tensor, probes: Tensor, working: Tensor) -> _Found:
    """The calibrated route; latents that are unlike those it was calibrated on are done exactly."""
    plan, top_k = settings.plan, settings.top_k
    assert plan is not None
    assert plan.start is not None
    assert plan.correction is not None
    krylov = fixed_krylov(restricted(latents, basis), in_coordinates(plan.start, basis), plan.steps)
    size = basis.shape[-1]
    # On a sphere the probes have a radial part, which belongs to no direction of the subspace.
    tangential = in_coordinates(probes, basis)
    images = working if basis.ndim == 2 else latents @ (basis @ tangential)
    products = krylov.products + probes.shape[1] * (1 if basis.ndim == 2 else 2)
    unlike = krylov.outside(tangential, images, top_k) > plan.outside
    sigma = krylov.eigenvalues[:, :top_k].sqrt() * torch.exp(-plan.correction)
    delta = krylov.delta[:, None].expand_as(sigma)
    spectrum = Spectrum.of(sigma, delta, size, settings.rounding.eta, latents.dtype)
    rank, spread = spectrum.rank, torch.full_like(spectrum.floor, plan.spread)
    found = _Found(spectrum, rank, torch.full_like(rank, products), unlike, spread)
    return _exact_for(settings, found, unlike, latents, basis)


def _in_float64(settings: Settings, z: Tensor, label: Tensor | None) -> _Found:
    """Every column of the float64 Jacobian and a QR factorisation, a few latents at a time."""
    double = settings.generator.in_dtype(torch.float64)
    size = directions(double)
    parts = []
    step = 1
    i = 0
    while i < z.shape[0]:
        rows = slice(i, i + step)
        operator = jacobian(
            double, z[rows].double(), None if label is None else label[rows], memory=settings.memory
        )
        # Columns, their contiguous copy and a block of rows beside it.
        step = max(1, settings.memory // (4 * 8 * operator.shape[1] * size))
        columns = operator @ input_basis(double, z[rows].double())
        i += columns.shape[0]
        parts.append(svd_spectrum(columns, settings.rounding.eta64))
    whole = Spectrum(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Spectrum)))
    return _found(whole, settings.top_k, size)
