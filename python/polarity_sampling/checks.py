"""Everything that is checked of a module, its latents and its labels before any of them is used."""

import math

import torch
from torch import Tensor, nn

from polarity_sampling.errors import GeneratorError

# Layers whose train mode makes a sample depend on its batch or on chance.
_MODE_LAYERS = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def check_latents(z: Tensor, latent_dim: int, dtype: torch.dtype | None) -> None:
    if not isinstance(z, Tensor):
        raise TypeError(
            f"z is a {type(z).__name__}; expected a tensor [B, {latent_dim}] (torch.as_tensor(z))"
        )
    if z.ndim != 2 or z.shape[1] != latent_dim:
        raise ValueError(f"z has shape {list(z.shape)}; expected [B, {latent_dim}], one latent a row")
    if z.shape[0] == 0:
        raise ValueError(f"z is empty (shape {list(z.shape)}); expected at least one latent")
    if not z.is_floating_point():
        raise TypeError(f"z has dtype {z.dtype}; expected floating point")
    exact = {z.dtype} | ({torch.float64} if z.dtype == torch.float32 else set())
    if dtype is not None and dtype not in exact:
        raise TypeError(
            f"z has dtype {z.dtype} but the generator computes in {dtype}: pass z.to({dtype}), if the "
            "rounded latents are what you mean"
        )
    # A sum is finite only where all terms are, and costs half of asking them one by one.
    if not math.isfinite(z.detach().sum()) and not torch.isfinite(z).all():
        row = int((~torch.isfinite(z)).any(1).nonzero()[0])
        raise ValueError(f"z has NaN or infinite values (first in row {row}); expected finite latents")


def check_labels(
    label: Tensor | int | None, count: int, num_classes: int | None, device: torch.device
) -> Tensor | None:
    """Labels as int64 [count] on `device`, or None. A single class serves all rows."""
    if label is None:
        if num_classes is not None:
            raise ValueError(
                f"label is missing: this generator has {num_classes} classes; pass label= as int64 [B]"
            )
        return None
    labels = torch.as_tensor(label, device=device)
    if labels.is_floating_point() or labels.dtype == torch.bool or labels.is_complex():
        raise TypeError(f"label has dtype {labels.dtype}; expected integers (int64)")
    labels = labels.to(torch.int64)
    if labels.ndim == 0:
        labels = labels.expand(count)
    if labels.shape != (count,):
        raise ValueError(
            f"label has shape {list(labels.shape)}; expected [{count}], one class for each latent"
        )
    if num_classes is not None and (int(labels.min()) < 0 or int(labels.max()) >= num_classes):
        raise ValueError(
            f"label has values {int(labels.min())}..{int(labels.max())}; expected 0..{num_classes - 1}"
        )
    return labels


def forward_flat(module: nn.Module, z: Tensor, label: Tensor | None) -> Tensor:
    """``module(z)`` or ``module(z, label)`` as [B, D]."""
    out = module(z) if label is None else module(z, label)
    if not isinstance(out, Tensor):
        raise GeneratorError(
            f"the generator returned a {type(out).__name__}; expected one tensor [B, *]: wrap it in a module "
            "that returns the samples alone"
        )
    if out.dtype not in (torch.float32, torch.float64):
        raise GeneratorError(
            f"the generator returned {out.dtype}; expected samples in float32 or float64: wrap it in a "
            "module that converts them, or that leaves out a conversion to pixels"
        )
    if out.ndim < 1 or out.shape[0] != z.shape[0] or out.numel() == 0:
        raise GeneratorError(
            f"the generator returned shape {list(out.shape)} for {z.shape[0]} latents; expected [B, *], one "
            "sample a row"
        )
    return out if out.ndim == 2 else out.reshape(out.shape[0], -1)


def check_module(module: nn.Module, z: Tensor, label: Tensor | None) -> None:
    """Weights, modes and behaviour on two latents z [2, K]; see `Generator.check`."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_floating_point() and not torch.isfinite(tensor.detach()).all():
            raise GeneratorError(
                f"weight '{name}' has NaN or infinite values: the checkpoint is damaged or training "
                "diverged; load another one"
            )
    for name, layer in module.named_modules():
        if isinstance(layer, _MODE_LAYERS) and layer.training:
            raise GeneratorError(
                f"layer '{name}' ({type(layer).__name__}) is in train mode, so samples depend on their batch "
                "or on chance: call module.eval() first"
            )
    with torch.no_grad():
        together = _first(module, z, label)
        again = forward_flat(module, z, label)
        try:
            one_by_one = [forward_flat(module, z[[i]], None if label is None else label[[i]]) for i in (0, 1)]
        except (RuntimeError, ValueError) as error:
            raise GeneratorError(
                f"the generator runs on two latents but not on one alone ({error}): a layer uses batch "
                "statistics; put it in eval mode or give it running statistics"
            ) from error
        alone = torch.cat(one_by_one)
    if not torch.isfinite(together).all():
        raise GeneratorError(
            "the generator gives NaN or infinite samples for latents of its base law: check base= and weights"
        )
    if not torch.equal(together, again):
        raise GeneratorError(
            "the generator is random: two calls with the same latents differ. Fix its noise inputs (a "
            "constant or a seeded buffer) before wrapping it"
        )
    if not torch.equal(together[0], together[1]) and _is_cut_off(module, z, label):
        raise GeneratorError(
            "the generator cuts its samples off from z (torch.no_grad, inference_mode or detach inside its "
            "forward): reverse-mode derivatives would be zero; remove that from forward"
        )
    scale = float(together.abs().max())
    # Other batch sizes round differently; another latent's influence is far larger than rounding.
    tolerance = 1e-3 if z.dtype != torch.float64 else 1e-8
    # Written so that NaN (statistics over a batch of one) fails it too.
    if not float((together - alone).abs().max()) <= tolerance * max(scale, 1e-30):
        raise GeneratorError(
            "a sample depends on the other latents in its batch (batch statistics, minibatch standard "
            "deviation?): such layers have no Jacobian per latent; put them in eval mode or remove them"
        )


def _first(module: nn.Module, z: Tensor, label: Tensor | None) -> Tensor:
    """The first samples there are; what fails here is likely to be no fault of the module."""
    try:
        return forward_flat(module, z, label)
    except (torch.OutOfMemoryError, GeneratorError):
        raise
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        labels = "" if label is None else " and labels [2]"
        raise GeneratorError(
            f"the generator does not run on latents {list(z.shape)}{labels} ({error}): pass latent_dim= or "
            "num_classes=, or wrap it in a module that is called with z [B, K], and labels [B] if it has "
            "classes, for instance one that makes images of latents by z[:, :, None, None]"
        ) from error


def _is_cut_off(module: nn.Module, z: Tensor, label: Tensor | None) -> bool:
    """Whether autograd sees no dependence on z where there is one."""
    try:
        with torch.inference_mode(False), torch.enable_grad():
            return not forward_flat(module, z.clone().requires_grad_(), label).requires_grad
    except RuntimeError:  # weights made in inference mode have no reverse mode; torch.func does without
        return False
