"""What the ops must compute, in higher precision and written another way than the kernels."""

import math
from collections.abc import Callable

import mpmath
import numpy as np
import torch
import torch.nn.functional as F
from scipy import special
from scipy.linalg import lapack
from torch import Tensor

from tests.ops import philox_ref


def gaussian_ref(seed: int, offset: int, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(philox_ref.gaussian_ref(seed, offset, math.prod(shape))).reshape(shape)


def uniform_ref(seed: int, offset: int, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    make = philox_ref.uniform32_ref if dtype == torch.float32 else philox_ref.uniform64_ref
    return torch.from_numpy(make(seed, offset, math.prod(shape))).reshape(shape)


def gram_ref(y: Tensor) -> Tensor:
    """float64, with an error of about D eps |y_i| |y_j| of its own; `exact_dot` has none."""
    return torch.einsum("bdi,bdj->bij", y.double(), y.double())


def exact_dot(a: Tensor, b: Tensor) -> float:
    """a . b rounded once: every product split into its rounded value and its error (Dekker), then fsum."""
    x, y = a.double().numpy(), b.double().numpy()
    product = x * y
    xh, yh = _high(x), _high(y)
    xl, yl = x - xh, y - yh
    return math.fsum([*product.tolist(), *(xh * yh - product + xh * yl + xl * yh + xl * yl).tolist()])


def _high(x: np.ndarray) -> np.ndarray:
    """The upper 26 bits of each double."""
    t = x * (2.0**27 + 1.0)
    return t - (t - x)


def symmetric_eigenvalues_ref(a: Tensor, top_k: int) -> Tensor:
    """float64, descending, by LAPACK's divide and conquer of the upper triangle."""
    return torch.linalg.eigvalsh(a.double(), UPLO="U").flip(1)[:, :top_k]


def symmetric_eigenvalues_mp(a: Tensor) -> list[Tensor]:
    """Of each matrix [n, n], descending, with 50 digits, rounded to float64."""
    with mpmath.workdps(50):
        spectra = [mpmath.eigsy(mpmath.matrix(one.tolist()), eigvals_only=True) for one in a]
    return [torch.tensor(sorted(map(float, values), reverse=True), dtype=torch.float64) for values in spectra]


def jacobi_singular_values_ref(a: Tensor) -> tuple[Tensor, Tensor]:
    """By LAPACK's Jacobi code: QR with pivoting first, accurate for columns of any size (Drmac, Veselic)."""
    values = torch.full((a.shape[0], a.shape[2]), torch.nan, dtype=torch.float64)
    finite = a.isfinite().all(2).all(1)
    if a.shape[2] == 0:
        return values, torch.zeros_like(finite, dtype=torch.int64)
    for b in finite.nonzero()[:, 0].tolist():
        one = a[b].double()
        exponent = torch.frexp(one.abs().max()).exponent  # near one it neither overflows nor underflows
        near_one = torch.ldexp(one, -exponent).numpy()
        sva, _, _, work, _, info = lapack.dgejsv(near_one, joba=0, jobu=3, jobv=3, jobr=0, jobt=0)
        assert info == 0, info
        values[b] = torch.ldexp(torch.from_numpy(sva * (work[0] / work[1])), exponent)
    return values, torch.where(finite, 0, -1)


def singular_values_mp(a: Tensor, digits: int = 80) -> list[Tensor]:
    """Of each matrix [m, n], descending, by eigenvalues of a^T a with so many digits, rounded to float64."""
    spectra = []
    with mpmath.workdps(digits):
        for one in a:
            matrix = mpmath.matrix(one.tolist())
            squares = mpmath.eigsy(matrix.T * matrix, eigvals_only=True)
            spectra.append(sorted((float(mpmath.sqrt(max(x, 0))) for x in squares), reverse=True))
    return [torch.tensor(values, dtype=torch.float64) for values in spectra]


def weighted_draw_ref(log_weights: Tensor, n: int, seed: int, offset: int) -> Tensor:
    """The n largest keys in extended precision."""
    word = philox_ref.draw_words_ref(seed, offset, log_weights.numel())
    v = (word.astype(np.longdouble) + np.longdouble(0.5)) / np.longdouble(2) ** 64
    rest = ((~word).astype(np.longdouble) + np.longdouble(0.5)) / np.longdouble(2) ** 64
    exponential = -np.where(v < 0.5, np.log1p(-np.minimum(v, 0.5)), np.log(rest))
    keys = log_weights.numpy().astype(np.longdouble) - np.log(exponential)
    return torch.from_numpy(np.argsort(-keys, kind="stable")[:n].copy())


def lower_mirrored(a: Tensor) -> Tensor:
    """The symmetric matrix of a lower triangle, in float64."""
    lower = torch.tril(a.double())
    return lower + torch.tril(lower, -1).mT


def cholesky_ref(a: Tensor) -> tuple[Tensor, Tensor]:
    """Info by the signs of leading minors, by LAPACK where there are many; the factor is not compared."""
    whole = lower_mirrored(a)
    if a.shape[1] > 20:
        return torch.linalg.cholesky_ex(whole)
    info = torch.zeros(len(a), dtype=torch.int64)
    for order in range(a.shape[1], 0, -1):
        minor = whole[:, :order, :order]
        finite = minor.isfinite().all(2).all(1)
        safe = torch.where(finite[:, None, None], minor, torch.eye(order, dtype=minor.dtype))
        fails = ~finite | (torch.linalg.eigvalsh(safe)[:, 0] <= 0)
        info = torch.where(fails, order, info)
    return torch.empty_like(a, memory_format=torch.contiguous_format), info


def floored_log_sum_ref(
    sigma: Tensor, floor: Tensor, eta: Tensor, delta: Tensor, top_k: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Value by value, with the ends of the bracket clipped and their logarithms in extended precision."""
    rows = []
    for values, least, off, offs in zip(*(t.cpu().numpy() for t in (sigma, floor, eta, delta)), strict=True):
        s, d = values.astype(np.longdouble), offs.astype(np.longdouble)
        rank = int((s > least).sum())
        s, d = np.maximum(s[:top_k], least), d[:top_k]
        with np.errstate(all="ignore"):
            low = np.maximum(np.sqrt(np.maximum(s * s - d, 0)) - off, least)
            high = np.sqrt(s * s + d) + off
            bound = np.maximum(np.log1p((s - low) / low), np.log1p((high - s) / s))
            bound = np.where(values[:top_k] > least, bound, np.inf)
            bound = np.where(np.isnan(d + off), np.nan, bound)
            rows.append((float(np.log(s).sum()), float(bound.sum()), rank))
    value, error, ranks = zip(*rows, strict=True) if rows else ((), (), ())
    f64, i64 = torch.float64, torch.int64
    return torch.tensor(value, dtype=f64), torch.tensor(error, dtype=f64), torch.tensor(ranks, dtype=i64)


def solve_triangular_ref(y: Tensor, r: Tensor) -> Tensor:
    """By LAPACK, of the transposed system."""
    return torch.linalg.solve_triangular(torch.triu(r).mT, y.double().mT, upper=False).mT


def scale_tangents_ref(t: Tensor, d: Tensor) -> Tensor:
    """Correctly rounded: a product of two float32 is exact in float64."""
    return (t.double() * d.double()).to(t.dtype)


def normalize_tangents_ref(t: Tensor, xhat: Tensor, r: Tensor, center: bool) -> Tensor:
    """The projection I - 1 1^T / N - xhat xhat^T / N of every group, as a matrix, in float64."""
    group = [i for i, size in enumerate(r.shape) if size == 1]
    kept = [i for i in range(r.dim()) if i not in group]
    shape = [xhat.shape[i] for i in kept + group]
    points = (
        xhat.double()
        .permute(kept + group)
        .reshape(math.prod(shape[: len(kept)]), math.prod(shape[len(kept) :]))
    )
    size = max(points.shape[1], 1)
    tangents = t.double().permute(0, *(i + 1 for i in kept + group)).reshape(t.shape[0], *points.shape)
    span = torch.stack([points, torch.ones_like(points)] if center else [points], 2)
    inner = torch.einsum("gnk,lgn->lgk", span, tangents) / size
    out = (tangents - torch.einsum("gnk,lgk->lgn", span, inner)) * r.double().reshape(-1, 1)
    back = [0, *(1 + (kept + group).index(i) for i in range(r.dim()))]
    return out.reshape(t.shape[0], *shape).permute(back)


def softmax_tangents_ref(t: Tensor, y: Tensor) -> Tensor:
    """Every row times the matrix diag(y) - y y^T, in float64, a row at a time."""
    out = torch.zeros(t.shape, dtype=torch.float64)
    for index in np.ndindex(*y.shape[:-1]):
        value, tangents = y[index].double(), t[(slice(None), *index)].double()
        out[(slice(None), *index)] = tangents * value - torch.outer(tangents @ value, value)
    return out


def mlp_tangents_ref(v: Tensor, weights: list[Tensor], factors: list[Tensor], adjoint: bool) -> Tensor:
    """The Jacobian of every sample, multiplied out in float64, times v."""
    batch = factors[0].shape[0]
    jacobian = torch.eye(weights[0].shape[1], dtype=torch.float64).expand(batch, -1, -1)
    for weight, factor in zip(weights, factors, strict=True):
        jacobian = factor.double()[:, :, None] * (weight.double() @ jacobian)
    probes = v.double() if v.dim() == 3 else v.double()[:, None].expand(-1, batch, -1)
    return torch.einsum("bdk,lbd->lbk" if adjoint else "bdk,lbk->lbd", jacobian, probes)


def layer_gram_ref(x: Tensor, weight: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
    """Multiplied out in float64, and the product of the squared norms of what is not zero."""
    x, weight, factor = x.double(), weight.double(), factor.double()
    tangents = torch.einsum("bo,oi,lbi->lbo", factor, weight, x)
    layer = factor[:, :, None] * weight * (x != 0).any(0)[:, None]
    out = torch.einsum("lbo,mbo->blm", tangents, tangents)
    return out, layer.square().sum((1, 2)) * x.square().sum((0, 2))


def modulate_tangents_ref(tx: Tensor, x: Tensor, s: Tensor, ts: Tensor) -> Tensor:
    """In float64, by the product rule on [B, C, pixels]."""
    tx, x, s, ts = tx.double(), x.double(), s.double(), ts.double()
    return torch.einsum("lbc...,bc->lbc...", tx, s) + torch.einsum("bc...,lbc->lbc...", x, ts)


def modulate_cotangents_ref(u: Tensor, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
    u, x, s = u.double(), x.double(), s.double()
    return torch.einsum("lbc...,bc->lbc...", u, s), torch.einsum("lbc...,bc...->lbc", u, x)


def upfirdn2d_ref(
    x: Tensor, taps: Tensor, up: tuple[int, int], down: tuple[int, int], padding: tuple[int, int, int, int]
) -> Tensor:
    """In float64, along y and then x, as products with one matrix for each tap of the other axis."""

    def matrix(size: int, count: int, up: int, down: int, before: int, after: int) -> Tensor:
        """[count, out, size]: whether tap k of output o meets input i."""
        k, o = (
            torch.arange(count)[:, None, None],
            torch.arange((size * up + before + after - count) // down + 1),
        )
        return (o[:, None] * down + k - before == torch.arange(size) * up).double()

    along_y = matrix(x.shape[2], taps.shape[0], up[1], down[1], padding[2], padding[3])
    along_x = matrix(x.shape[3], taps.shape[1], up[0], down[0], padding[0], padding[1])
    rows = torch.einsum("kl,kyi->lyi", taps.double(), along_y)
    met = torch.einsum("lyi,ncij->nclyj", rows, x.double())
    return torch.einsum("nclyj,lxj->ncyx", met, along_x)


def linear_tangents_ref(t: Tensor, weight: Tensor, d: Tensor) -> Tensor:
    """In float64, with the factors in the matrix of every sample."""
    return torch.einsum("boi,lbi->lbo", d.double()[:, :, None] * weight.double(), t.double())


def rectify_ref(x: Tensor, slope: float) -> tuple[Tensor, Tensor]:
    """Both in NumPy, which packs bits itself."""
    factor = x.new_tensor(slope)
    y = torch.where(x > 0, x, torch.zeros_like(x) if slope == 0 else x * factor)
    bits = np.packbits((x > 0).flatten(1).numpy() if x.dim() > 1 else (x > 0)[:, None].numpy(), 1, "little")
    return y, torch.from_numpy(bits)


def mask_tangents_ref(t: Tensor, bits: Tensor, low: float, high: float) -> Tensor:
    """By unpacked bits."""
    size = math.prod(t.shape[2:])
    on = torch.from_numpy(np.unpackbits(bits.numpy(), axis=1, count=size, bitorder="little"))
    slopes = torch.tensor([low, high], dtype=torch.float64)[on.long()].to(t.dtype)
    return t * slopes.view(t.shape[1:])


def winograd_plain(weight: Tensor, kernel: int, stride: int, transposed: bool) -> Tensor:
    """The kernel behind a transformed one: the least-squares solution at the points of its tiles."""
    taps, tile = -(-kernel // stride), math.isqrt(weight.shape[0])
    places = {4: [0.0, 1.0, -1.0], 5: [0.5, -0.5, 1.25, -1.25], 6: [0.0, 0.75, -0.75, 1.5, -1.5]}[tile]
    rows = [[p**k / math.prod(p - q for q in places if q != p) for k in range(taps)] for p in places]
    rows.append([0.0] * (taps - 1) + [1.0])
    back = torch.linalg.pinv(torch.tensor(rows, dtype=torch.float64))
    matrices = weight.double().transpose(1, 2).flatten(2)  # of panels of output channels
    found = torch.einsum("ya,xb,abio->yxio", back, back, matrices.unflatten(0, (tile, tile)))
    whole = found.new_zeros(
        *(matrices.shape[dim] // (stride**2 if transposed == (dim == 2) else 1) for dim in (1, 2)),
        *(taps * stride,) * 2,
    )
    for phase in range(stride**2):
        block = found.unflatten(3 if transposed else 2, (stride**2, -1)).select(3 if transposed else 2, phase)
        whole[:, :, phase // stride :: stride, phase % stride :: stride] = block.permute(2, 3, 0, 1)
    return whole[:, :, :kernel, :kernel]  # [in, out, k, k]


def winograd_ref(
    x: Tensor,
    weight: Tensor,
    kernel: int,
    stride: int,
    padding: list[int],
    size: list[int],
    transposed: bool,
    bits: Tensor | None = None,
    low: float = 0.0,
    high: float = 1.0,
) -> Tensor:
    """In float64, with the plain kernel."""
    plain = winograd_plain(weight, kernel, stride, transposed)
    images = x.double().flatten(0, -4)
    out = winograd_composed(images, plain, kernel, stride, padding, size, transposed)
    if bits is not None:
        samples = max(1, bits.shape[0])
        probes = out.movedim(1, -1).unflatten(0, (out.shape[0] // samples, bits.shape[0]))
        out = mask_tangents_ref(probes, bits, low, high).flatten(0, 1).movedim(-1, 1)
    return out.unflatten(0, x.shape[:-3])


def winograd_composed(
    x: Tensor, plain: Tensor, kernel: int, stride: int, padding: list[int], size: list[int], transposed: bool
) -> Tensor:
    """The convolution by a kernel [in, out, k, k], of images with room around, and what is wanted of it."""
    (top, left), (height, width) = padding, size
    if transposed:
        whole = F.conv_transpose2d(x, plain, stride=stride)
        return F.pad(whole, (-left, width + left - whole.shape[3], -top, height + top - whole.shape[2]))
    behind = [max(0, stride * n + kernel) for n in size]
    room = F.pad(x, (left, behind[1], top, behind[0]))
    return F.conv2d(room, plain.transpose(0, 1), stride=stride)[:, :, :height, :width]


def activation_ref(x: Tensor, kind: str, alpha: float) -> tuple[Tensor, Tensor]:
    """f and f' in float64: by NumPy and SciPy for float32 input, by mpmath for float64."""
    if x.dtype == torch.float64:
        return activation_mp(x, kind, alpha)
    a, v = float(np.float32(alpha)), x.double().numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        y, derivative = _FLOAT64[kind](v, a)
    return torch.from_numpy(np.asarray(y)), torch.from_numpy(np.asarray(derivative))


def activation_mp(x: Tensor, kind: str, alpha: float) -> tuple[Tensor, Tensor]:
    """f and f' with 40 digits, rounded to float64; finite x only."""
    if x.dtype == torch.float32:
        alpha = float(np.float32(alpha))
    with mpmath.workdps(40):
        pairs = [_MP[kind](mpmath.mpf(v), mpmath.mpf(alpha)) for v in x.flatten().tolist()]
        numbers = torch.tensor([[float(p[0]), float(p[1])] for p in pairs], dtype=torch.float64).reshape(
            -1, 2
        )
    return numbers[:, 0].reshape(x.shape), numbers[:, 1].reshape(x.shape)


Array = np.ndarray
Pair64 = tuple[Array, Array]
_FLOAT64: dict[str, Callable[[Array, float], Pair64]] = {
    "relu": lambda x, a: (np.maximum(x, 0), np.where(np.isnan(x), x, x > 0)),
    "leaky_relu": lambda x, a: (np.where(x > 0, x, a * x), np.where(np.isnan(x), x, np.where(x > 0, 1, a))),
    "tanh": lambda x, a: (np.tanh(x), 4 * special.expit(2 * x) * special.expit(-2 * x)),
    "sigmoid": lambda x, a: (special.expit(x), special.expit(x) * special.expit(-x)),
    "silu": lambda x, a: (x * special.expit(x), special.expit(x) * (1 + x * special.expit(-x))),
    "gelu": lambda x, a: (x * special.ndtr(x), special.ndtr(x) + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),
    "softplus": lambda x, a: (np.logaddexp(0, a * x) / a, special.expit(a * x)),
    "elu": lambda x, a: (
        np.where(x > 0, x, a * np.expm1(np.minimum(x, 0))),
        np.where(x > 0, 1, a * np.exp(np.minimum(x, 0))),
    ),
}


def _logistic(x: mpmath.mpf) -> mpmath.mpf:
    return 1 / (1 + mpmath.exp(-x))


Pair = tuple[mpmath.mpf, mpmath.mpf]
_MP: dict[str, Callable[[mpmath.mpf, mpmath.mpf], Pair]] = {
    "relu": lambda x, a: (x, 1) if x > 0 else (0, 0),
    "leaky_relu": lambda x, a: (x, 1) if x > 0 else (a * x, a),
    "tanh": lambda x, a: (mpmath.tanh(x), mpmath.sech(x) ** 2),
    "sigmoid": lambda x, a: (_logistic(x), _logistic(x) * _logistic(-x)),
    "silu": lambda x, a: (x * _logistic(x), _logistic(x) * (1 + x * _logistic(-x))),
    "gelu": lambda x, a: (x * mpmath.ncdf(x), mpmath.ncdf(x) + x * mpmath.npdf(x)),
    "softplus": lambda x, a: (mpmath.log1p(mpmath.exp(a * x)) / a, _logistic(a * x)),
    "elu": lambda x, a: (x, 1) if x > 0 else (a * mpmath.expm1(x), a * mpmath.exp(x)),
}
