"""The Jacobians of a batch of latents, from which latents can be taken out."""

from typing import Any

import torch
from torch import Tensor

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.bottleneck import seen_directions
from polarity_sampling.jacobian.footprint import footprint
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

    def __init__(self, operator: JacobianOperator, places: Tensor | None = None) -> None:
        self.operator = operator
        self._places = places  # of these latents in the operator's batch; None where they are all of it
        count = operator.shape[0] if places is None else places.numel()
        self.shape = torch.Size((count, *operator.shape[1:]))
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
        return Jacobians(JacobianOperator(generator, z, label, parse_memory(memory), primal=primal))

    def rows(self, index: Tensor) -> "Jacobians":
        places, operator = index if self._places is None else self._places[index], self.operator
        count = places.numel()
        size = 1 << (count - 1).bit_length()
        if size >= operator.shape[0]:
            return Jacobians(operator, places)
        padded = torch.cat([places, places[-1:].expand(size - count)])
        return Jacobians(operator.rows(padded), torch.arange(count, device=places.device))

    def _apply(self, product: Any, probes: Tensor) -> Tensor:
        batch = self.operator.shape[0]
        if self._places is None or self._places.numel() == batch:
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


def tangent_dim(generator: Generator) -> int:
    """Dimension of the space of latents: K, or K - 1 on a sphere."""
    return generator.latent_dim - isinstance(generator.base, Sphere)


def directions(generator: Generator) -> int:
    """n, the number of latent directions that samples may depend on.

    `tangent_dim`, or r where the first layer passes on only r of K directions (`seen_directions`); not on a
    sphere, whose tangent spaces meet those r in another way at every latent.
    """
    seen = _seen(generator)
    return tangent_dim(generator) if seen is None else seen.shape[1]


def nonzero(generator: Generator, z: Tensor | None = None, label: Tensor | None = None) -> int:
    """Singular values of a latent that are not zero by construction: `directions`, or D if that is less.

    Args:
        z, label: any latents and classes that fit the generator.
    """
    if z is None:
        z = generator.base.draw(0, torch.zeros(1, dtype=torch.int64), generator.latent_dim)
        z, label = generator.inputs(z, None if generator.num_classes is None else 0)
    return min(directions(generator), footprint(generator, z, label).dim_out)


def why_no_more(generator: Generator, most: int) -> str:
    """For the end of a message that names `nonzero`: why there are fewer than one would think, or ""."""
    size, dim = directions(generator), generator.latent_dim
    if most < size:
        return f": a sample has only {most} number{'s' * (most > 1)}"
    if size == tangent_dim(generator):
        return ""
    return f": the first layer passes on {size} of {dim} directions of the latent"


def input_basis(generator: Generator, z: Tensor) -> Tensor:
    """Orthonormal directions of the latent space in which volume is measured.

    All of R^K ([K, K]), or those that the first layer passes on ([K, r]); on a sphere the tangent space at
    each latent ([B, K, K - 1]): the columns of the Householder reflection that maps z to an axis, without
    the one along z.
    """
    dim = z.shape[1]
    eye = torch.eye(dim, dtype=z.dtype, device=z.device)
    if not isinstance(generator.base, Sphere):
        seen = _seen(generator)
        return eye if seen is None else seen.to(z)
    unit = z.double() / z.double().norm(dim=1, keepdim=True)
    sign = torch.where(unit[:, :1] < 0, -1.0, 1.0)
    mirror = unit + sign * eye[:1].double()
    mirror = mirror / mirror.norm(dim=1, keepdim=True)
    reflection = eye.double() - 2.0 * mirror[:, :, None] * mirror[:, None, :]
    tangent: Tensor = reflection[:, :, 1:].to(z.dtype)
    return tangent


def _seen(generator: Generator) -> Tensor | None:
    return None if isinstance(generator.base, Sphere) else seen_directions(generator)


def spans_all(basis: Tensor) -> bool:
    """Whether an `input_basis` is that of all of R^K, the identity."""
    return basis.shape[-2] == basis.shape[-1]


def restricted(jacobians: Jacobians, basis: Tensor) -> LinearOperator:
    """J in the coordinates of `input_basis`."""
    return jacobians if spans_all(basis) else Restricted(jacobians, basis)


def in_coordinates(vectors: Tensor, basis: Tensor) -> Tensor:
    """Vectors [K, m] in the coordinates of `input_basis`: [n, m], or [B, K - 1, m] on a sphere."""
    return vectors if spans_all(basis) else basis.to(vectors.dtype).mT @ vectors
