"""Philox 4x32-10, uniform and normal numbers in plain NumPy, bit for bit.

Written from the paper (Salmon et al., SC 2011) and the definition of the streams, not from csrc/.
"""

import numpy as np
from numpy.typing import NDArray

U32 = NDArray[np.uint32]
F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

TAGS = {  # third counter word
    "gaussian": 0,
    "uniform32": 1,
    "uniform64": 2,
    "draw_leading": 3,
    "draw_rest": 4,
}


def philox_4x32_10(counter: U32, key: tuple[int, int]) -> U32:
    """counter [n, 4] -> words [n, 4]."""
    c = [counter[:, i].astype(np.uint64) for i in range(4)]
    k0, k1 = key
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        a = np.uint64(0xD2511F53) * c[0]
        b = np.uint64(0xCD9E8D57) * c[2]
        c = [
            (b >> np.uint64(32)) ^ c[1] ^ np.uint64(k0),
            b & low,
            (a >> np.uint64(32)) ^ c[3] ^ np.uint64(k1),
            a & low,
        ]
        k0 = (k0 + 0x9E3779B9) & 0xFFFFFFFF
        k1 = (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack(c, axis=1).astype(np.uint32)


def words(tag: str, seed: int, first: int, count: int) -> U32:
    """Philox words [count, 4] of counters first .. first + count."""
    index = [first + i for i in range(count)]
    counter = np.array([(i & 0xFFFFFFFF, i >> 32, TAGS[tag], 0) for i in index], dtype=np.uint32).reshape(
        -1, 4
    )
    return philox_4x32_10(counter, (seed & 0xFFFFFFFF, seed >> 32))


def uniform32_ref(seed: int, offset: int, count: int) -> F32:
    w = words("uniform32", seed, offset // 4, count // 4 + 2).ravel()
    return (((w >> 9) + 0.5) / 2**23).astype(np.float32)[offset % 4 :][:count]


def uniform64_ref(seed: int, offset: int, count: int) -> F64:
    w = words("uniform64", seed, offset // 2, count // 2 + 2).astype(np.uint64).reshape(-1, 2)
    k = ((w[:, 0] << np.uint64(32)) | w[:, 1]) >> np.uint64(12)
    return ((k.astype(np.float64) + 0.5) / 2**52)[offset % 2 :][:count]


def draw_words_ref(seed: int, offset: int, count: int) -> NDArray[np.uint64]:
    """The 64 random bits of every row: 8 from a counter it shares with 15 others, 56 from its own."""
    place = np.arange(offset % 256, offset % 256 + count)
    line, row = np.divmod(place, 256)
    first = offset // 256 * 16
    shared = words("draw_leading", seed, first, 16 * (int(line.max(initial=0)) + 1))
    leading = shared.astype("<u4").view(np.uint8)[16 * line + row % 16, row // 16].astype(np.uint64)
    own = words("draw_rest", seed, offset, count).astype(np.uint64)
    return (leading << np.uint64(56)) | ((own[:, 0] >> np.uint64(8)) << np.uint64(32)) | own[:, 1]


def gaussian_words(seed: int, offset: int, count: int) -> tuple[U32, U32]:
    """(radius word, angle word) of every number; the parity of its index says which of the pair it is."""
    w = words("gaussian", seed, offset // 4, count // 4 + 2).reshape(-1, 2)
    pairs = np.repeat(w, 2, axis=0)[offset % 4 :][:count]
    return pairs[:, 0], pairs[:, 1]


def box_muller_exact(radius: U32, angle: U32, sine: NDArray[np.bool_]) -> F64:
    """Box-Muller in float64 on the float32 uniform number that the stream defines."""
    u = radius_uniform(radius).astype(np.float64)
    turn = angle.astype(np.float64) / 2**32
    # Exact quadrant reduction: numpy's sine of 2 pi turn alone is off by 1e-16 of a turn, which is
    # many units in the last place beside a zero.
    quadrant = np.round(turn * 4)
    x = 2 * np.pi * (turn - quadrant / 4)
    s, c = np.sin(x), np.cos(x)
    q = quadrant.astype(np.int64) % 4
    cosine = np.choose(q, [c, -s, -c, s])
    sines = np.choose(q, [s, c, -s, -c])
    return np.sqrt(-2 * np.log(u)) * np.where(sine, sines, cosine)


def fma(a: F32, b: F32 | float, c: F32 | float) -> F32:
    """Correctly rounded float32 a b + c: an exact double product, then a sum rounded to odd."""
    product = a.astype(np.float64) * np.float64(np.float32(b) if np.isscalar(b) else b)
    addend = np.asarray(c, dtype=np.float32).astype(np.float64)
    total = product + addend
    rest = total - product
    error = (product - (total - rest)) + (addend - rest)
    bits = np.ascontiguousarray(total).view(np.int64)
    even = (bits & 1) == 0
    away = (error > 0) == (total > 0)
    odd = np.where((error != 0) & even, np.where(away, bits + 1, bits - 1), bits)
    return odd.view(np.float64).astype(np.float32)


def radius_uniform(word: U32) -> F32:
    """(k + 1/2) / 2^32, rounded to float32 twice: k first, as hardware converts it."""
    return fma(word.astype(np.float32), 2.0**-32, 2.0**-33)


_LOG = [
    0.0697161147145, -0.114797338466, 0.116854199235, -0.124256873315, 0.142490576457,
    -0.166678023195, 0.200007157489, -0.24999996958, 0.3333333118,
]  # fmt: skip
_SIN = [2.72499258031e-6, -0.000198400867354, 0.00833333187471, -0.166666666639]
_COS = [-2.73009592039e-7, 2.48006003772e-5, -0.0013888887672, 0.0416666666643]


def _horner(coefficients: list[float], x: F32) -> F32:
    p = np.full_like(x, np.float32(coefficients[0]))
    for c in coefficients[1:]:
        p = fma(p, x, np.float32(c))
    return p


def gaussian_ref(seed: int, offset: int, count: int) -> F32:
    """The stream's definition (polynomial log, sine and cosine) in float32 with explicit fma."""
    radius, angle = gaussian_words(seed, offset, count)
    one, half = np.float32(1), np.float32(0.5)

    bits = radius_uniform(radius).view(np.int32)
    exponent = (bits - np.int32(0x3F3504F3)) >> 23
    f = (bits - (exponent << 23)).view(np.float32) - one
    f2 = f * f
    tail = fma(f2 * f, _horner(_LOG, f), f2 * -half)
    e = exponent.astype(np.float32)
    log = fma(e, np.float32(0.693359375), f + fma(e, np.float32(-2.12194440e-4), tail))
    r = np.sqrt(np.float32(-2) * log + np.float32(0))

    shifted = angle + np.uint32(0x20000000)
    quadrant = shifted >> 30
    x = ((shifted & np.uint32(0x3FFFFFFF)).astype(np.int32) - np.int32(0x20000000)).astype(np.float32)
    x = x * np.float32(1.46291807927e-9)
    y = x * x
    s = fma(x * y, _horner(_SIN, y), x)
    c = fma(y * y, _horner(_COS, y), fma(y, -half, np.broadcast_to(one, y.shape)))
    swap = (quadrant & 1) == 1
    cosine = np.where(swap, s, c) * np.where((quadrant == 1) | (quadrant == 2), -one, one)
    sine = np.where(swap, c, s) * np.where(quadrant >= 2, -one, one)
    parity = (np.arange(count) + offset) % 2 == 1
    return np.asarray(r * np.where(parity, sine, cosine), dtype=np.float32)
