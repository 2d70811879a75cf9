"""Draws of rows by weight, without replacement, in one pass over the weights."""

import torch
from torch import Tensor


@torch.library.register_fake("polarity::weighted_draw")
def _fake(log_weights: Tensor, n: int, seed: int, offset: int) -> tuple[Tensor, Tensor]:
    got = list(log_weights.shape)
    torch._check(log_weights.dim() == 1, lambda: f"weighted_draw: log_weights must be [N], got {got}")
    return log_weights.new_empty(n, dtype=torch.int64), log_weights.new_empty(2, dtype=torch.int64)


def weighted_draw(log_weights: Tensor, n: int, seed: int, offset: int = 0) -> Tensor:
    """``n`` different rows, each drawn in proportion to ``exp(log_weights)`` of the rows left.

    The rows are those of the n largest ``log_weight - ln(E)`` with E a standard exponential number of each
    row (Yellott 1977; Efraimidis and Spirakis 2006), in that order: the first m of n rows are a draw of m.
    E of row i depends on the seed and ``offset + i`` alone, so that the same rows are drawn on every machine,
    CPU or CUDA, with any number of threads. A row of log-weight -infinity is never drawn. Reads its status
    from the device, so on CUDA it waits for the kernels. Has no derivatives.

    Args:
        log_weights: [N] float64, of any scale; N may exceed 2^24, where torch.multinomial ends.
        n: how many, 0 <= n <= N.
        seed: stream, 0 <= seed < 2^63; shared with no other op.
        offset: place of the first row in the stream, >= 0: rows of a part of a bank keep their numbers.

    Returns:
        [n] int64, the row drawn first in front.

    Raises:
        ValueError: a log-weight is NaN or +infinity; fewer than n rows have a weight.
        RuntimeError: another shape or dtype; n outside 0..N; seed or offset negative.
    """
    rows, status = torch.ops.polarity.weighted_draw(log_weights.detach(), n, seed, offset)
    drawn, bad = status.tolist()
    if bad >= 0:
        raise ValueError(
            f"weighted_draw: log_weights[{bad}] is {float(log_weights[bad])}; expected finite numbers, or "
            "-infinity for rows without weight"
        )
    if drawn < n:
        raise ValueError(f"weighted_draw: only {drawn} rows have a weight above zero, {n} wanted; draw fewer")
    result: Tensor = rows
    return result
