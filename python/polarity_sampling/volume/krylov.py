"""Block Krylov iteration on J^T J in latent space, adaptive and certified for every latent by itself."""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

import polarity_ext
from polarity_sampling.volume import dense
from polarity_sampling.volume.norm_bound import FAILURE, deflated_norm
from polarity_sampling.volume.operator import LinearOperator, rows_of
from polarity_sampling.volume.ritz import Subspace
from polarity_sampling.volume.singular_values import SingularValues, Status, log_error, rounding_of_gram

# Small blocks reach a high degree, which is what convergence comes from; at 8 the products are still one
# matrix product for a layer, and up to 8 equal singular values are found.
BLOCK = 8
# Lanczos steps of the bound on what is left out; by then it is within twice the truth.
PROBE_STEPS = 12
# A subspace grows by this factor before what it leaves out is bounded anew, which takes up to 24 products.
WAITING = 1.1
# A column this much smaller than its block is rounding: another direction takes its place.
_EXHAUSTED = 1e-10


def block_krylov(
    operator: LinearOperator,
    top_k: int,
    *,
    tol: float,
    max_products: int,
    start: Tensor | None = None,
    block: int = BLOCK,
    floor: float = 0.0,
    seed: int = 0,
) -> SingularValues:
    """Top-k singular values by block Krylov with full reorthogonalisation in float64.

    C. Musco, C. Musco, Randomized block Krylov methods (NeurIPS 2015); small blocks: R. Meyer, C. Musco,
    C. Musco, On the unreasonable effectiveness of single vector Krylov methods (SODA 2024). Every latent
    goes on until its own certificate meets tol; what it goes through never depends on the others.

    Args:
        operator: J.
        top_k: k; at most half of K.
        tol: wanted bound on the error of the sum of log sigma, nats.
        max_products: a latent that needs more is given back as SLOW_SPECTRUM, with what is known of it.
        start: first block [K, m] or [B, K, m], such as directions that other latents share; default random.
        block: columns of the later blocks (and of a random first one).
        floor: a latent whose sigma_k is certified below floor * sigma_1 is done, too.
        seed: of the random block and of the probes.
    """
    batch, _, dim = operator.shape
    width = min(block, dim)
    first = random_block(dim, width, seed, 0, operator.device) if start is None else start.double()
    basis = dense.orthonormal_columns(first)[0].expand(batch, dim, first.shape[-1])
    work = _Unfinished(
        rows=torch.arange(batch, device=operator.device),
        operator=operator,
        space=Subspace.of(operator, basis),
        last=basis.shape[2],
        norm=torch.full((batch,), torch.inf, dtype=torch.float64, device=operator.device),
        wait=torch.zeros(batch, dtype=torch.int64, device=operator.device),
        products=torch.full((batch,), 2 * basis.shape[2], dtype=torch.int64, device=operator.device),
    )
    lower = torch.zeros(batch, top_k, dtype=torch.float64, device=operator.device)
    upper = torch.full_like(lower, torch.inf)
    products = torch.zeros_like(work.products)
    status = torch.full((batch,), Status.SLOW_SPECTRUM, dtype=torch.int8, device=operator.device)
    round_ = 0
    while True:
        width = min(block, dim - work.space.size)
        final = width == 0 or 2 * (work.space.size + width) > max_products
        ending = work.products + 2 * width > max_products
        low, high, error, hidden = work.certify(top_k, tol, floor, seed, round_, final, ending)
        done = (error <= tol) | hidden
        late = work.products + 2 * width > max_products
        leaving = (done | late | (width == 0)).nonzero()[:, 0]
        if leaving.numel():
            rows = work.rows[leaving]
            lower[rows], upper[rows], products[rows] = low[leaving], high[leaving], work.products[leaving]
            status[rows[done[leaving]]] = Status.CONVERGED
            status[rows[hidden[leaving]]] = Status.BELOW_FLOOR
            staying = (~(done | late | (width == 0))).nonzero()[:, 0]
            if not staying.numel():
                break
            work = work.keep(staying)
        round_ += 1
        work = work.grown(width, seed, round_)
    return SingularValues(lower, lower, upper, "bound", FAILURE, products, status, "krylov")


@dataclass
class _Unfinished:
    """The latents still in the batch."""

    rows: Tensor
    operator: LinearOperator
    space: Subspace
    last: int  # columns of its last block
    norm: Tensor  # bound on the deflated operator; still holds when the subspace grows
    wait: Tensor  # a subspace smaller than this is not probed again
    products: Tensor
    probed: bool = False  # before the first probe of any latent no norm is finite

    def keep(self, index: Tensor) -> "_Unfinished":
        return replace(
            self,
            rows=self.rows[index],
            operator=rows_of(self.operator, index),
            space=self.space.rows(index),
            norm=self.norm[index],
            wait=self.wait[index],
            products=self.products[index],
        )

    def grown(self, width: int, seed: int, round_: int) -> "_Unfinished":
        """With the next block: J^T J times the last one, orthogonal to all before."""
        block = new_directions(self.space, self.last, width, seed, round_)
        space = self.space.extended(self.operator, block)
        return replace(self, space=space, last=width, products=self.products + 2 * width)

    def certify(
        self, top_k: int, tol: float, floor: float, seed: int, round_: int, final: bool, ending: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Brackets [b, k], error [b] and whether sigma_k is surely below the floor [b].

        Probes for the deflated norm only where the answer could meet tol: where it would if nothing outside
        the subspace were larger than the smallest Ritz value inside, which is known once there are some
        more of them than k. Where one says no, the next waits for a larger subspace, or for the end. Without
        a probe nothing is known from above; then it looks no further unless this is the final round.
        """
        batch = self.rows.numel()
        low = self.norm.new_zeros(batch, top_k)
        high, error = torch.full_like(low, torch.inf), torch.full_like(self.norm, torch.inf)
        hidden = torch.zeros_like(self.rows, dtype=torch.bool)
        enough = self.space.size >= top_k + BLOCK
        if self.space.size < top_k or not (enough or final):
            return low, high, error, hidden
        if self.space.size == self.space.basis.shape[2]:
            self.norm.zero_()  # nothing is left out
            self.probed = True
        ritz = self.space.ritz()
        delta = rounding_of_gram(ritz.values[:, 0], self.space.size)
        low = (ritz.lower(top_k) - delta[:, None]).clamp(min=0.0).sqrt()
        below = floor * ritz.values[:, 0].sqrt()

        def judge(norm: Tensor, index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            high = (ritz.upper(top_k, norm, index) + delta[index, None]).sqrt()
            return high, log_error(low[index], low[index], high), high[:, -1] <= below[index]

        everyone = torch.arange(batch, device=self.norm.device)
        if self.probed:
            high, error, hidden = judge(self.norm, everyone)
        hopeful = torch.minimum(self.norm, ritz.values[:, -1])
        _, best, sunk = judge(hopeful, everyone)
        due = (self.wait <= self.space.size) | ending
        asking = (due & ((best <= tol) | sunk) & ~((error <= tol) | hidden)).nonzero()[:, 0]
        if asking.numel() and enough:

            def decided(index: Tensor, at_least: Tensor, at_most: Tensor) -> Tensor:
                _, error, hidden = judge(torch.cat([at_most, at_least]), asking[index].repeat(2))
                clear = ((error <= tol) | hidden).chunk(2)
                return clear[0] | ~clear[1]

            norm, spent = deflated_norm(
                rows_of(self.operator, asking),
                self.space.vectors(ritz, asking),
                seed=seed,
                offset=(1 << 32) + round_,
                max_steps=PROBE_STEPS,
                decided=decided,
            )
            self.norm[asking] = torch.minimum(self.norm[asking], norm)
            self.products[asking] += spent
            self.wait[asking] = math.ceil(WAITING * self.space.size)
            self.probed = True
            high, error, hidden = judge(self.norm, everyone)
        return low, high, error, hidden


def random_block(dim: int, width: int, seed: int, number: int, device: torch.device) -> Tensor:
    """[K, width] standard normal float64, the number-th block of that stream."""
    return polarity_ext.gaussian(seed, number * dim * width, (dim, width), device=device).double()


def new_directions(space: Subspace, last: int, width: int, seed: int, round_: int) -> Tensor:
    """[B, K, width]: an orthonormal basis of what J^T J makes of the `last` directions, outside the subspace.

    Where all of that is inside (an invariant subspace), or there are fewer than width, random directions take
    the place.
    """
    # Of directions before the last nothing new is outside: only rounding, which may well be inside.
    candidates = space.outside[:, -min(last, width) :].mT
    candidates = torch.nn.functional.pad(candidates, (0, width - candidates.shape[2]))
    spare = random_block(candidates.shape[1], width, seed, round_, candidates.device)
    inside = space.projected[:, :, -min(last, width) :]
    scale = (candidates.square().sum(1).amax(1) + inside.square().sum(1).amax(1)).sqrt()
    block, factor = dense.orthonormal_columns(candidates)
    exhausted = factor.diagonal(dim1=1, dim2=2).abs() <= _EXHAUSTED * scale[:, None]
    block = torch.where(exhausted[:, None, :], spare, block)
    # Once more, for what rounding left of the subspace:
    return dense.orthonormal_columns(space.without(block.mT.contiguous()).mT)[0]
