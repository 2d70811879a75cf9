"""From singular values and bounds on their errors to a log-volume and a bound on its error.

Two errors are bounded. The computed eigenvalues of the Gram matrix are off by at most delta (rounding of
the products, sums and the eigensolver), and the Jacobian itself was computed with rounding: by Weyl's
inequality its singular values are off by at most eta >= ||Delta J||_2.
"""

import torch
from torch import Tensor


def log_volume_and_error(
    singular_values: Tensor, floor: Tensor, eta: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of log singular values over the given columns, and a bound on its error.

    The true sigma lies within a = eta + (sigma - sqrt(sigma^2 - delta)) of the computed one, so log sigma is
    off by at most -log(1 - a / sigma), which to first order is below eta / (sigma - eta) +
    delta / (2 (sigma^2 - delta)). Where a reaches down to the floor the value is compared with the clipped
    truth log max(sigma, floor), and the bound stays finite.

    Args:
        singular_values: [N, k] float64, descending; slice the columns for a smaller k.
        floor: [N], noise floor of each latent: below it a singular value cannot be told from zero.
        eta: [N], bound on ||Delta J||_2.
        delta: [N], bound on the error of the eigenvalues sigma^2.

    Returns:
        value [N]: sum of log max(sigma_i, floor). error [N]: inf where one sigma_i is at or below the floor,
        NaN where eta or delta is (an imported bank does not know them).
    """
    floor = floor[:, None]
    clipped = torch.maximum(singular_values, floor)
    square_root = torch.sqrt(torch.clamp(clipped.square() - delta[:, None], min=0.0))
    reach = eta[:, None] + (clipped - square_root)
    below = torch.log(clipped / torch.maximum(clipped - reach, floor))
    above = torch.log1p(reach / clipped)
    error = torch.maximum(below, above)
    error = torch.where(singular_values > floor, error, torch.inf)
    # A latent whose generator is constant has floor 0: its volume is zero, its logarithm -inf.
    return torch.log(clipped).sum(1), torch.where(torch.isnan(reach), torch.nan, error).sum(1)
