"""Laws of a latent: how rows are drawn, and with what density.

A law describes one latent z in R^K and knows nothing of generators; the dimension is an argument. Row r
is a function of (seed, r) alone, bit for bit, whichever other rows are asked for: the counter-based
streams of `polarity_ext` are read at an offset computed from r, and everything behind them is built from
correctly rounded operations in a fixed order (TruncatedNormal excepted: its logarithm is the platform's).
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

import polarity_ext

# Rows closer than this many numbers are drawn in one call and the gap is thrown away: generating it costs
# less than another call. Longer calls are cut, so that temporaries stay small.
_GAP = 1 << 13
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Law(ABC):
    """The law of one latent in R^K. Laws are immutable values: equal parameters compare equal."""

    name: ClassVar[str]
    uniform: ClassVar[bool] = False
    """True where the density is constant on the support (Uniform, Sphere, Ball)."""

    def draw(self, seed: int, rows: Tensor, dim: int) -> Tensor:
        """Draw the latents of the given rows.

        Args:
            seed: stream, 0 <= seed < 2**63.
            rows: int64 [n], row numbers >= 0 in any order, repeats allowed.
            dim: K >= 1.

        Returns:
            float32 [n, K] on the CPU; row i depends on (seed, rows[i]) alone.

        Raises:
            TypeError: rows is not an int64 vector.
            ValueError: seed, a row or dim is out of range.
        """
        if not 0 <= seed < 2**63:
            raise ValueError(f"seed={seed}: expected an integer in [0, 2**63)")
        if dim < 1:
            raise ValueError(f"dim={dim}: expected the latent dimension, at least 1")
        if rows.dtype != torch.int64 or rows.ndim != 1:
            raise TypeError(f"rows is {rows.dtype} of shape {tuple(rows.shape)}: expected an int64 vector")
        if rows.numel() == 0:
            return torch.empty(0, dim, dtype=torch.float32, device="cpu")
        rows = rows.cpu()
        low, high = int(rows.min()), int(rows.max())
        if low < 0 or high >= 2**62 // (dim + 2):
            raise ValueError(f"rows span [{low}, {high}]: expected row numbers in [0, {2**62 // (dim + 2)})")

        steps = rows.diff()
        if bool((steps == 1).all()):
            return self._draw_run(seed, low, high + 1, dim)
        if bool((steps > 0).all()):
            return self._draw_sorted(seed, rows, dim)
        distinct, position = torch.unique(rows, return_inverse=True)
        return self._draw_sorted(seed, distinct, dim)[position]

    def _draw_sorted(self, seed: int, rows: Tensor, dim: int) -> Tensor:
        out = torch.empty(rows.numel(), dim, dtype=torch.float32, device="cpu")
        breaks = (rows.diff() > max(1, _GAP // dim)).nonzero().flatten() + 1
        edges = [0, *breaks.tolist(), rows.numel()]
        for begin, end in pairwise(edges):
            start, stop = int(rows[begin]), int(rows[end - 1]) + 1
            step = max(1, _BLOCK // dim)
            bounds = torch.arange(start, stop + step, step, device="cpu")
            cuts = (begin + torch.searchsorted(rows[begin:end], bounds)).tolist()
            for first, (a, b) in zip(bounds.tolist(), pairwise(cuts), strict=False):
                if a < b:
                    block = self._draw_block(seed, first, min(first + step, stop), dim)
                    out[a:b] = block[rows[a:b] - first]
        return out

    def _draw_run(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        step = max(1, _BLOCK // dim)
        if stop - start <= step:
            return self._draw_block(seed, start, stop, dim)
        out = torch.empty(stop - start, dim, dtype=torch.float32, device="cpu")
        for first in range(start, stop, step):
            last = min(first + step, stop)
            out[first - start : last - start] = self._draw_block(seed, first, last, dim)
        return out

    @abstractmethod
    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        """Rows start .. stop - 1 as float32 [stop - start, dim]; a new tensor."""

    @abstractmethod
    def log_density(self, z: Tensor) -> Tensor:
        """Log density at z [n, K]: float64 [n], normalised, -inf off the support.

        With respect to Lebesgue measure on R^K; for Sphere, to its surface measure. Supports are widened
        by what rounding to float32 can move a drawn latent, so that no drawn row is off the support.
        """

    def region(self, dim: int, mass: float = 0.999) -> Law:
        """The uniform law on the latent region that MaGNET covers.

        Normal: the ball around the mean that holds `mass` of the law. TruncatedNormal: its whole cube.
        Uniform, Sphere and Ball are their own region. Raises ValueError unless 0 < mass < 1 and dim >= 1.
        """
        if dim < 1:
            raise ValueError(f"dim={dim}: expected the latent dimension, at least 1")
        if not 0.0 < mass < 1.0:
            raise ValueError(f"mass={mass}: expected a probability strictly between 0 and 1")
        return self._region(dim, mass)

    def _region(self, dim: int, mass: float) -> Law:
        return self

    def to_json(self) -> dict[str, Any]:
        """The law as a JSON-ready dict, e.g. {"law": "normal", "mean": 0.0, "std": 1.0}."""
        return {"law": self.name, **dataclasses.asdict(self)}

    @staticmethod
    def from_json(data: dict[str, Any]) -> Law:
        """Inverse of to_json. Raises ValueError for an unknown law or wrong parameters."""
        parameters = dict(data)
        name = parameters.pop("law", None)
        if name not in _LAWS:
            raise ValueError(f"law={name!r}: expected one of {', '.join(_LAWS)}")
        law = _LAWS[name]
        expected = [field.name for field in dataclasses.fields(law)]
        if sorted(parameters) != sorted(expected):
            raise ValueError(f"law {name!r} has parameters {sorted(parameters)}: expected {sorted(expected)}")
        return law(**parameters)

    @staticmethod
    def of(law: str | Law) -> Law:
        """A law from its name ("normal", "uniform", "sphere": default parameters) or the law itself."""
        if isinstance(law, Law):
            return law
        if isinstance(law, str) and law in _NAMED:
            return _LAWS[law]()
        raise ValueError(f"law={law!r}: expected a Law or one of {', '.join(map(repr, _NAMED))}")


@dataclass(frozen=True)
class Normal(Law):
    """Independent normal coordinates: mean and standard deviation shared by all."""

    name: ClassVar[str] = "normal"
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "mean", "std")
        _require_positive(self, "std")

    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        # Two roundings, never one fused multiply-add: the bits are the same on every platform.
        numbers = polarity_ext.gaussian(seed, start * dim, (stop - start, dim), device="cpu")
        return numbers.mul_(self.std).add_(self.mean)

    def log_density(self, z: Tensor) -> Tensor:
        z = _as_float64(z)
        constant = math.log(self.std) + 0.5 * math.log(2.0 * math.pi)
        return -0.5 * ((z - self.mean) / self.std).square().sum(1) - z.shape[1] * constant

    def _region(self, dim: int, mass: float) -> Law:
        from scipy.stats import chi2

        return Ball(radius=self.std * math.sqrt(float(chi2.ppf(mass, dim))), center=self.mean)


@dataclass(frozen=True)
class Uniform(Law):
    """Independent coordinates, uniform on (low, high): the cube of many GANs."""

    name: ClassVar[str] = "uniform"
    uniform: ClassVar[bool] = True
    low: float = -1.0
    high: float = 1.0

    def __post_init__(self) -> None:
        _require_finite(self, "low", "high")
        if not self.low < self.high:
            raise ValueError(f"Uniform(low={self.low}, high={self.high}): expected low < high")

    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        numbers = polarity_ext.uniform(seed, start * dim, (stop - start, dim), device="cpu")
        return numbers.mul_(self.high - self.low).add_(self.low).clamp_(self.low, self.high)

    def log_density(self, z: Tensor) -> Tensor:
        z = _as_float64(z)
        inside = ((z >= _below(self.low)) & (z <= _above(self.high))).all(1)
        return _constant_on(inside, -z.shape[1] * math.log(self.high - self.low))


@dataclass(frozen=True)
class TruncatedNormal(Law):
    """Independent standard normal coordinates, conditioned on [-c, c] (BigGAN's truncation: c = 2)."""

    name: ClassVar[str] = "truncated_normal"
    c: float

    def __post_init__(self) -> None:
        _require_finite(self, "c")
        _require_positive(self, "c")

    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        # Inverse distribution function on the lower half and a sign: probabilities near one would round.
        u = polarity_ext.uniform(seed, start * dim, (stop - start, dim), dtype=torch.float64, device="cpu")
        upper = u > 0.5
        tail = 0.5 * math.erfc(self.c / math.sqrt(2.0))
        probability = torch.minimum(u, 1.0 - u).mul_(1.0 - 2.0 * tail).add_(tail)
        magnitude = -torch.special.ndtri(probability)
        return torch.where(upper, magnitude, -magnitude).clamp_(-self.c, self.c).float()

    def log_density(self, z: Tensor) -> Tensor:
        z = _as_float64(z)
        constant = math.log(math.erf(self.c / math.sqrt(2.0))) + 0.5 * math.log(2.0 * math.pi)
        value = -0.5 * z.square().sum(1) - z.shape[1] * constant
        return value.masked_fill(~(z.abs() <= _above(self.c)).all(1), -math.inf)

    def _region(self, dim: int, mass: float) -> Law:
        return Uniform(-self.c, self.c)


@dataclass(frozen=True)
class Sphere(Law):
    """Uniform on the sphere around the origin; radius None means sqrt(K), where a normal latent lives.

    The density is with respect to surface measure; z counts as on the sphere when ||z|| is within
    1e-5 · radius of it.
    """

    name: ClassVar[str] = "sphere"
    uniform: ClassVar[bool] = True
    radius: float | None = None

    def __post_init__(self) -> None:
        if self.radius is not None:
            _require_finite(self, "radius")
            _require_positive(self, "radius")

    def _radius(self, dim: int) -> float:
        return math.sqrt(dim) if self.radius is None else self.radius

    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        return _directions(seed, start, stop, dim).mul_(self._radius(dim)).float()

    def log_density(self, z: Tensor) -> Tensor:
        z = _as_float64(z)
        dim = z.shape[1]
        radius = self._radius(dim)
        inside = (z.norm(dim=1) - radius).abs() <= 1e-5 * radius
        log_area = _log_sphere_area(dim) + (dim - 1) * math.log(radius)
        return _constant_on(inside, -log_area)


@dataclass(frozen=True)
class Ball(Law):
    """Uniform in the ball of the given radius around the point whose coordinates all equal `center`."""

    name: ClassVar[str] = "ball"
    uniform: ClassVar[bool] = True
    radius: float
    center: float = 0.0

    def __post_init__(self) -> None:
        _require_finite(self, "radius", "center")
        _require_positive(self, "radius")

    def _draw_block(self, seed: int, start: int, stop: int, dim: int) -> Tensor:
        # The first K coordinates of a uniform point on the unit sphere of R^(K+2) are uniform in the unit
        # ball of R^K (Barthe, Guédon, Mendelson, Naor, Ann. Probab. 33, 2005). Unlike direction · u^(1/K)
        # this needs no power, whose last bit differs between mathematics libraries.
        points = _directions(seed, start, stop, dim + 2)[:, :dim]
        return points.mul(self.radius).add_(self.center).float()

    def log_density(self, z: Tensor) -> Tensor:
        z = _as_float64(z)
        dim = z.shape[1]
        rounding = 1e-6 * (self.radius + math.sqrt(dim) * abs(self.center))
        inside = (z - self.center).norm(dim=1) <= self.radius + rounding
        log_volume = _log_sphere_area(dim) - math.log(dim) + dim * math.log(self.radius)
        return _constant_on(inside, -log_volume)


_LAWS: dict[str, type[Law]] = {law.name: law for law in (Normal, Uniform, TruncatedNormal, Sphere, Ball)}
_NAMED = ("normal", "uniform", "sphere")


def _directions(seed: int, start: int, stop: int, dim: int) -> Tensor:
    """Uniform points on the unit sphere, float64 [stop - start, dim]."""
    x = polarity_ext.gaussian(seed, start * dim, (stop - start, dim), device="cpu").double()
    squares = x.square()  # exact: products of two float32
    while squares.shape[1] > 1:  # a sum in an order of our own; torch's depends on the vector width
        half = squares.shape[1] // 2
        folded = squares[:, :half] + squares[:, half : 2 * half]
        squares = torch.cat([folded, squares[:, 2 * half :]], dim=1) if squares.shape[1] % 2 else folded
    x[:, 0].masked_fill_(squares[:, 0] == 0.0, 1.0)  # all numbers zero: once in 2**25 rows at K <= 2
    return x.div_(squares.masked_fill_(squares == 0.0, 1.0).sqrt_())


def _log_sphere_area(dim: int) -> float:
    """Log of the surface measure of the unit sphere in R^dim."""
    return math.log(2.0) + 0.5 * dim * math.log(math.pi) - math.lgamma(0.5 * dim)


def _constant_on(inside: Tensor, value: float) -> Tensor:
    return torch.full(inside.shape, value, dtype=torch.float64, device=inside.device).masked_fill_(
        ~inside, -math.inf
    )


def _as_float64(z: Tensor) -> Tensor:
    if z.ndim != 2 or z.shape[1] < 1 or not z.is_floating_point():
        raise ValueError(f"z is {z.dtype} of shape {tuple(z.shape)}: expected floats of shape [n, K]")
    return z.double()


def _above(bound: float) -> float:
    """The bound, or its float32 rounding where that is larger: drawn latents are float32."""
    return max(bound, float(np.float32(bound)))


def _below(bound: float) -> float:
    return -_above(-bound)


def _require_finite(law: Law, *names: str) -> None:
    for name in names:
        value = getattr(law, name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e30:
            raise ValueError(f"{type(law).__name__}({name}={value!r}): expected a finite number below 1e30")
        object.__setattr__(law, name, float(value))


def _require_positive(law: Law, name: str) -> None:
    value = getattr(law, name)
    if not value > 0.0:
        raise ValueError(f"{type(law).__name__}({name}={value}): expected a positive number")
