"""A convolution and what multiplies its every number behind it, run as one."""

from collections.abc import Sequence

from torch import Tensor

from polarity_sampling.jacobian.rules.convolution import Convolution
from polarity_sampling.jacobian.rules.convolution_forms import ToFew, Winograd
from polarity_sampling.jacobian.rules.pointwise import Pointwise, Rectifier
from polarity_sampling.jacobian.stage import Residual, Stage


class ScaledConvolution(Stage):
    """In one pass over the tangents where the convolution has a form that multiplies what it writes.

    In a transposed program the convolution is the one that the factor feeds: there, too, it comes first.
    """

    broadcasts = True

    def __init__(self, convolution: Convolution, scale: Pointwise) -> None:
        self._convolution, self._scale = convolution, scale

    def push(self, residual: Residual, tangents: Sequence[Tensor], owned: bool) -> Sequence[Tensor]:
        (t,) = tangents
        scaled = self._scaled(t, residual, transposed=False)
        if scaled is not None:
            return (scaled,)
        return self._scale.push(residual, self._convolution.push((), tangents, owned), True)

    def pull(self, residual: Residual, cotangents: Sequence[Tensor | None], owned: bool) -> Sequence[Tensor]:
        (u,) = cotangents
        assert u is not None
        scaled = self._scaled(u, residual, transposed=True)
        if scaled is not None:
            return (scaled,)
        return self._scale.pull(residual, self._convolution.pull((), cotangents, owned), True)

    def _scaled(self, t: Tensor, residual: Residual, transposed: bool) -> Tensor | None:
        form, scale, factor = self._convolution.form(transposed), self._scale, residual[0]
        probes, samples = t.shape[:2]
        # Probes that all samples share differ from sample to sample only behind the factor.
        if samples != scale.shape[0]:
            return None
        if isinstance(scale, Rectifier):
            if scale.channels_last and isinstance(form, Winograd) and probes * samples >= form.enough:
                return form.of_many(t, factor, *scale.slopes)
        elif isinstance(form, ToFew) and factor.shape == scale.shape and factor.dtype == t.dtype:
            return form(t, factor)
        return None


def scaled(first: Stage, second: Stage) -> Stage | None:
    """One stage for two, of which the second alone reads what the first one writes; None: there is none."""
    if not isinstance(first, Convolution) or not isinstance(second, Pointwise):
        return None
    fits = first.weight is not None and first.any_batch and second.keeps_shape and second.fixed is None
    return ScaledConvolution(first, second) if fits else None
