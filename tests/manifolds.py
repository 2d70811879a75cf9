"""Manifolds with a closed-form area element: generators without a single parameter."""

import math

import polarity_sampling as ps
import torch
from torch import Tensor, nn


class SpherePatch(nn.Module):
    """(theta, phi) -> a sphere of radius 2; area element 4 sin(theta)."""

    law = ps.Uniform(0.2, 2.9)

    def forward(self, z: Tensor) -> Tensor:
        theta, phi = z.unbind(1)
        return 2 * torch.stack([theta.sin() * phi.cos(), theta.sin() * phi.sin(), theta.cos()], 1)

    def log_volume(self, z: Tensor) -> Tensor:
        return math.log(4.0) + z[:, 0].sin().log()


class Torus(nn.Module):
    """(u, v) -> a torus with radii 3 and 1; area element 3 + cos(u)."""

    law = ps.Uniform(0.0, 2 * math.pi)

    def forward(self, z: Tensor) -> Tensor:
        u, v = z.unbind(1)
        ring = 3.0 + u.cos()
        return torch.stack([ring * v.cos(), ring * v.sin(), u.sin()], 1)

    def log_volume(self, z: Tensor) -> Tensor:
        return (3.0 + z[:, 0].cos()).log()


class SwissRoll(nn.Module):
    """(t, h) -> (t cos t, h, t sin t); area element sqrt(1 + t^2)."""

    law = ps.Uniform(1.0, 12.0)

    def forward(self, z: Tensor) -> Tensor:
        t, h = z.unbind(1)
        return torch.stack([t * t.cos(), h, t * t.sin()], 1)

    def log_volume(self, z: Tensor) -> Tensor:
        return 0.5 * (1.0 + z[:, 0].square()).log()


class Affine(nn.Module):
    """z -> A z + b in the plane; the same area element everywhere."""

    law = ps.Normal()

    def forward(self, z: Tensor) -> Tensor:
        matrix = torch.tensor([[2.0, 1.0], [-0.5, 0.25]], dtype=z.dtype)
        return z @ matrix.T + 1.0

    def log_volume(self, z: Tensor) -> Tensor:
        return torch.zeros_like(z[:, 0])  # |det| = 2 * 0.25 + 0.5 = 1


ALL = [SpherePatch(), Torus(), SwissRoll(), Affine()]
