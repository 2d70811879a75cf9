"""From singular values and bounds on their errors to a log-volume and a bound on its error.

Two errors are bounded. The computed eigenvalues of the Gram matrix are off by at most delta (rounding of
the products, sums and the eigensolver), and the Jacobian itself was computed with rounding: by Weyl's
inequality its singular values are off by at most eta >= ||Delta J||_2.
"""

from torch import Tensor

import polarity_ext


def log_volume_and_error(
    singular_values: Tensor, floor: Tensor, eta: Tensor, delta: Tensor
) -> tuple[Tensor, Tensor]:
    """Sum of log singular values over the given columns, and a bound on its error.

    The true sigma lies between sqrt(sigma^2 - delta) - eta and sqrt(sigma^2 + delta) + eta: to first order
    its logarithm is off by eta / sigma + delta / (2 sigma^2). Where the lower end reaches down to the floor
    the value is compared with the clipped truth log max(sigma, floor), and the bound stays finite.

    Args:
        singular_values: [N, k] float64, descending; slice the columns for a smaller k.
        floor: [N], noise floor of each latent: below it a singular value cannot be told from zero.
        eta: [N], bound on ||Delta J||_2.
        delta: [N], bound on the error of the eigenvalues sigma^2; or [N, k], one for each of them.

    Returns:
        value [N]: sum of log max(sigma_i, floor). error [N]: inf where one sigma_i is at or below the floor,
        NaN where eta or delta is (an imported bank does not know them).
    """
    delta = delta[:, None].expand_as(singular_values) if delta.ndim == 1 else delta
    # A latent whose generator is constant has floor 0: its volume is zero, its logarithm -inf.
    value, error, _ = polarity_ext.floored_log_sum(singular_values, floor, eta, delta)
    return value, error
