"""The Jacobians of a batch of latents, from which latents can be taken out."""

from typing import Any

import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import JacobianOperator
from polarity_sampling.jacobian.precision import Primal
from polarity_sampling.laws import Sphere
from polarity_sampling.memory import parse_memory
from polarity_sampling.volume.operator import Adjoint, LinearOperator, Restricted


class Jacobians:
    """A `JacobianOperator` that gets smaller when latents leave the batch.

    An operator is prepared anew for every size of a batch. So it shrinks by halves only, and those that have
    left are multiplied with zeros until then.
    """

    def __init__(self, operator: JacobianOperator, places: Tensor) -> None:
        self.operator = operator
        self._places = places  # of these latents in the operator's batch
        self.shape = torch.Size((places.numel(), *operator.shape[1:]))
        self.dtype = operator.dtype
        self.device = operator.device

    @staticmethod
    def at(
        generator: Generator,
        z: Tensor,
        label: Tensor | None,
        memory: str | int,
        primal: Primal = "working",
    ) -> "Jacobians":
        """Those of all latents z [B, K], which fit the generator."""
        operator = JacobianOperator(generator, z, label, parse_memory(memory), primal=primal)
        return Jacobians(operator, torch.arange(z.shape[0], device=z.device))

    def rows(self, index: Tensor) -> "Jacobians":
        places, operator = self._places[index], self.operator
        count = places.numel()
        size = 1 << (count - 1).bit_length()
        if size >= operator.shape[0]:
            return Jacobians(operator, places)
        padded = torch.cat([places, places[-1:].expand(size - count)])
        return Jacobians(operator.rows(padded), torch.arange(count, device=places.device))

    def _apply(self, product: Any, probes: Tensor) -> Tensor:
        batch = self.operator.shape[0]
        if self._places.numel() == batch:
            out: Tensor = product @ probes
            return out
        if probes.ndim == 3:
            padded = probes.new_zeros(batch, *probes.shape[1:])
            padded[self._places] = probes
            probes = padded
        out = (product @ probes)[self._places]
        return out

    def __matmul__(self, tangents: Tensor) -> Tensor:
        return self._apply(self.operator, tangents)

    @property
    def mT(self) -> Adjoint:
        return Adjoint(lambda cotangents: self._apply(self.operator.mT, cotangents))


def directions(generator: Generator) -> int:
    """n, the number of singular values of a latent: K, or K - 1 on a sphere."""
    return generator.latent_dim - isinstance(generator.base, Sphere)


def input_basis(generator: Generator, z: Tensor) -> Tensor:
    """Orthonormal directions of the latent space in which volume is measured.

    All of R^K ([K, K]); on a sphere the tangent space at each latent ([B, K, K - 1]): the columns of the
    Householder reflection that maps z to an axis, without the one along z.
    """
    dim = z.shape[1]
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    if not isinstance(generator.base, Sphere):
        return eye
    unit = z.double() / z.double().norm(dim=1, keepdim=True)
    sign = torch.where(unit[:, :1] < 0, -1.0, 1.0)
    mirror = unit + sign * eye[:1].double()
    mirror = mirror / mirror.norm(dim=1, keepdim=True)
    reflection = eye.double() - 2.0 * mirror[:, :, None] * mirror[:, None, :]
    tangent: Tensor = reflection[:, :, 1:].to(z.dtype)
    return tangent


def restricted(jacobians: Jacobians, basis: Tensor) -> LinearOperator:
    """J in the coordinates of `input_basis`."""
    return jacobians if basis.ndim == 2 else Restricted(jacobians, basis)
