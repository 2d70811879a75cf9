"""What routes cost at a latent of some generator: by count, so that a choice is the same on every machine."""

import math

from polarity_sampling.generator import Generator
from polarity_sampling.jacobian.operator import jacobian
from polarity_sampling.volume.calibration import BATCH, calibration_latents, rounding_of

# Multiplications of float64 count twice: half as many are in a vector.
_DOUBLE = 2.0
# Multiplications in the time of all eigenvalues of a matrix [n, n], in units of n^3. Assumed, from n = 512 on
# one machine.
_EIGENVALUES = 6.0


class Costs:
    """Of the routes at one latent, in multiplications of float32 at the pace of a matrix product.

    Where a generator is not captured nothing is known but the number of products, and all else counts for
    nothing beside them.
    """

    def __init__(self, generator: Generator, size: int, memory: str | int) -> None:
        z, label = calibration_latents(generator, BATCH, 0)
        rounding = rounding_of(generator, generator.dtype, memory)
        self._operator = jacobian(generator, z, label, memory=memory, primal=rounding.primal)
        self._dim_out = self._operator.shape[1]
        self._captured = self._operator.route == "captured"
        work = None if rounding.gram == "checked" else self._operator.gram_work(size)
        self.exact = self.fixed(size, 1) if work is None else getattr(work, rounding.gram)
        """Of all singular values of so many columns."""

    def products(self, count: int) -> float:
        """Of so many together."""
        return self._operator.work(count) if self._captured else count + 1.0

    def fixed(self, width: int, steps: int) -> float:
        """Of `fixed_krylov`; with one step of all directions that is the exact route."""
        products = (2 * steps - 1) * self.products(width)
        if not self._captured:
            return products
        size = width * steps
        gram = _DOUBLE * self._dim_out * math.comb(size + 1, 2)
        return products + gram + _EIGENVALUES * size**3

    def narrow(self, width: int, size: int) -> float:
        """Time of a product among `width` in that of one among `size`."""
        return self.products(width) / width * size / self.products(size)
