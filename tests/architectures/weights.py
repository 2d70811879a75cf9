"""Random weights that leave a network awake, neither saturated nor vanishing: its Jacobian is a real one."""

import torch
from torch import Tensor, nn


def draw(module: nn.Module, seed: int, gain: float = 1.0) -> None:
    """Fills every parameter, the same way for the same seed.

    Matrices and kernels get variance ``gain² / fan-in``, so that a layer keeps the variance of its input;
    gains of normalisation layers lie around 1, biases
    and strengths around 0, embeddings and learned inputs are N(0, 1).
    """
    random = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for layer in module.modules():
            for name, parameter in layer.named_parameters(recurse=False):
                parameter.copy_(torch.randn(parameter.shape, generator=random, dtype=torch.float64))
                if name == "weight" and parameter.ndim == 1:
                    parameter.mul_(0.1).add_(1.0)
                elif name == "weight" and not isinstance(layer, nn.Embedding):
                    parameter.mul_(gain * _fan_in(layer, parameter) ** -0.5)
                elif name == "bias" or parameter.ndim == 0:
                    parameter.mul_(0.1)


def _fan_in(layer: nn.Module, weight: Tensor) -> float:
    """Inputs that reach one output."""
    if isinstance(layer, nn.ConvTranspose2d):  # [in, out, height, width]; a stride leaves taps out
        return weight.shape[0] * max(1.0, weight[0, 0].numel() / (layer.stride[0] * layer.stride[1]))
    return weight[0].numel()


def settle(module: nn.Module, z: Tensor, label: Tensor | None = None) -> None:
    """Sets the running statistics of batch normalisation to those of a batch, and eval mode."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = 1.0
    module.train()
    with torch.no_grad():
        module(z) if label is None else module(z, label)
    module.eval()
