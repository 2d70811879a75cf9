"""A convolution and the rectifier behind it, run as one."""

from collections.abc import Sequence

from torch import Tensor

from polarity_sampling.jacobian.rules.convolution import Convolution
from polarity_sampling.jacobian.rules.convolution_forms import Winograd
from polarity_sampling.jacobian.rules.pointwise import Rectifier
from polarity_sampling.jacobian.stage import Residual, Stage


class RectifiedConvolution(Stage):
    """In one pass over the tangents where the convolution has a form that masks what it writes.

    In a transposed program the convolution is the one that the rectifier feeds: there, too, it comes first.
    """

    broadcasts = True

    def __init__(self, convolution: Convolution, rectifier: Rectifier) -> None:
        self._convolution, self._rectifier = convolution, rectifier
        self._batch = rectifier.shape[0]

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        (t,) = tangents
        masked = self._masked(t, residual, transposed=False)
        if masked is not None:
            return (masked,)
        return self._rectifier.push(residual, self._convolution.push((), tangents, owned), True)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        masked = self._masked(u, residual, transposed=True)
        if masked is not None:
            return (masked,)
        return self._rectifier.pull(residual, self._convolution.pull((), cotangents, owned), True)

    def _masked(self, t: Tensor, residual: Residual, transposed: bool) -> Tensor | None:
        form = self._convolution.form(transposed)
        probes, samples = t.shape[:2]
        # Probes that all samples share differ from sample to sample only behind the rectifier.
        if not isinstance(form, Winograd) or samples != self._batch or probes * samples < form.enough:
            return None
        return form.of_many(t, residual[0], *self._rectifier.slopes)


def rectified(first: Stage, second: Stage) -> Stage | None:
    """One stage for two, of which the second alone reads what the first one writes; None: there is none."""
    if not isinstance(first, Convolution) or not isinstance(second, Rectifier):
        return None
    of_images = first.weight is not None and first.any_batch and second.channels_last
    return RectifiedConvolution(first, second) if of_images else None
