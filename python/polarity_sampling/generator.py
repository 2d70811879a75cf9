"""A pretrained generator together with what sampling must know of it."""

import copy
import hashlib
import json
import weakref
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from polarity_sampling import state
from polarity_sampling.checks import check_labels, check_latents, check_module, forward_flat
from polarity_sampling.laws import Law
from polarity_sampling.precision import Float64, differentiable_attention, in_full_precision
from polarity_sampling.state import Version as Version
from polarity_sampling.state import Weights


class Generator:
    """Wraps ``module(z)`` or ``module(z, label)`` with its latent law.

    Args:
        module: maps latents z [B, K] (and labels [B] int64 if conditional) to samples [B, *]. Put it in
            eval mode: the Jacobian of one latent must not depend on the others.
        latent_dim: K. Default: the module's attribute ``latent_dim``, ``z_dim`` or ``nz``, or else the input
            size of its first linear or transposed-convolution layer.
        base: law the latents are meant to be drawn from: "normal", `Normal`, `Uniform`, `TruncatedNormal`,
            `Sphere`. On a `Sphere` all volumes are those of its tangent space (K - 1 dimensions).
        num_classes: number of classes of a conditional module, None for an unconditional one.
        name: what banks and reports call it; default the module's class name.

    Raises:
        ValueError: latent_dim cannot be inferred or an argument is out of range.
        TypeError: module is not callable.
    """

    def __init__(
        self,
        module: nn.Module,
        latent_dim: int | None = None,
        base: str | Law = "normal",
        num_classes: int | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(module, nn.Module):
            raise TypeError(
                f"Generator: module is a {type(module).__name__}; expected a torch.nn.Module (wrap a "
                "function in one)"
            )
        if num_classes is not None and (isinstance(num_classes, bool) or num_classes < 1):
            raise ValueError(
                f"Generator: num_classes is {num_classes!r}; expected a positive integer or None"
            )
        self.module = module
        self.latent_dim = _infer_latent_dim(module) if latent_dim is None else latent_dim
        if isinstance(self.latent_dim, bool) or not isinstance(self.latent_dim, int) or self.latent_dim < 1:
            raise ValueError(f"Generator: latent_dim is {latent_dim!r}; expected a positive integer")
        self.base = Law.of(base)
        self.num_classes = num_classes
        self.name = name or type(module).__name__
        self._is_copy = False
        self._weights: Weights | None = None  # of a generator `at_rest`

    @staticmethod
    def of(model: "nn.Module | Generator", latent_dim: int | None = None) -> "Generator":
        """``model`` itself if it is a Generator, else one around the module."""
        return model if isinstance(model, Generator) else Generator(model, latent_dim)

    def __repr__(self) -> str:
        classes = f", num_classes={self.num_classes}" if self.num_classes else ""
        return f"Generator({self.name}, latent_dim={self.latent_dim}, base={self.base}{classes})"

    @property
    def dtype(self) -> torch.dtype:
        """Of the module's floating-point parameters and buffers; float32 if it has none."""
        return self.fixed_dtype or torch.float32

    @property
    def fixed_dtype(self) -> torch.dtype | None:
        """`dtype`, or None for a module without any state, which computes in the dtype of z."""
        return state.dtype(self.module) if self._weights is None else self._weights.dtype

    @property
    def device(self) -> torch.device:
        """Of the module's first parameter or buffer; the CPU if it has none."""
        return state.device(self.module) if self._weights is None else self._weights.device

    def __call__(self, z: Tensor, label: Tensor | int | None = None, *, batch_size: int = 64) -> Tensor:
        """Samples for latents ``z`` [n, K], without gradients, in batches; returns [n, *] on `device`.

        Latents of another precision are converted, so draws (float32) go into any generator.
        """
        if isinstance(z, Tensor) and z.is_floating_point():
            z = z.to(self.fixed_dtype)
        z, labels = self.inputs(z, label)
        with torch.no_grad():
            parts = [
                self.module(
                    *((zs,) if labels is None else (zs, labels[i * batch_size : (i + 1) * batch_size]))
                )
                for i, zs in enumerate(z.split(batch_size))
            ]
        return torch.cat(parts)

    def inputs(self, z: Tensor, label: Tensor | int | None) -> tuple[Tensor, Tensor | None]:
        """Checks z and label and moves them to the module's device; float32 latents also to its float64.

        Raises:
            ValueError: wrong shape, non-finite values, labels missing, superfluous or out of range.
            TypeError: z is not a floating-point tensor of the module's dtype.
        """
        dtype, device = self.fixed_dtype, self.device
        check_latents(z, self.latent_dim, dtype)
        return z.to(device, dtype), check_labels(label, z.shape[0], self.num_classes, device)

    @in_full_precision
    def check(self) -> None:
        """Makes sure that the module maps every latent by itself, deterministically, to finite numbers.

        Costs a few forward passes, once for every state of the module.

        Raises:
            GeneratorError: what is wrong and what to do.
        """
        if not self._is_copy and not state.is_as_it_was(self.module, self.version()):
            before = state.look(self.module)
            z = self.base.draw(0, torch.arange(2), self.latent_dim).to(self.device, self.dtype)
            label = (
                None if self.num_classes is None else torch.zeros(2, dtype=torch.int64, device=self.device)
            )
            check_module(self.module, z, label)
            state.remember(self.module, before)
            if self._weights is not None:
                self._weights = state.weights(self.module)

    def in_dtype(self, dtype: torch.dtype) -> "Generator":
        """This generator with a copy of the module in another precision (kept until the weights change)."""
        if self.fixed_dtype in (None, dtype):
            return self
        key = (dtype, self.version())
        kept = _twins.get(self.module)
        if kept is None or kept.key != key:
            # Hooks such as spectral_norm leave tensors with a history on the module, which cannot be
            # copied; a pass without gradients replaces them. TorchScript copies weights by an operation
            # that has a gradient, which would leave the copy with a history.
            z = self.base.draw(0, torch.arange(1), self.latent_dim).to(self.device, self.dtype)
            with torch.no_grad():
                self.flat(z, None if self.num_classes is None else z.new_zeros(1, dtype=torch.int64))
                module = copy.deepcopy(self.module).to(dtype)
            state.inherit(module, self.module)
            kept = _twins[self.module] = _Twin(key, module, state.weights(module))
        weights = None if self._weights is None else kept.weights
        # What was checked of the original holds for it.
        return self._with(module=kept.module, _is_copy=True, _weights=weights)

    def flat(self, z: Tensor, label: Tensor | None) -> Tensor:
        """Samples as [B, D]; the function whose Jacobian is meant. Differentiable."""
        raised = self._is_copy and self.dtype == torch.float64
        with differentiable_attention(), Float64() if raised else nullcontext():
            return forward_flat(self.module, z, label)

    def then(self, features: nn.Module, name: str | None = None) -> "Generator":
        """The composition with a feature extractor, whose Jacobian is that of z -> features(G(z)).

        Volumes in the feature space of a classifier weigh what it sees, not pixels (Humayun et al.,
        CVPR 2022, section 4, with VGG and Inception).

        Args:
            features: maps samples [B, *] to features [B, *]; put it in eval mode.
            name: default the two names joined by " > ".
        """
        if not isinstance(features, nn.Module):
            raise TypeError(
                f"features is a {type(features).__name__}; expected a torch.nn.Module (wrap a function "
                "in one)"
            )
        joined = name or f"{self.name} > {type(features).__name__}"
        module = _Composition(self.module, features)
        return Generator(module, self.latent_dim, self.base, self.num_classes, joined)

    def at_rest(self) -> "Generator":
        """The same for a call in which nobody writes to the weights, which are looked at once."""
        return self._with(_weights=state.weights(self.module))

    def _with(self, **changes: Any) -> "Generator":
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__, **changes)
        return other

    def version(self) -> Version:
        """Cheap stamp of the weights: equal as long as nothing has written to them.

        What leaves no trace in torch's counts (``p.data.mul_(...)``, an attribute, another activation in the
        place of one) is noticed by `check`, and changes the stamp from there on.
        """
        return state.version(self.module) if self._weights is None else self._weights.version

    def weight_hash(self) -> str:
        """SHA-256 of the architecture (class names, constants of layers) and every weight and buffer.

        Two generators with the same hash give the same samples; banks carry it.
        """
        digest = hashlib.sha256()
        for name, module in self.module.named_modules():
            digest.update(json.dumps([name, type(module).__qualname__, _constants(module)]).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            if isinstance(tensor, Tensor):
                digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
                digest.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


class _Composition(nn.Module):
    def __init__(self, generator: nn.Module, features: nn.Module) -> None:
        super().__init__()
        self.generator, self.features = generator, features
        # Each keeps its own mode.
        self.training = False

    def forward(self, *inputs: Tensor) -> Any:
        return self.features(self.generator(*inputs))


@dataclass(frozen=True)
class _Twin:
    """A copy of a module in another precision, to which nobody writes."""

    key: tuple[torch.dtype, Version]
    module: nn.Module
    weights: Weights


# Of every module one.
_twins: "weakref.WeakKeyDictionary[nn.Module, _Twin]" = weakref.WeakKeyDictionary()


def _constants(module: nn.Module) -> dict[str, Any]:
    """Numbers and names that shape a layer without being weights: slopes, strides, modes, radii.

    For torch's own layers those it declares constant; for others every plain public attribute.
    """
    if type(module).__module__.startswith("torch.nn"):
        names = [n for n in getattr(module, "__constants__", ()) if n != "inplace"]
    else:
        names = [n for n in vars(module) if not n.startswith("_") and n != "training"]
    values = {n: getattr(module, n, None) for n in names}
    return {n: repr(v) for n, v in sorted(values.items()) if isinstance(v, int | float | str | tuple | list)}


def _infer_latent_dim(module: nn.Module) -> int:
    for name in ("latent_dim", "z_dim", "nz"):
        value = getattr(module, name, None)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            return layer.in_features
        if isinstance(layer, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
            return layer.in_channels
    raise ValueError(
        f"latent_dim of {type(module).__name__} cannot be inferred (no attribute latent_dim, z_dim or nz, no "
        "linear or transposed-convolution layer): pass ps.Generator(module, latent_dim=...)"
    )
