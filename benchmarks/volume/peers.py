"""Other ways to the same number, written as their users would write them."""

from collections.abc import Callable
from dataclasses import dataclass

import polarity_sampling as ps
import torch
from torch import Tensor
from torch.func import jacfwd, jvp, vjp, vmap

# Log-volumes [B] of latents z with labels.
Route = Callable[[Tensor, Tensor | None], Tensor]

PROBES = 16  # of one vmap(jvp); what fits a small memory
ROWS = 128


@dataclass(frozen=True)
class Peer:
    name: str
    run: Route


def _flat(generator: ps.Generator, label: Tensor | None) -> Callable[[Tensor], Tensor]:
    def sample(z: Tensor) -> Tensor:
        out: Tensor = generator.module(z) if label is None else generator.module(z, label)
        return out.reshape(out.shape[0], -1)

    return sample


def chunked_jvp(generator: ps.Generator, top_k: int) -> Peer:
    """vmap(jvp) over chunks of unit vectors, a float64 Gram matrix, eigvalsh."""

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        sample = _flat(generator, label)
        eye = torch.eye(z.shape[1], device=z.device)

        def push(v: Tensor) -> Tensor:
            return jvp(sample, (z,), (v.expand_as(z),))[1]

        with torch.no_grad():
            columns = torch.cat([vmap(push)(part) for part in eye.split(PROBES)]).permute(1, 2, 0).double()
        values = torch.linalg.eigvalsh(columns.mT @ columns).flip(1)[:, :top_k]
        return 0.5 * values.clamp(min=1e-300).log().sum(1)

    return Peer("chunked vmap(jvp), float64 Gram", run)


def dense_svd(generator: ps.Generator, top_k: int) -> Peer:
    """vmap(jacfwd) and svdvals in float32."""

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        return torch.linalg.svdvals(_dense(generator, z, label))[:, :top_k].double().log().sum(1)

    return Peer("vmap(jacfwd), svdvals", run)


def _dense(generator: ps.Generator, z: Tensor, label: Tensor | None) -> Tensor:
    def one(latent: Tensor, classes: Tensor | None) -> Tensor:
        labels = None if classes is None else classes[None]
        return _flat(generator, labels)(latent[None])[0]

    dims = (0, None if label is None else 0)
    with torch.no_grad():
        jacobian: Tensor = vmap(jacfwd(one), in_dims=dims)(z, label)
    return jacobian


def stored_low_rank(generator: ps.Generator, top_k: int, extra: int, power_steps: int) -> Peer:
    """vmap(jacfwd), then torch.svd_lowrank of the stored Jacobian."""

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        jacobian = _dense(generator, z, label)
        q = min(z.shape[1], top_k + extra)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            sigma = torch.svd_lowrank(jacobian, q=q, niter=power_steps)[1]
        return sigma[:, :top_k].double().log().sum(1)

    return Peer(f"vmap(jacfwd), svd_lowrank niter={power_steps}", run)


class _OneJacobian:
    """J of a single latent, as skerch wants it: a shape, and products from either side with many vectors."""

    def __init__(self, generator: ps.Generator, z: Tensor, label: Tensor | None) -> None:
        sample = _flat(generator, label)
        out, self._pull = vjp(sample, z)
        self._push = lambda v: jvp(sample, (z,), (v[None],))[1][0]
        self.shape = (out.shape[1], z.shape[1])

    def __matmul__(self, tangents: Tensor) -> Tensor:
        pushed: Tensor = vmap(self._push, in_dims=1, out_dims=1)(tangents)
        return pushed

    def __rmatmul__(self, cotangents: Tensor) -> Tensor:
        pulled: Tensor = vmap(lambda u: self._pull(u[None])[0][0])(cotangents)
        return pulled


def skerch(generator: ps.Generator, top_k: int, measurements: int) -> Peer:
    """skerch's sketched SVD (Halko, Martinsson, Tropp): as many products with J as with its adjoint."""
    from skerch.algorithms import ssvd

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        values = []
        with torch.no_grad():
            for i in range(z.shape[0]):
                rows = slice(i, i + 1)
                operator = _OneJacobian(generator, z[rows], None if label is None else label[rows])
                values.append(ssvd(operator, z.device, z.dtype, measurements, recovery_type="hmt")[1])
        return torch.stack(values)[:, :top_k].double().log().sum(1)

    return Peer(f"skerch ssvd, {measurements} measurements", run)


def published(generator: ps.Generator, top_k: int) -> Peer:
    """The algorithm of Humayun et al. (CVPR 2022) from its description.

    A fixed orthonormal 128-row projection of the output, one reverse pass for each row, a float32 SVD.
    """
    projection: list[Tensor] = []

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        sample = _flat(generator, label)
        with torch.no_grad():
            out, pullback = vjp(sample, z)
        if not projection:
            gen = torch.Generator().manual_seed(0)
            rows = min(ROWS, out.shape[1])
            basis = torch.linalg.qr(torch.randn(out.shape[1], rows, generator=gen))[0]
            projection.append(basis.T.to(z.device))
        with torch.no_grad():
            pulled = torch.stack([pullback(row.expand_as(out))[0] for row in projection[0]], 1)
        return torch.linalg.svdvals(pulled)[:, :top_k].double().log().sum(1)

    return Peer("published: 128 projected rows", run)


def stochastic_lanczos(generator: ps.Generator, probes: int, steps: int) -> Peer:
    """1/2 log det(J^T J) by Hutchinson and Lanczos quadrature (Ubaru, Chen, Saad, SIAM J. Matrix Anal. 2017).

    The full volume only. 2 * probes * steps products.
    """

    def run(z: Tensor, label: Tensor | None) -> Tensor:
        double = generator.in_dtype(torch.float64)
        operator = ps.jacobian(double, z.double(), label)
        batch, _, dim = operator.shape
        gen = torch.Generator().manual_seed(0)
        total = torch.zeros(batch, dtype=torch.float64, device=z.device)
        for _ in range(probes):
            signs = torch.randn(dim, generator=gen, dtype=torch.float64).sign().to(z.device)
            basis = [signs.expand(batch, dim) / dim**0.5]
            diagonal, beside = [], []
            for _ in range(steps):
                image = operator @ basis[-1][:, :, None]
                vector = (operator.mT @ image)[:, :, 0]
                diagonal.append((vector * basis[-1]).sum(1))
                stacked = torch.stack(basis, 2)
                for _ in range(2):
                    vector = vector - (stacked @ (stacked.mT @ vector[:, :, None]))[:, :, 0]
                beside.append(vector.norm(dim=1))
                basis.append(vector / beside[-1][:, None])
            matrix = torch.diag_embed(torch.stack(diagonal, 1))
            inner = torch.diag_embed(torch.stack(beside[:-1], 1), offset=1)
            values, vectors = torch.linalg.eigh(matrix + inner + inner.mT)
            weights = vectors[:, 0].square()
            total += 0.5 * dim * (weights * values.clamp(min=1e-300).log()).sum(1)
        return total / probes

    return Peer(f"stochastic Lanczos {probes} x {steps}", run)
