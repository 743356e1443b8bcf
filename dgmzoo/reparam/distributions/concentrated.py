"""Terms of KLs that do not cancel at large concentrations: `ratio_gap`, `exp_gap`, `log_gamma_divergence`, `bessel_gap` and others.

The textbook forms of the KLs of gamma, beta, Weibull and von Mises distributions are differences of numbers as large as
the concentration, of which float32 keeps seven digits. The functions below are small where the KL is small.
"""

import math

import jax.numpy as jnp
from jax.scipy.special import digamma, gammaln, i0e, i1e

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)
# B_2k / (2k (2k - 1)), the coefficients of x^(1 - 2k) in Stirling's series (DLMF 5.11.1)
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188, -691 / 360360, 1 / 156, -3617 / 122400)
_STIRLING_FROM = 10.0  # from here the first term that is left out is below 2e-17
# coefficients of k^-1, k^-2, ... in 1 - I1(k) / I0(k) for large k (from DLMF 10.40.1)
_BESSEL = (1 / 2, 1 / 8, 1 / 8, 25 / 128, 13 / 32, 1073 / 1024)
_ZETA_TERMS = 48  # of the series of log Gamma(1 + x) for x up to 1/2


def ratio_gap(x, y, difference=None):
    """f(x / y) = x / y - 1 - log(x / y) for x, y > 0, at least 0 and 0 where they are equal; elementwise.

    With u = x / y - 1 near 0 it is `v (u - 2 v^2 (1/3 + v^2/5 + ...))`, `v = u / (2 + u)`, from log(1 + u) = 2 artanh(v).

    Args:
      difference: x - y, if it is known more exactly than from x and y.

    >>> round(float(ratio_gap(1.0001, 1.0, 1e-4)) * 2e8, 3)
    1.0
    """
    x, y, difference = jnp.broadcast_arrays(x, y, x - y if difference is None else difference)
    u = difference / y
    near = jnp.abs(u) < 0.5
    far = jnp.where(near, 1, x) / jnp.where(near, 1, y)
    far = far - 1 - (jnp.log(jnp.where(near, 1, x)) - jnp.log(jnp.where(near, 1, y)))
    return jnp.where(near, _gap_to_log(jnp.where(near, u, 0)), far)


def _gap_to_log(u):
    """u - log(1 + u) for |u| <= 1/2."""
    v = u / (2 + u)
    series = jnp.zeros_like(v)
    for n in range(16 if u.dtype == jnp.float64 else 7, -1, -1):
        series = 1 / (2 * n + 3) + jnp.square(v) * series
    return v * (u - 2 * jnp.square(v) * series)


def exp_gap(x):
    """exp(x) - 1 - x, at least 0; elementwise.

    >>> round(float(exp_gap(1e-4)) * 2e8, 3)
    1.0
    """
    x = jnp.asarray(x)
    near = jnp.abs(x) < 0.5
    small, large = jnp.where(near, x, 0), jnp.where(near, 1, x)
    series = jnp.zeros_like(small)
    for n in range(18 if x.dtype == jnp.float64 else 9, 1, -1):
        series = (1 + small * series) / n  # 1/2 (1 + x/3 (1 + x/4 (...)))
    return jnp.where(near, jnp.square(small) * series, jnp.expm1(large) - large)


def stirling_rest(x):
    """s(x) = log Gamma(x) - [(x - 1/2) log x - x + log(2 pi) / 2] and s'(x), for x > 0; elementwise.

    >>> [round(float(term), 7) for term in stirling_rest(10.0)]  # 1 / 120 and -1 / 1200, roughly
    [0.0083306, -0.0008325]
    """
    x = jnp.asarray(x)
    is_large = x >= _STIRLING_FROM
    inverse = 1 / jnp.where(is_large, x, _STIRLING_FROM)
    rest, slope = jnp.zeros_like(inverse), jnp.zeros_like(inverse)
    for n in range(len(_STIRLING) - 1, -1, -1):
        rest = _STIRLING[n] + jnp.square(inverse) * rest
        slope = -(2 * n + 1) * _STIRLING[n] + jnp.square(inverse) * slope
    small = jnp.where(is_large, 1, x)
    direct = gammaln(small) - ((small - 0.5) * jnp.log(small) - small + _HALF_LOG_2PI)
    direct_slope = digamma(small) - jnp.log(small) + 0.5 / small
    return (
        jnp.where(is_large, rest * inverse, direct),
        jnp.where(is_large, slope * jnp.square(inverse), direct_slope),
    )


def log_gamma_excess(x):
    """log Gamma(1 + x) + gamma x for x >= 0, with gamma Euler's constant; elementwise, at least 0.

    Below 1/2 it is the series of zeta(n) (-x)^n / n from n = 2 (DLMF 5.7.3), with zeta(n) - 1 and 1 summed apart.

    >>> round(float(log_gamma_excess(1e-3)) * 2e6 / (math.pi**2 / 6), 2)
    1.0
    """
    x = jnp.asarray(x)
    is_small = x < 0.5
    small, large = jnp.where(is_small, x, 0), jnp.where(is_small, 1, x)
    series = jnp.zeros_like(small)
    for n in range(_ZETA_TERMS if x.dtype == jnp.float64 else 20, 1, -1):
        series = (-1) ** n * (_zeta(n) - 1) / n + small * series
    near = _gap_to_log(small) + jnp.square(small) * series
    return jnp.where(is_small, near, gammaln(1 + large) + jnp.euler_gamma * large)


def bessel_gap(k):
    """1 - I1(k) / I0(k) for k >= 0, which falls like 1 / (2 k); elementwise.

    >>> round(float(bessel_gap(1e4)) * 2e4, 4)
    1.0
    """
    k = jnp.asarray(k)
    start = 300.0 if k.dtype == jnp.float64 else 30.0
    is_large = k > start
    inverse = 1 / jnp.where(is_large, k, start)
    series = jnp.zeros_like(inverse)
    for coefficient in reversed(_BESSEL):
        series = (series + coefficient) * inverse
    small = jnp.where(is_large, 1, k)
    return jnp.where(is_large, series, 1 - i1e(small) / i0e(small))


def _zeta(n: int) -> float:
    """Riemann's zeta at n >= 2, by the first terms and the Euler-Maclaurin rest."""
    last = 20
    head = sum(k**-n for k in range(1, last))
    rest = last ** (1 - n) / (n - 1) + last**-n / 2 + n * last ** (-n - 1) / 12
    return head + rest - n * (n + 1) * (n + 2) * last ** (-n - 3) / 720


def log_gamma_divergence(c, a):
    """log Gamma(c) - log Gamma(a) - (c - a) digamma(a) without its part `c (log(c / a) - 1 + a / c)`; elementwise.

    >>> round(float(log_gamma_divergence(4.0, 2.0)), 4)  # log 6 - 2 digamma(2) - 4 (log 2 - 1 / 2)
    0.1736
    """
    (rest_c, _), (rest_a, slope_a) = stirling_rest(c), stirling_rest(a)
    return ratio_gap(c, a) / 2 + rest_c - rest_a - (c - a) * slope_a
