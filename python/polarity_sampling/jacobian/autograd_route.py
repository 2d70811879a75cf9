"""Products by plain reverse-mode autograd, for modules that torch.func cannot transform.

Slower than the forward route, but it asks the least of a module: custom autograd functions need no
jvp, and nothing has to have a batching rule.
"""

import torch
from torch import Tensor

from polarity_sampling.generator import Generator


def push_forward(generator: Generator, z: Tensor, label: Tensor | None, tangents: Tensor) -> Tensor:
    """J @ V for tangents [L, B, K] -> [L, B, D], by reverse over reverse.

    The cotangents u of z -> J^T u enter linearly, so that the derivative of <J^T u, v> by u is J v.
    """
    probes, batch = tangents.shape[:2]
    with torch.enable_grad():
        folded = z.repeat(probes, 1).requires_grad_()
        out = generator.flat(folded, None if label is None else label.repeat(probes))
        if not out.requires_grad:  # constant
            return torch.zeros(probes, batch, out.shape[1], dtype=out.dtype, device=out.device)
        cotangent = torch.zeros_like(out, requires_grad=True)
        (pulled,) = torch.autograd.grad(out, folded, cotangent, create_graph=True, materialize_grads=True)
        if not pulled.requires_grad:
            return torch.zeros_like(out).detach().view(probes, batch, -1)
        (pushed,) = torch.autograd.grad(pulled, cotangent, tangents.flatten(0, 1), materialize_grads=True)
    return pushed.detach().view(probes, batch, -1)


def pull_back(generator: Generator, z: Tensor, label: Tensor | None, cotangents: Tensor) -> Tensor:
    """J^T @ U for cotangents [L, B, D] -> [L, B, K]."""
    probes, batch = cotangents.shape[:2]
    with torch.enable_grad():
        folded = z.repeat(probes, 1).requires_grad_()
        out = generator.flat(folded, None if label is None else label.repeat(probes))
        if not out.requires_grad:
            return torch.zeros(probes, batch, z.shape[1], dtype=z.dtype, device=z.device)
        flat = cotangents.flatten(0, 1)
        (pulled,) = torch.autograd.grad(out, folded, flat, materialize_grads=True)
    return pulled.detach().view(probes, batch, -1)
