"""The truth for Jacobians: torch.func in float64, one latent at a time."""

import copy

import polarity_sampling as ps
import torch
from torch import Tensor
from torch.func import jacrev


def dense_jacobian(generator: ps.Generator, z: Tensor, label: Tensor | None = None) -> Tensor:
    """[B, D, K] float64, by reverse mode where D < K and forward mode elsewhere."""
    module = copy.deepcopy(generator.module).double().eval()
    rows = []
    for i in range(z.shape[0]):
        classes = None if label is None else label[i : i + 1]

        def one(latent: Tensor, classes: Tensor | None = classes) -> Tensor:
            out = module(latent[None]) if classes is None else module(latent[None], classes)
            return out.reshape(-1)

        x = z[i].double()
        transform = jacrev if one(x).numel() < x.numel() else torch.func.jacfwd
        rows.append(transform(one)(x).detach())
    return torch.stack(rows)


def log_volume(jacobian: Tensor, top_k: int) -> Tensor:
    """Sum of the log singular values, [B], -inf where one is exactly zero."""
    return torch.linalg.svdvals(jacobian)[:, :top_k].log().sum(1)
