"""`svd`: leading singular values of any batch of operators, each in a bracket, by the route asked for."""

import math
from typing import Literal, get_args

from torch import Tensor

from polarity_sampling.memory import parse_memory
from polarity_sampling.volume.gram import exact
from polarity_sampling.volume.krylov import BLOCK, block_krylov
from polarity_sampling.volume.operator import LinearOperator, check, rows_of
from polarity_sampling.volume.preconditioned import preconditioned
from polarity_sampling.volume.qr import tall_qr
from polarity_sampling.volume.range_finder import range_finder, shared_basis
from polarity_sampling.volume.singular_values import SingularValues, Status

Route = Literal["auto", "gram", "preconditioned", "qr", "krylov", "range_finder", "shared_basis"]


def svd(
    operator: LinearOperator,
    top_k: int | None = None,
    *,
    method: Route = "auto",
    tol: float = 1e-2,
    start: Tensor | None = None,
    power_steps: int = 1,
    floor: float = 0.0,
    seed: int = 0,
    memory: str | int = "1GiB",
) -> SingularValues:
    """The k largest singular values of each of B operators, with a bracket around every one.

    | method | products | resolves down to | for |
    |---|---|---|---|
    | "gram" | K | 1e-7 sigma_1 | small K, float32 |
    | "qr" | K | 1e-14 sigma_1; further in small columns | float64, D x K fits the memory |
    | "preconditioned" | 2 K | 1e-14 sigma_1 | float64, D x K does not fit |
    | "krylov" | what tol takes | 1e-7 sigma_1 | k far below K, decaying spectrum |
    | "range_finder" | 2 (k + 10)(power_steps + 1) + 24 | | the least memory |
    | "shared_basis" | columns of start | lower bounds alone | directions that all operators share |

    "auto" is "gram" unless 4 (k + 8) <= K: then "krylov" until it has spent K products, and "gram" for the
    members of the batch that have not met tol by then.

    Args:
        operator: B maps R^K -> R^D: a tensor [B, D, K], a `JacobianOperator`, or anything with ``@``,
            ``.mT @``, shape, dtype and device.
        top_k: k; None for all K.
        method: see above.
        tol: wanted bound on the error of the sum of log sigma, nats. "krylov" works until it is met.
        start: first directions [K, m], orthonormal, for "krylov", "range_finder" and "shared_basis".
        power_steps: of "range_finder".
        floor: "krylov" gives up a member whose sigma_k is certified below floor * sigma_1.
        seed: of random directions and probes.
        memory: budget for stored columns.

    Returns:
        `SingularValues`. Brackets are about the operator as its products come out: what rounding there does
        (Weyl: at most the norm of the error) is not known here; `ps.log_volume` adds it.

    Raises:
        TypeError, ValueError: an argument is of the wrong kind or out of range.

    Example:
        >>> s = ps.volume.svd(torch.randn(4, 100, 20), top_k=5)
        >>> s.values, s.lower, s.upper, s.products
    """
    check(operator)
    dim = operator.shape[2]
    if top_k is None:
        top_k = dim
    if isinstance(top_k, bool) or not isinstance(top_k, int) or not 1 <= top_k <= dim:
        raise ValueError(f"top_k is {top_k!r}; expected None or an integer in 1..{dim}")
    if method not in get_args(Route):
        raise ValueError(f"method is {method!r}; expected one of {', '.join(get_args(Route))}")
    check_tol(tol)
    budget = parse_memory(memory)
    if start is not None and (start.ndim != 2 or start.shape[0] != dim or not 1 <= start.shape[1] <= dim):
        raise ValueError(f"start has shape {list(start.shape)}; expected [{dim}, m], m in 1..{dim}")
    if method == "shared_basis" and (start is None or start.shape[1] < top_k):
        raise ValueError(f"method 'shared_basis' needs start=[{dim}, m] with m >= top_k = {top_k}")

    if method == "auto":
        if not worth_iterating(dim, top_k):
            return exact(operator, top_k, tol=tol, memory=budget)
        return adaptive(
            operator, top_k, tol=tol, start=start, floor=floor, seed=seed, memory=budget, max_products=dim
        )
    if method == "gram":
        return exact(operator, top_k, tol=tol, memory=budget)
    if method == "qr":
        return tall_qr(operator, top_k, tol=tol)
    if method == "preconditioned":
        return preconditioned(operator, top_k, tol=tol, memory=budget)
    if method == "range_finder":
        return range_finder(operator, top_k, tol=tol, power_steps=power_steps, start=start, seed=seed)
    if method == "shared_basis":
        assert start is not None
        return shared_basis(operator, top_k, start)
    return block_krylov(operator, top_k, tol=tol, max_products=4 * dim, start=start, floor=floor, seed=seed)


def check_tol(tol: float) -> None:
    """Raises ValueError unless tol is a positive number."""
    if isinstance(tol, bool) or not (isinstance(tol, int | float) and math.isfinite(tol) and tol > 0):
        raise ValueError(f"tol is {tol!r}; expected a positive number (nats)")


def worth_iterating(dim: int, top_k: int) -> bool:
    """Whether a certified Krylov iteration could take fewer products than all K."""
    return 2 * (2 * top_k + BLOCK) <= dim


def adaptive(
    operator: LinearOperator,
    top_k: int,
    *,
    tol: float,
    start: Tensor | None,
    floor: float,
    seed: int,
    memory: int,
    max_products: int,
) -> SingularValues:
    """Krylov until max_products, then the exact route for whatever has not met tol."""
    found = block_krylov(
        operator, top_k, tol=tol, max_products=max_products, start=start, floor=floor, seed=seed
    )
    slow = (found.status == Status.SLOW_SPECTRUM).nonzero()[:, 0]
    if slow.numel():
        found = found.replace_rows(slow, exact(rows_of(operator, slow), top_k, tol=tol, memory=memory))
    return found
