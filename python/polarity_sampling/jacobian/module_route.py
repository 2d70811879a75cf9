"""Products through the module itself, where it cannot be captured."""

import warnings
import weakref
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn

import polarity_ext
from polarity_sampling.errors import GeneratorError, PolarityWarning
from polarity_sampling.generator import Generator
from polarity_sampling.jacobian import autograd_route, func_route
from polarity_sampling.jacobian.compiled import first_sentence
from polarity_sampling.jacobian.footprint import Footprint

# Of the probe by which derivatives are compared, and how far they may differ, relative to their size.
_SEED, _AGREEMENT = 0x5EED_DE71, 1e-2

_Product = Callable[[Generator, Tensor, Tensor | None, Tensor], Tensor]

# Modules whose derivatives by torch.func have been found to agree.
_compared: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
# Modules on which torch.func has failed; not asked again.
_not_transformable: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()


class ModuleRoute:
    """Products for latents z [B, K] by torch.func, or by plain autograd where that fails.

    Args:
        memory: budget of tangents in flight, bytes.
    """

    def __init__(
        self, generator: Generator, z: Tensor, label: Tensor | None, footprint: Footprint, memory: int
    ) -> None:
        self._generator, self._z, self._label = generator, z, label
        self._samples, self._latents = (footprint.dim_out, footprint.dtype), (z.shape[1], z.dtype)
        self.chunk = max(1, memory // (footprint.bytes_per_tangent * z.shape[0]))
        """Probes that go together."""

    @property
    def name(self) -> Literal["torch.func", "autograd"]:
        return "autograd" if self._generator.module in _not_transformable else "torch.func"

    def push(self, probes: Tensor) -> Tensor:
        """Tangents [L, B or 1, K] -> [L, B, D]."""
        return self._apply(
            "J @ V", probes, func_route.push_forward, autograd_route.push_forward, *self._samples
        )

    def pull(self, probes: Tensor) -> Tensor:
        """Cotangents [L, B or 1, D] -> [L, B, K]."""
        return self._apply("J.mT @ U", probes, func_route.pull_back, autograd_route.pull_back, *self._latents)

    def _apply(
        self,
        what: str,
        probes: Tensor,
        transform: _Product,
        fallback: _Product,
        size: int,
        dtype: torch.dtype,
    ) -> Tensor:
        batch = self._z.shape[0]
        out = torch.empty(probes.shape[0], batch, size, dtype=dtype, device=self._z.device)
        for part, result in zip(
            probes.expand(-1, batch, -1).split(self.chunk), out.split(self.chunk), strict=True
        ):
            result.copy_(self._product(what, part, transform, fallback))
        return out

    def _product(self, what: str, probes: Tensor, transform: _Product, fallback: _Product) -> Tensor:
        """One chunk of probes [L, B, *]; the first failure changes the route, with a warning."""
        generator, arguments = self._generator, (self._generator, self._z, self._label, probes)
        reason: Exception | None = None
        if generator.module not in _not_transformable:
            try:
                self._compare_modes()
                return transform(*arguments)
            except torch.OutOfMemoryError:
                raise
            except (RuntimeError, NotImplementedError, ValueError) as error:
                reason = error
        try:
            result = fallback(*arguments)
        except RuntimeError as error:
            raise GeneratorError(
                f"{what} of {generator.name} cannot be formed: torch.func says "
                f"'{reason or 'not tried'}', autograd says '{error}'. Its forward must consist of "
                "differentiable torch operations"
            ) from error
        if reason is not None:
            _not_transformable.add(generator.module)
            warnings.warn(
                f"{generator.name} cannot be transformed by torch.func ({first_sentence(reason)}): "
                "products go through plain autograd, which is right but slower",
                PolarityWarning,
                stacklevel=7,  # who multiplies
            )
        return result

    def _compare_modes(self) -> None:
        """Once for each module: its forward derivative by torch.func is the transpose of the reverse one.

        A forward that asks whether z requires a gradient may have one that is zero without a word, and so may
        operators from outside of torch.

        Raises:
            ValueError: it is not.
        """
        generator, z, label = self._generator, self._z, self._label
        if generator.module in _compared:
            return
        v = polarity_ext.gaussian(_SEED, 0, (1, *z.shape), device=z.device).to(z)
        pushed = func_route.push_forward(generator, z, label, v)
        # |J v|^2, where there is any, is the product of v with J^T (J v).
        u = pushed if pushed.any() else torch.ones_like(pushed)
        try:
            pulled = func_route.pull_back(generator, z, label, u)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, NotImplementedError, ValueError):
            pulled = autograd_route.pull_back(generator, z, label, u)
        gap = float((u * pushed).sum() - (pulled * v).sum())
        if not abs(gap) <= _AGREEMENT * float(u.norm() * pushed.norm()):
            raise ValueError("its forward derivative is not the transpose of the reverse one")
        _compared.add(generator.module)
