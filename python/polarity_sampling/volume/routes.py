"""A batch of latents on its way to log-volumes: the route, the float64 check, and going over again."""

from dataclasses import dataclass, fields, replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.footprint import footprint
from polarity_sampling.jacobian.operator import JacobianOperator, jacobian
from polarity_sampling.volume.calibration import (
    CHECK_PROBES,
    KINK,
    SAFETY,
    UNCHECKED,
    Rounding,
    disagreement,
    probe_matrix,
    sum_of_columns,
    summed_columns,
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
    gram_spectrum,
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


class Volumes(NamedTuple):
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
    converged: Tensor


@dataclass(frozen=True)
class _Found:
    """What a route has to say of b latents."""

    spectrum: Spectrum  # of the k largest singular values
    value: Tensor  # [b]
    error: Tensor  # [b]
    rank: Tensor  # [b]
    spent: Tensor  # [b]
    slow: Tensor | None = None  # [b] bool: tol is out of reach of this route
    spread: Tensor | None = None  # [b] error that no spectrum shows: what a calibrated correction leaves

    @staticmethod
    def of(
        spectrum: Spectrum,
        top_k: int,
        products: int | Tensor,
        slow: Tensor | None = None,
        spread: Tensor | None = None,
    ) -> "_Found":
        """By a spectrum of k singular values or more, and the products it took."""
        value, error, rank = spectrum.log_volume(top_k)
        error = error if spread is None else error + spread
        spent = torch.full_like(rank, products) if isinstance(products, int) else products
        return _Found(spectrum.leading(top_k), value, error, rank, spent, slow, spread)

    def with_eta(self, eta: Tensor) -> "_Found":
        """With another bound [b] on the rounding of Jacobians. The floor stays where it is."""
        spectrum = replace(self.spectrum, eta=eta)
        top_k = spectrum.singular_values.shape[1]
        return replace(_Found.of(spectrum, top_k, self.spent, self.slow, self.spread), rank=self.rank)

    def replace_rows(self, index: Tensor, other: "_Found") -> "_Found":
        """Rows `index` from `other`, which left nothing out; its products come on top."""
        columns = {
            name: getattr(self, name).index_copy(0, index, getattr(other, name))
            for name in ("value", "error", "rank")
        }
        spent = self.spent.index_add(0, index, other.spent)
        slow, spread = (
            None if column is None else column.index_fill(0, index, 0) for column in (self.slow, self.spread)
        )
        spectrum = self.spectrum.replace_rows(index, other.spectrum)
        return _Found(spectrum, **columns, spent=spent, slow=slow, spread=spread)


def one_batch(settings: Settings, z: Tensor, label: Tensor | None) -> Volumes:
    """Log-volumes of latents z [b, K], all in memory together."""
    nobody = kinked = recomputed = z.new_zeros(z.shape[0], dtype=torch.bool)
    if settings.method == "float64":
        found, recomputed = _in_float64(settings, z, label), ~nobody
    elif settings.route == "exact" and settings.rounding.gram != "checked":
        found = _exact_in_float64(settings, z, label)
    else:
        found, kinked = _in_working_precision(settings, z, label)
    converged = found.error <= settings.tol
    status = torch.full_like(nobody, Status.CONVERGED, dtype=torch.int8)
    if not converged.all():
        if settings.method != "float64" and settings.rounding.verified:
            recomputed = found.error > settings.tol  # what rounding spoilt
            if found.slow is not None:  # a route that gave up would do no better in float64
                recomputed &= ~(found.slow & torch.isfinite(found.error))
            again = recomputed.nonzero()[:, 0]
            if again.numel():
                part = _in_float64(settings, z[again], None if label is None else label[again])
                found = found.replace_rows(again, part)
                converged = found.error <= settings.tol
        status = _status(found, converged, kinked & ~recomputed)
    spectrum = found.spectrum
    return Volumes(
        value=found.value,
        error=found.error,
        status=status,
        singular_values=spectrum.singular_values.contiguous(),
        rank=found.rank,
        floor=spectrum.floor,
        eta=spectrum.eta,
        delta=spectrum.delta.amax(1),
        recomputed=recomputed,
        spent=found.spent,
        converged=converged,
    )


def _status(found: _Found, converged: Tensor, kinked: Tensor) -> Tensor:
    """[b] int8: why a latent missed tol, if it did."""
    status = torch.full_like(found.rank, Status.ROUNDING, dtype=torch.int8)
    status[kinked] = Status.KINK
    if found.slow is not None:
        status[found.slow] = Status.SLOW_SPECTRUM
    status[(found.spectrum.singular_values <= found.spectrum.floor[:, None]).any(1)] = Status.BELOW_FLOOR
    status[converged] = Status.CONVERGED
    return status


def _in_working_precision(settings: Settings, z: Tensor, label: Tensor | None) -> tuple[_Found, Tensor]:
    """The planned route, with the rounding bound of every latent checked against float64 products."""
    rounding = settings.rounding
    latents = Jacobians.at(settings.generator, z, label, settings.memory, rounding.primal)
    basis = input_basis(settings.generator, z)
    checks = rounding.probes if z.dtype != torch.float64 and rounding.verified else 0
    if settings.certificate == "estimate" and rounding.primal == "float64":
        checks = 0  # no kinks are left, and an estimate may take rounding for what it was on other latents
    wanted = CHECK_PROBES if settings.route == "fixed_krylov" else checks
    probes = probe_matrix(z.shape[1], CHECK_PROBES, z.dtype, z.device)[:, :wanted]
    found, working, along = _along_route(settings, latents, basis, probes)
    if not checks:
        return found, z.new_zeros(z.shape[0], dtype=torch.bool)
    off = disagreement(working[:, :, :checks], _reference(settings, latents, along[..., :checks]))
    eta = found.spectrum.eta
    kinked = off > KINK * rounding.frobenius * found.spectrum.singular_values[:, 0]
    if kinked.any():
        # The floor stays where the generator's rounding puts it; only the error bar knows about this latent.
        found = found.with_eta(torch.where(kinked, torch.maximum(eta, SAFETY * off), eta))
    return found, kinked


def _reference(settings: Settings, latents: Jacobians, probes: Tensor) -> Tensor:
    """J @ probes in float64, [b, D, p]."""
    working = latents.operator
    if settings.rounding.primal == "float64":
        return working.in_float64(probes)
    double = settings.generator.in_dtype(torch.float64)
    return jacobian(double, working.z.double(), working.label, memory=settings.memory) @ probes


def _along_route(
    settings: Settings, latents: Jacobians, basis: Tensor, probes: Tensor
) -> tuple[_Found, Tensor, Tensor]:
    """What the route finds, products [b, D, p] with the probes or others, and these, in float64."""
    if settings.route == "exact":
        return _exact(settings, latents, basis, probes)
    working = latents @ probes if probes.shape[1] else latents.operator.z.new_zeros(())
    if settings.route == "fixed_krylov":
        return _fixed(settings, latents, basis, probes, working), working, probes.double()
    return _bracketed(settings, latents, basis, probes.shape[1]), working, probes.double()


def _exact(
    settings: Settings, latents: Jacobians, basis: Tensor, probes: Tensor
) -> tuple[_Found, Tensor, Tensor]:
    """All products, those with the probes in the same pass where the columns fit the memory.

    Where nothing but rounding is looked for, and columns are there, one is a sum of some of these.
    """
    batch, dim_out, _ = latents.shape
    size, count = basis.shape[-1], probes.shape[1]
    if batch * dim_out * (size + count) * basis.element_size() <= settings.memory:
        if count and settings.rounding.primal == "float64":
            columns = latents @ basis
            spectrum = gram_spectrum(columns, settings.rounding.eta)
            along = basis.double() @ summed_columns(size).to(basis.device, torch.float64)
            return _Found.of(spectrum, settings.top_k, size + count), sum_of_columns(columns), along
        probes = probes if basis.ndim == 2 else probes.expand(batch, *probes.shape)
        columns = latents @ torch.cat([basis, probes], -1)
        matrix, working = polarity_ext.gram(columns[:, :, :size]), columns[:, :, size:]
        products = size
    else:
        matrix, products = gram(latents, basis, settings.memory)
        working = latents @ probes if count else latents.operator.z.new_zeros(())
    spectrum = spectrum_of_gram(matrix, settings.rounding.eta, latents.dtype)
    return _Found.of(spectrum, settings.top_k, products + count), working, probes.double()


def _exact_in_float64(settings: Settings, z: Tensor, label: Tensor | None) -> _Found:
    """A perceptron's products in float64, perhaps without those of the last layer: no latent is checked."""
    rounding = settings.rounding
    operator = JacobianOperator(settings.generator, z, label, settings.memory, primal=rounding.primal)
    basis = input_basis(settings.generator, z.double())
    if rounding.gram == "layer":
        found = operator.gram_in_float64(basis)
        assert found is not None
        spectrum = spectrum_of_layer_gram(*found, rounding.eta64)
    else:
        spectrum = gram_spectrum(operator.in_float64(basis), UNCHECKED * rounding.eta64)
    return _Found.of(spectrum, settings.top_k, basis.shape[-1])


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
    found = _Found.of(spectrum, settings.top_k, values.products + count, slow)
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
    found = _Found.of(spectrum, top_k, products, unlike, torch.full_like(spectrum.floor, plan.spread))
    return _exact_for(settings, found, unlike, latents, basis)


def _in_float64(settings: Settings, z: Tensor, label: Tensor | None) -> _Found:
    """Every column of the float64 Jacobian, a few latents at a time."""
    double = settings.generator.in_dtype(torch.float64)
    size = directions(double)
    dim_out = footprint(settings.generator, z, label).dim_out
    # Columns, their contiguous copy and a block of rows beside it.
    step = max(1, settings.memory // (4 * 8 * dim_out * size))
    parts = []
    for rows in torch.arange(z.shape[0]).split(step):
        some = slice(int(rows[0]), int(rows[-1]) + 1)
        operator = jacobian(
            double, z[some].double(), None if label is None else label[some], memory=settings.memory
        )
        parts.append(_float64_spectrum(settings, operator @ input_basis(double, z[some].double())))
    whole = Spectrum(*(torch.cat([getattr(part, f.name) for part in parts]) for f in fields(Spectrum)))
    return _Found.of(whole, settings.top_k, size)


def _float64_spectrum(settings: Settings, columns: Tensor) -> Spectrum:
    """By a QR factorisation of the columns [b, D, n]; asked for "float64" by name, of all latents.

    Else a Gram matrix comes first, which is many times cheaper, and does for latents that it brings to tol.
    """
    eta = settings.rounding.eta64
    if settings.method == "float64":
        return svd_spectrum(columns, eta)
    spectrum = gram_spectrum(columns, eta)
    index = (spectrum.log_volume(settings.top_k)[1] > settings.tol).nonzero()[:, 0]
    if not index.numel():
        return spectrum
    return spectrum.replace_rows(index, svd_spectrum(columns[index], eta))
