"""Formulas for the product of the horseshoe density and a normal slab, such as its normalizer and its variance.

The functions depend on the ratio r = scale / slab; r = 0 means no slab.

A slab of width c multiplies the horseshoe's density by exp(-z^2 / 2 c^2), and therefore the density of the local scale
by 1 / sqrt(1 + r^2 lambda^2) (Nishimura and Suchard, 2022, arXiv:1911.02160). Under it the shrunk scale
t = lambda / sqrt(1 + r^2 lambda^2), in (0, 1/r), has density proportional to 1 / (1 + (1 - r^2) t^2), because
d lambda / ((1 + lambda^2) sqrt(1 + r^2 lambda^2)) = dt / (1 + (1 - r^2) t^2). All functions below follow from this
density. They use the inverse tangent for r < 1, the inverse hyperbolic sine for r > 1, and around r = 1 the power
series that both share.
"""

import math

import jax.numpy as jnp

_TERMS = 20
_ARC = [(-1) ** k / (2 * k + 1) for k in range(_TERMS)]  # atan(sqrt x) / sqrt x
_TAN = [1.0]  # tan(sqrt x) / sqrt x, from tan' = 1 + tan^2
for _k in range(1, _TERMS):
    _TAN.append(sum(_TAN[i] * _TAN[_k - 1 - i] for i in range(_k)) / (2 * _k + 1))


def slab_ratio(scale, slab):
    """r = scale / slab. For an infinite slab r is 0 and has no gradient in `slab`.

    >>> float(slab_ratio(jnp.array(1.0), jnp.array(2.0))), float(slab_ratio(jnp.array(1.0), jnp.array(jnp.inf)))
    (0.5, 0.0)
    """
    finite = jnp.isfinite(slab)
    return jnp.where(finite, scale / jnp.where(finite, slab, 1), 0)


def _series(coefficients, x):
    total = jnp.zeros_like(x)
    for coefficient in reversed(coefficients):
        total = total * x + coefficient
    return total


def _branches(r):
    """(1 - r^2, r near 1, r < 1, sqrt |1 - r^2|). Near 1, where the series is used, the root is replaced by 1."""
    delta = (1 - r) * (1 + r)
    near = jnp.abs(delta) < 0.1
    return delta, near, delta > 0, jnp.sqrt(jnp.where(near, 1, jnp.abs(delta)))


def slab_arc(r):
    """int_0^(1/r) dt / (1 + (1 - r^2) t^2): atan(q / r) / q for r < 1, asinh(q) / q for r > 1; q^2 = |1 - r^2|.

    >>> round(float(slab_arc(0.0)), 5)  # pi / 2
    1.5708
    """
    r = jnp.asarray(r)
    delta, near, below, q = _branches(r)
    by_arc = jnp.atan2(q, jnp.where(below, r, 1)) / q
    by_area = jnp.asinh(jnp.where(below, 1, q)) / q
    one = jnp.where(near, r, 1)
    by_series = _series(_ARC, jnp.where(near, delta, 0) / one**2) / one
    return jnp.where(near, by_series, jnp.where(below, by_arc, by_area))


def log_slab_mass(r):
    """log E exp(-z^2 / 2 c^2) under the horseshoe without a slab: the log normalizer of its product with the slab (nats).

    >>> round(float(log_slab_mass(0.5)), 4)
    -0.2616
    """
    return jnp.log(slab_arc(r) * (2 / math.pi))


def shrunk_scale(local, r):
    """Increasing map of a half-Cauchy `local` >= 0 to the shrunk scale t in (0, 1/r); the identity for r = 0.

    >>> round(float(shrunk_scale(jnp.array(1e6), jnp.array(0.5))), 4)
    2.0
    """
    delta, near, below, q = _branches(r)
    angle = jnp.atan2(local, jnp.ones_like(local))
    share = angle * (2 / math.pi)  # the probability below `local`

    # tan(k angle) / q as a sine over the sine of the complement: neither cancels for small or large scales
    complement = jnp.atan2(jnp.ones_like(local), local) + share * jnp.atan2(jnp.where(below, r, 1), q)
    by_tan = jnp.sin(share * jnp.atan2(q, jnp.where(below, r, 1))) / (q * jnp.sin(complement))
    by_tanh = jnp.tanh(share * jnp.asinh(jnp.where(below, 1, q))) / q
    arc = share * slab_arc(jnp.where(near, r, 1))
    by_series = arc * _series(_TAN, jnp.where(near, delta, 0) * arc**2)
    return jnp.where(near, by_series, jnp.where(below, by_tan, by_tanh))


def shrunk_scale_second_moment(r):
    """E t^2 = (1 / (r arc) - 1) / (1 - r^2): the variance of the horseshoe with a slab, divided by scale^2.

    >>> round(float(shrunk_scale_second_moment(1.0)), 4)
    0.3333
    """
    r = jnp.asarray(r)
    delta, near, _, _ = _branches(r)
    away = (1 / (r * slab_arc(r)) - 1) / jnp.where(near, 1, delta)
    arc = slab_arc(jnp.where(near, r, 1))
    x = jnp.where(near, delta, 0) * arc**2
    return jnp.where(near, arc**2 * _series(_TAN[1:], x), away)
