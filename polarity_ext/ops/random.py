"""Counter-based random numbers: the same bits on every machine, CPU or CUDA.

Philox 4x32-10 (Salmon et al., SC 2011). Number i of a stream depends on (seed, i) alone, so any part
of a stream can be made again without the rest, in any order and on any device. The two distributions
(and the two precisions of ``uniform``) are different streams of one seed.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


@torch.library.register_fake("polarity::gaussian_")
def _gaussian_fake(out: Tensor, seed: int, offset: int) -> None:
    return None


@torch.library.register_fake("polarity::uniform_")
def _uniform_fake(out: Tensor, seed: int, offset: int) -> None:
    return None


def gaussian(
    seed: int, offset: int, shape: Sequence[int], *, device: torch.device | str | None = None
) -> Tensor:
    """Standard normal numbers ``offset, offset + 1, ...`` of stream ``seed``, by Box-Muller.

    Bit-identical on CPU and CUDA. Has no derivatives.

    Args:
        seed: stream, 0 <= seed < 2^63.
        offset: index in the stream of the first number, 0 <= offset < 2^63:
            ``gaussian(s, 0, (n,))[k:]`` equals ``gaussian(s, k, (n - k,))``.
        shape: shape of the result, filled in row-major order.
        device: where to make it; default torch's current default device.

    Returns:
        float32 tensor of ``shape``. Values lie within 6.8 standard deviations.

    Raises:
        RuntimeError: seed or offset negative.
    """
    out = torch.empty(tuple(shape), dtype=torch.float32, device=device)
    torch.ops.polarity.gaussian_(out, seed, offset)
    return out


def uniform(
    seed: int,
    offset: int,
    shape: Sequence[int],
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Uniform numbers in the open interval (0, 1), as `gaussian` otherwise.

    Args:
        seed, offset, shape, device: as in `gaussian`.
        dtype: float32 (23 random bits) or float64 (52); each is a stream of its own.

    Raises:
        RuntimeError: seed or offset negative, or another dtype.
    """
    out = torch.empty(tuple(shape), dtype=dtype, device=device)
    torch.ops.polarity.uniform_(out, seed, offset)
    return out
