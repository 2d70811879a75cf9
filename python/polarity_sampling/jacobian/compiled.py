"""Captured and checked programs of every module, kept until its weights change."""

import threading
import weakref
from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

import polarity_ext
from polarity_sampling.generator import Generator, Version
from polarity_sampling.jacobian import autograd_route, func_route
from polarity_sampling.jacobian.capture import capture
from polarity_sampling.jacobian.lower import Lowered
from polarity_sampling.jacobian.stage import Residual

# Programs kept for each module; batch sizes are powers of two.
_KEPT = 12
# Another seed than that of any draw; see `_verify`.
_SEED = 0x5EED_CAB7

# How far captured samples and derivatives may be from the module's own, relative to their size. Rounding is
# far below, a branch not taken or a value baked in far above.
_TOLERANCE = {torch.float32: (1e-4, 1e-2), torch.float64: (1e-9, 1e-6)}

_Key = tuple[int, torch.dtype, torch.device, bool, torch.dtype | None, bool]


class NotCapturedError(ValueError):
    """Why a module is left to torch.func, or why it cannot be where something is asked for that needs it."""


class _Programs:
    """Those of one module in one state of its weights."""

    def __init__(self, version: Version) -> None:
        self.version = version
        self.by_key: OrderedDict[_Key, Lowered] = OrderedDict()
        self.refused: str | None = None
        self.derivative_checked = False


_programs: "weakref.WeakKeyDictionary[nn.Module, _Programs]" = weakref.WeakKeyDictionary()
_lock = threading.RLock()


def compiled(
    generator: Generator,
    z: Tensor,
    label: Tensor | None,
    compute: torch.dtype | None = None,
    lean: bool = False,
) -> Lowered:
    """The program for batches like z [B, K], captured at the first call and checked against the module.

    Args:
        compute: dtype of the matrix products of tangents, None for that of z.
        lean: without rearranged copies of weights that are larger than they.

    Raises:
        NotCapturedError: the module cannot be captured; the reason.
    """
    with _lock:
        programs = _programs.get(generator.module)
        version = generator.version()
        if programs is None or programs.version != version:
            programs = _programs[generator.module] = _Programs(version)
        if programs.refused is not None:
            raise NotCapturedError(programs.refused)
        key = (z.shape[0], z.dtype, z.device, label is None, compute, lean)
        lowered = programs.by_key.get(key)
        if lowered is None:
            try:
                # A derivative in low precision is not compared with one in full.
                check = compute is None and not programs.derivative_checked
                lowered = _capture_and_check(generator, z, label, compute, lean, check)
            except NotCapturedError as error:
                programs.refused = str(error)
                raise
            programs.derivative_checked |= check
            programs.by_key[key] = lowered
            if len(programs.by_key) > _KEPT:
                programs.by_key.popitem(last=False)
        programs.by_key.move_to_end(key)
        return lowered


def _capture_and_check(
    generator: Generator,
    z: Tensor,
    label: Tensor | None,
    compute: torch.dtype | None,
    lean: bool,
    derivative: bool,
) -> Lowered:
    try:
        lowered = Lowered(capture(generator, z, label), compute, lean)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # recording runs any code of anybody's
        raise NotCapturedError(f"it cannot be recorded: {first_sentence(error)}") from error
    _verify(generator, lowered, z, label, derivative)
    return lowered


def _verify(
    generator: Generator, lowered: Lowered, z: Tensor, label: Tensor | None, derivative: bool
) -> None:
    """Other latents must give the module's own samples and, once for each module, its derivative."""
    batch = z.shape[0]
    tolerance = _TOLERANCE[z.dtype][0]
    other = generator.base.draw(_SEED, torch.arange(batch), generator.latent_dim).to(z)
    classes = None
    if label is not None:
        assert generator.num_classes is not None
        classes = torch.arange(batch, device=z.device) % generator.num_classes
    inputs = (other,) if classes is None else (other, classes)
    with torch.no_grad():
        found, residuals = lowered.primal(*inputs)
        expected = generator.flat(other, classes)
    scale = float(expected.abs().max())
    # Written so that NaN fails it too.
    if not float((found - expected).abs().max()) <= tolerance * max(scale, 1e-30):
        raise NotCapturedError("the recorded operations give other samples (values baked in, or a branch)")
    if not lowered.constant:
        lowered.push.settle(residuals)
        lowered.pull.settle(residuals)
    if derivative:
        _verify_derivative(generator, lowered, residuals, other, classes, expected.shape[1])


def _verify_derivative(
    generator: Generator,
    lowered: Lowered,
    residuals: Sequence[Residual],
    z: Tensor,
    label: Tensor | None,
    dim_out: int,
) -> None:
    """The transpose against reverse mode through the module itself, and the product against the transpose."""
    tolerance = _TOLERANCE[z.dtype][1]
    u = polarity_ext.gaussian(_SEED, 0, (1, z.shape[0], dim_out)).to(z)
    v = polarity_ext.gaussian(_SEED, u.numel(), (1, *z.shape)).to(z)
    pulled, pushed = torch.zeros_like(v), torch.zeros_like(u)
    with torch.no_grad():
        try:
            if not lowered.constant:
                pulled, pushed = lowered.pull.run(residuals, u), lowered.push.run(residuals, v)
        except RuntimeError as error:
            raise NotCapturedError(f"an operator has no derivative: {first_sentence(error)}") from error
    try:
        expected = func_route.pull_back(generator, z, label, u)
    except (RuntimeError, NotImplementedError, ValueError):
        try:
            expected = autograd_route.pull_back(generator, z, label, u)
        except (RuntimeError, NotImplementedError) as error:
            raise NotCapturedError(f"nothing to check it by: {first_sentence(error)}") from error
    if not float((pulled - expected).norm()) <= tolerance * max(float(expected.norm()), 1e-30):
        raise NotCapturedError(
            "reverse mode gives another derivative (a custom backward, or torch.no_grad inside forward)"
        )
    gap = float(((u * pushed).sum((1, 2)) - (pulled * v).sum((1, 2))).abs())
    if not gap <= tolerance * float(u.norm() * pushed.norm()) + 1e-30:
        raise NotCapturedError("forward and reverse derivatives of its operations disagree")


def in_float64(generator: Generator) -> Generator:
    """Its copy in float64; NotCapturedError where there is none."""
    try:
        return generator.in_dtype(torch.float64)
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, TypeError) as error:  # a module may hold what cannot be copied
        raise NotCapturedError(f"it cannot be copied to float64: {first_sentence(error)}") from error


def first_sentence(error: Exception) -> str:
    """What an exception of torch says, without its advice."""
    return str(error).strip().split("\n")[0].split(". ")[0]
