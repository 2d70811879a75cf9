"""Prints the polynomial coefficients of cpu_math.h: near-minimax Chebyshev fits, made with mpmath.

    python csrc/kernels/fit_polynomials.py

Each fit is of a smooth remainder, so that the leading term of the function is exact and a relative
error of the fit is a (smaller) relative error of the function.
"""

from collections.abc import Callable

from mpmath import chebyfit, erfc, exp, log, mp, mpf, polyval, sqrt, taylor

mp.dps = 50


def exp_rest(r: mpf) -> mpf:
    """(exp(r) - 1 - r) / r^2 for |r| <= ln(2) / 2."""
    return (exp(r) - 1 - r) / r**2 if abs(r) > 1e-10 else polyval(taylor(exp, 0, 6)[:1:-1], r)


def log_rest(y: mpf) -> mpf:
    """(atanh(s) / s - 1) / s^2 with y = s^2; log1p(x) = 2 atanh(x / (2 + x)), so y <= 1/9."""
    if y < mpf(10) ** -20:
        return mpf(1) / 3 + y / 5
    s = sqrt(y)
    return (log((1 + s) / (1 - s)) / (2 * s) - 1) / y


def tail_rest(u: mpf) -> mpf:
    """Phi(-a) exp(a^2 / 2) / t at t = u + 1/2, where t = 1 / (1 + a / sqrt(8)) runs over (0, 1]."""
    t = u + mpf(1) / 2
    if t < mpf(10) ** -12:
        return 1 / (2 * sqrt(mp.pi))
    z = (1 / t - 1) * 2
    return exp(z * z) * erfc(z) / (2 * t)


def show(
    name: str, function: Callable[[mpf], mpf], interval: tuple[mpf, mpf], terms: int, digits: int
) -> None:
    coefficients, error = chebyfit(function, interval, terms, error=True)
    low = min(abs(function(mpf(interval[0]))), abs(function(mpf(interval[1]))))
    print(f"// {name}: relative error of the fit {float(error / low):.1e}")
    print(", ".join(mp.nstr(c, digits) for c in reversed(coefficients)), end="\n\n")


for precision, digits, sizes in (("float", 9, (6, 5, 12)), ("double", 17, (11, 11, 27))):
    half_ln2 = log(mpf(2)) / 2
    show(f"{precision} exp", exp_rest, (-half_ln2, half_ln2), sizes[0], digits)
    show(f"{precision} log1p", log_rest, (mpf(0), mpf(1) / 9), sizes[1], digits)
    show(f"{precision} tail", tail_rest, (mpf(-1) / 2, mpf(1) / 2), sizes[2], digits)
