"""The compiled ops for arrays of NumPy, CuPy, JAX or any library that exports DLPack.

Arrays go in without a copy, and what comes out is an array of the same library: NumPy in, NumPy out; CuPy
in, CuPy out. What a kernel cannot take as it lies in memory is refused, never copied. The same kernels and
the same bits as the torch ops of `polarity_ext`, without derivatives.

Every function takes ``out``, an array to fill (of any library) in place of a new one, and ``stream``, the
``cudaStream_t`` to run on as a number (``stream.ptr`` in CuPy); default the current stream of the first
array's library. A call returns when the work is queued: arrays used on a stream that is not their library's
current one must be kept until it has run.

Raises of every function:
    TypeError: an argument exports no DLPack, or is not float32 or float64.
    ValueError: shapes, dtypes, devices or memory layouts do not fit; ``out`` is read-only or overlaps
        another argument.
    BufferError: a library refuses to export: NumPy before 2.1 does for read-only arrays.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

from polarity_ext.caller import Caller, SupportsDLPack
from polarity_ext.ops.activation import code_and_alpha
from polarity_ext.ops.jacobi_singular_values import MAX_SWEEPS

__all__ = [
    "activation",
    "cholesky",
    "convolve_to_few",
    "floored_log_sum",
    "gaussian",
    "gaussian_product",
    "gram",
    "jacobi_singular_values",
    "modulate_cotangents",
    "modulate_tangents",
    "normalize_tangents",
    "scale_tangents",
    "softmax_tangents",
    "solve_triangular",
    "symmetric_eigenvalues",
    "uniform",
    "upfirdn2d",
    "weighted_draw",
]

A = TypeVar("A", bound=SupportsDLPack)


def gaussian(
    seed: int, offset: int, shape: Sequence[int], *, out: Any = None, stream: int | None = None
) -> Any:
    """Standard normal numbers ``offset, offset + 1, ...`` of stream ``seed``; see `polarity_ext.gaussian`.

    Args:
        seed, offset: >= 0.
        shape: of the result.
        out: float32, contiguous, of ``shape``; default a new NumPy array.
    """
    return Caller("gaussian", {}, {"out": out}, stream).run(seed, offset, tuple(shape))


def uniform(
    seed: int,
    offset: int,
    shape: Sequence[int],
    dtype: str = "float32",
    *,
    out: Any = None,
    stream: int | None = None,
) -> Any:
    """Uniform numbers in the open interval (0, 1); see `polarity_ext.uniform`.

    Args:
        seed, offset: >= 0.
        shape: of the result.
        dtype: "float32" or "float64"; each is a stream of its own.
        out: of ``shape`` and ``dtype``, contiguous; default a new NumPy array.
    """
    return Caller("uniform", {}, {"out": out}, stream).run(seed, offset, tuple(shape), dtype)


def gram(y: A, *, out: Any = None, stream: int | None = None) -> A:
    """``G[b] = Y[b]^T Y[b]`` with float64 products and sums; see `polarity_ext.gram`.

    Args:
        y: [B, D, L], float32 or float64, any strides.
        out: [B, L, L] float64, contiguous.
    """
    result: A = Caller("gram", {"y": y}, {"out": out}, stream).run()
    return result


def gaussian_product(
    y: A, rows: int, seed: int, offset: int = 0, *, out: Any = None, stream: int | None = None
) -> A:
    """``Omega @ Y[b]``, Omega [rows, D] standard normal; see `polarity_ext.gaussian_product`.

    Args:
        y: [B, D, L], float32 or float64, any strides.
        rows, seed, offset: >= 0.
        out: [B, rows, L] float64, contiguous.
    """
    result: A = Caller("gaussian_product", {"y": y}, {"out": out}, stream).run(rows, seed, offset)
    return result


def floored_log_sum(
    sigma: A,
    floor: Any,
    eta: Any,
    delta: Any,
    top_k: int | None = None,
    *,
    out: tuple[Any, Any, Any] = (None, None, None),
    stream: int | None = None,
) -> tuple[A, A, A]:
    """Log-volumes, bounds on their errors, and ranks; see `polarity_ext.floored_log_sum`.

    Args:
        sigma: [B, n] float64, any strides.
        floor, eta: [B] float64, contiguous.
        delta: [B, n] float64, any strides.
        top_k: how many are summed; default all n.
        out: three arrays [B], float64, float64 and int64, contiguous; any may be None.
    """
    arguments = {"sigma": sigma, "floor": floor, "eta": eta, "delta": delta}
    outputs = {f"out[{i}]": array for i, array in enumerate(out)}
    result: tuple[A, A, A] = Caller("floored_log_sum", arguments, outputs, stream).run(top_k)
    return result


def scale_tangents(t: A, d: Any, *, out: Any = None, stream: int | None = None) -> A:
    """``out[l, b] = t[l, b] * d[b]``; see `polarity_ext.scale_tangents`.

    Args:
        t: tangents [L, B, *], float32 or float64; every t[l, b] dense, in any order of its dimensions.
        d: derivative or mask [B, *], every d[b] in memory as t[l, b] is.
        out: like t, every out[l, b] in memory as t[l, b] is; t itself to work in place.
    """
    result: A = Caller("scale_tangents", {"t": t, "d": d}, {"out": out}, stream).run()
    return result


def activation(
    x: A,
    kind: str,
    alpha: float | None = None,
    *,
    out: tuple[Any, Any] = (None, None),
    stream: int | None = None,
) -> tuple[A, A]:
    """``(f(x), f'(x))`` of an activation in one pass; see `polarity_ext.activation`.

    Args:
        x: any shape, float32 or float64, dense in any order of its dimensions.
        kind, alpha: as in `polarity_ext.activation`.
        out: two arrays in memory as x is.
    """
    outputs = {"out[0]": out[0], "out[1]": out[1]}
    result: tuple[A, A] = Caller("activation", {"x": x}, outputs, stream).run(*code_and_alpha(kind, alpha))
    return result


def normalize_tangents(
    t: A, xhat: Any, r: Any, center: bool = True, *, out: Any = None, stream: int | None = None
) -> A:
    """Tangents of a normalisation; see `polarity_ext.normalize_tangents`.

    Args:
        t: tangents [L, *], float32 or float64; every t[l] dense, in the order of xhat.
        xhat: normalised values [*].
        r: reciprocal scale [*], of size 1 where a group extends; dense, in the order of xhat.
        center: whether the mean was subtracted.
        out: like t, every out[l] in memory as t[l] is, one after the other.
    """
    inputs = {"t": t, "xhat": xhat, "r": r}
    result: A = Caller("normalize_tangents", inputs, {"out": out}, stream).run(center)
    return result


def softmax_tangents(t: A, y: Any, *, out: Any = None, stream: int | None = None) -> A:
    """Tangents of a softmax over the last dimension; see `polarity_ext.softmax_tangents`.

    Args:
        t: tangents [L, *, N], float32 or float64; every t[l] contiguous.
        y: the softmax's value [*, N], contiguous.
        out: like t, contiguous.
    """
    result: A = Caller("softmax_tangents", {"t": t, "y": y}, {"out": out}, stream).run()
    return result


def modulate_tangents(tx: A, x: Any, s: Any, ts: Any, *, out: Any = None, stream: int | None = None) -> A:
    """``tx * s + x * ts``: tangents of a style times an image; see `polarity_ext.modulate_tangents`.

    Args:
        tx: tangents of the image [L, B, C, *], float32 or float64; every tx[l] in memory as x is.
        x: the image [B, C, *], contiguous or channels last.
        s, ts: the style [B, C] and its tangents [L, B, C], contiguous.
        out: like tx, every out[l] in memory as tx[l] is, one after the other.
    """
    inputs = {"tx": tx, "x": x, "s": s, "ts": ts}
    result: A = Caller("modulate_tangents", inputs, {"out": out}, stream).run()
    return result


def modulate_cotangents(
    u: A, x: Any, s: Any, *, out: tuple[Any, Any] = (None, None), stream: int | None = None
) -> tuple[A, A]:
    """``(u * s, (u * x).sum over pixels)``; see `polarity_ext.modulate_cotangents`.

    Args:
        u: cotangents [L, B, C, *], float32 or float64; every u[l] in memory as x is.
        x, s: as in `modulate_tangents`.
        out: an array like u, every out[0][l] in memory as u[l] is, and one of [L, B, C], contiguous.
    """
    outputs = {"out[0]": out[0], "out[1]": out[1]}
    result: tuple[A, A] = Caller("modulate_cotangents", {"u": u, "x": x, "s": s}, outputs, stream).run()
    return result


def upfirdn2d(
    x: A,
    g: Any,
    up: tuple[int, int] = (1, 1),
    down: tuple[int, int] = (1, 1),
    padding: tuple[int, int, int, int] = (0, 0, 0, 0),
    *,
    out: Any = None,
    stream: int | None = None,
) -> A:
    """Upsampling, filtering and downsampling in one pass; see `polarity_ext.upfirdn2d`.

    Args:
        x: images [N, C, H, W], contiguous or channels last, float32 or float64.
        g: filter [taps of y, taps of x], contiguous. Correlated: where a filter f is to be convolved, as by
            `polarity_ext.upfirdn2d`, give a contiguous copy of ``f[::-1, ::-1]``.
        up, down: factors (x, y).
        padding: (left, right, top, bottom) of the upsampled image; negative crops.
        out: [N, C, H', W'], laid out like x.
    """
    caller = Caller("upfirdn2d", {"x": x, "g": g}, {"out": out}, stream)
    result: A = caller.run(tuple(up), tuple(down), tuple(padding))
    return result


def convolve_to_few(
    x: A,
    weight: Any,
    stride: int,
    padding: tuple[int, int],
    size: tuple[int, int],
    *,
    out: Any = None,
    stream: int | None = None,
) -> A:
    """A transposed convolution of images to a few channels; see `polarity_ext.convolve_to_few`.

    Args:
        x: images [*, N, C, H, W], contiguous or channels last, float32 or float64.
        weight: [C, O, k, l], contiguous.
        stride: along both axes.
        padding: (y, x), as of the transposed convolution.
        size: (H', W') of the result.
        out: [*, N, O, H', W'], contiguous.
    """
    caller = Caller("convolve_to_few", {"x": x, "weight": weight}, {"out": out}, stream)
    result: A = caller.run(stride, tuple(padding), tuple(size))
    return result


def symmetric_eigenvalues(a: A, top_k: int | None = None, *, out: Any = None, stream: int | None = None) -> A:
    """The largest eigenvalues of symmetric matrices, descending; see `polarity_ext.symmetric_eigenvalues`.

    Args:
        a: [B, n, n] with n <= 128 (1024 on CUDA), float32 or float64, any strides; only the lower triangle is
            read.
        top_k: how many; default all n.
        out: [B, top_k] of a's dtype, contiguous.
    """
    result: A = Caller("symmetric_eigenvalues", {"a": a}, {"out": out}, stream).run(top_k)
    return result


def weighted_draw(
    log_weights: A,
    n: int,
    seed: int,
    offset: int = 0,
    *,
    out: tuple[Any, Any] = (None, None),
    stream: int | None = None,
) -> tuple[A, A]:
    """Rows drawn by weight without replacement; see `polarity_ext.weighted_draw`.

    Args:
        log_weights: [N] float64, contiguous.
        n: how many, 0 <= n <= N.
        seed, offset: >= 0.
        out: [n] and [2] int64, contiguous.

    Returns:
        The rows, and the status, which says whether they mean anything, and which a caller must look at: how
        many of the n rows have a weight (fewer than n: no draw), and the first row whose log-weight is NaN
        or +infinity (-1: none).
    """
    outputs = {"out[0]": out[0], "out[1]": out[1]}
    call = Caller("weighted_draw", {"log_weights": log_weights}, outputs, stream)
    result: tuple[A, A] = call.run(n, seed, offset)
    return result


def cholesky(a: A, *, out: tuple[Any, Any] = (None, None), stream: int | None = None) -> tuple[A, A]:
    """Lower-triangular factors, and where there is none; see `polarity_ext.cholesky`.

    Args:
        a: [B, n, n] with n <= 512, float32 or float64, any strides; only the lower triangle is read.
        out: like a, and [B] int64; contiguous.
    """
    outputs = {"out[0]": out[0], "out[1]": out[1]}
    result: tuple[A, A] = Caller("cholesky", {"a": a}, outputs, stream).run()
    return result


def jacobi_singular_values(
    a: A,
    max_sweeps: int = MAX_SWEEPS,
    *,
    out: tuple[Any, Any] = (None, None),
    stream: int | None = None,
) -> tuple[A, A]:
    """Every singular value to its own rounding, and where not; see `polarity_ext.jacobi_singular_values`.

    Args:
        a: [B, m, n] with m >= n, n <= 128, float32 or float64, any strides.
        max_sweeps: at most, >= 1.
        out: [B, n], dtype of a, and [B] int64; contiguous.

    Returns:
        The values, descending, and info: where it is not 0 the values are NaN.
    """
    outputs = {"out[0]": out[0], "out[1]": out[1]}
    result: tuple[A, A] = Caller("jacobi_singular_values", {"a": a}, outputs, stream).run(max_sweeps)
    return result


def solve_triangular(y: A, r: SupportsDLPack, *, out: Any = None, stream: int | None = None) -> A:
    """Every row of y times the inverse of an upper-triangular matrix; see `polarity_ext.solve_triangular`.

    Args:
        y: [B, D, L] with L <= 384, float32 or float64, any strides.
        r: [B, L, L] float64, any strides; only the upper triangle is read.
        out: [B, D, L] float64, contiguous.
    """
    result: A = Caller("solve_triangular", {"y": y, "r": r}, {"out": out}, stream).run()
    return result
