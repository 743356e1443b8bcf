"""Functions of the normal distribution and the exponential integral, with accurate tails and derivatives.

JAX's `exp1` does not return on arrays with very small elements. Its `erfcx` is exactly 0 in a gap near 9.3 (float32) and
26.6 (float64). Its `log_ndtr` has no usable derivatives in the lower tail. The functions below define their derivatives
as custom rules in terms of each other, so that no derivative is taken through a cancellation.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax.scipy.special import erfc

HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _is_double(x):
    return x.dtype == jnp.float64


# exp(u) E1(u), the exponential integral in the density of the horseshoe


def _e1_below(log_u):
    """(u, exp(u) E1(u)) for small u: E1(u) = -gamma - log u - sum_j (-u)^j / (j j!) (DLMF 6.6.2)."""
    u = jnp.exp(log_u)
    total, power = jnp.zeros_like(u), jnp.ones_like(u)
    for j in range(1, 28 if _is_double(u) else 12):
        power = -power * u / j
        total = total - power / j
    return u, jnp.exp(u) * (total - log_u - jnp.euler_gamma)


def _e1_above(log_u):
    """(r, d, D) for large u: r = 1/u, exp(u) E1(u) = r / (1 + (1 - d) r), the even part of DLMF 6.9.1.

    D = 1 / (1 + 3 r - 4 r^2 / (1 + 5 r - 9 r^2 / ...)) and d = r D. The continued fraction starts from the fixed point
    of its tail.
    """
    r = jnp.exp(-log_u)
    depth = 36 if _is_double(r) else 16
    step = 1 + (2 * depth + 1) * r
    tail = (step + jnp.sqrt(step**2 - 4 * depth**2 * r**2)) / 2
    for n in range(depth, 1, -1):
        tail = 1 + (2 * n - 1) * r - n**2 * r**2 / tail
    return r, r / tail, 1 / tail


def _by_size(log_u, below, above):
    """below(log u) for small u, above(log u) otherwise; each function gets arguments of its own range only."""
    small = log_u < (math.log(2.0) if _is_double(log_u) else 0.0)
    return jnp.where(small, below(jnp.where(small, log_u, 0)), above(jnp.where(small, 1, log_u)))


@jax.custom_jvp
def log_scaled_e1(log_u):
    """h = log(exp(u) E1(u)) at u = exp(log_u), for any real `log_u`; elementwise.

    >>> round(float(log_scaled_e1(0.0)), 4)  # log(e * 0.21938)
    -0.5169
    """

    def below(log_u):
        return jnp.log(_e1_below(log_u)[1])

    def above(log_u):
        r, d, _ = _e1_above(log_u)
        return -log_u - jnp.log1p((1 - d) * r)

    return _by_size(jnp.asarray(log_u), below, above)


@jax.custom_jvp
def scaled_e1_slope(log_u):
    """k = dh / dlog u = u - 1 / (exp(u) E1(u)), between -1 and 0; elementwise.

    >>> round(float(scaled_e1_slope(0.0)), 4)
    -0.6769
    """

    def below(log_u):
        u, scaled = _e1_below(log_u)
        return u - 1 / scaled

    return _by_size(jnp.asarray(log_u), below, lambda log_u: _e1_above(log_u)[1] - 1)


def _scaled_e1_curvature(log_u):
    """dk / dlog u = u (1 + k) - k^2; for large u the product u (1 + k) equals the fraction D."""

    def below(log_u):
        k = scaled_e1_slope(log_u)
        return jnp.exp(log_u) * (1 + k) - k**2

    def above(log_u):
        _, d, fraction = _e1_above(log_u)
        return fraction - (1 - d) ** 2

    return _by_size(jnp.asarray(log_u), below, above)


log_scaled_e1.defjvps(lambda tangent, _, log_u: scaled_e1_slope(log_u) * tangent)
scaled_e1_slope.defjvps(lambda tangent, _, log_u: _scaled_e1_curvature(log_u) * tangent)


# the normal distribution's tail


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def excess_moment(n, alpha):
    """w_n = E[(x - alpha)^n | x > alpha] for x ~ N(0, 1), n >= 1 and `alpha` >= 0; elementwise.

    Small `alpha` use the recurrence w_{n+1} = n w_{n-1} - alpha w_n. It loses digits as alpha grows. Large `alpha` use the
    ratios R_n = w_n / w_{n-1} = n / (alpha + R_{n+1}), Laplace's continued fraction, run backwards from the fixed point
    of its tail.

    >>> round(float(excess_moment(1, 0.0)), 4)  # sqrt(2 / pi)
    0.7979
    """
    alpha = jnp.asarray(alpha)
    switch, depth = (3.0, 46) if _is_double(alpha) else (2.0, 22)
    near = alpha < switch

    a = jnp.where(near, alpha, 0)
    mills = jnp.exp(a**2 / 2) * erfc(a * math.sqrt(0.5)) * math.sqrt(math.pi / 2)
    lower, forward = jnp.ones_like(a), 1 / mills - a
    for m in range(1, n):
        lower, forward = forward, m * lower - a * forward

    a = jnp.where(near, switch, alpha)
    ratio = 2 * (depth + 1) / (a + jnp.sqrt(a**2 + 4 * (depth + 1)))
    backward = jnp.ones_like(a)
    for m in range(depth, 0, -1):
        ratio = m / (a + ratio)
        if m <= n:
            backward = backward * ratio
    return jnp.where(near, forward, backward)


@excess_moment.defjvp
def _excess_moment_jvp(n, primals, tangents):
    (alpha,), (tangent,) = primals, tangents
    w = excess_moment(n, alpha)
    first = w if n == 1 else excess_moment(1, alpha)
    return w, (first * w - excess_moment(n + 1, alpha)) * tangent  # the covariance of -x and (x - alpha)^n


def erfcx(x):
    """exp(x^2) erfc(x) for x >= 0; elementwise.

    >>> round(float(erfcx(0.0)), 6)
    1.0
    """
    alpha = jnp.asarray(x) * math.sqrt(2)
    return math.sqrt(2 / math.pi) / (alpha + excess_moment(1, alpha))


def ndtr(x):
    """P(n <= x) for n ~ N(0, 1), with full relative accuracy in the lower tail; elementwise.

    >>> float(ndtr(0.0))
    0.5
    """
    return erfc(-jnp.asarray(x) * math.sqrt(0.5)) / 2


def log_normal_density(x):
    """log N(x; 0, 1) in nats; elementwise.

    >>> round(log_normal_density(0.0), 4)
    -0.9189
    """
    return -(x**2) / 2 - HALF_LOG_2PI


def _by_sign(x, below, above):
    """below(-x) for x < 0, above(x) otherwise; both functions get arguments >= 0 only."""
    negative = x < 0
    return jnp.where(negative, below(jnp.where(negative, -x, 0)), above(jnp.where(negative, 0, x)))


@jax.custom_jvp
def log_ndtr(x):
    """log P(n <= x) for n ~ N(0, 1), in nats; elementwise.

    >>> round(float(log_ndtr(0.0)), 4)
    -0.6931
    """

    def below(alpha):
        return log_normal_density(alpha) - jnp.log(alpha + excess_moment(1, alpha))

    return _by_sign(jnp.asarray(x), below, lambda x: jnp.log1p(-ndtr(-x)))


@jax.custom_jvp
def inverse_mills(x):
    """Inverse Mills ratio N(x; 0, 1) / P(n <= x), the derivative of `log_ndtr`; elementwise.

    >>> round(float(inverse_mills(0.0)), 4)  # sqrt(2 / pi)
    0.7979
    """

    def above(x):
        return jnp.exp(log_normal_density(x)) / ndtr(x)

    return _by_sign(jnp.asarray(x), lambda alpha: alpha + excess_moment(1, alpha), above)


def _inverse_mills_slope(x):
    def below(alpha):
        gap = excess_moment(1, alpha)
        return -(alpha + gap) * gap

    def above(x):
        mills = inverse_mills(x)
        return -mills * (mills + x)

    return _by_sign(jnp.asarray(x), below, above)


log_ndtr.defjvps(lambda tangent, _, x: inverse_mills(x) * tangent)
inverse_mills.defjvps(lambda tangent, _, x: _inverse_mills_slope(x) * tangent)
