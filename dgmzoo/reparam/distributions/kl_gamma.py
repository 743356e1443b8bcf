"""Registers closed-form KLs of gamma, inverse gamma, exponential, beta, Weibull and log-normal distributions, in nats.

Each is a sum of terms that are small where the KL is small, so that float32 keeps its digits at concentrations of 1e6.
With f(r) = r - 1 - log r and Stirling's rest s, both from `concentrated`, the divergence of two log-gammas is
`log Gamma(c) - log Gamma(a) - (c - a) digamma(a) = c f(a / c) + f(c / a) / 2 + s(c) - s(a) - (c - a) s'(a)`.
"""

import math

import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats
from dgmzoo.reparam.distributions.concentrated import (
    exp_gap,
    log_gamma_divergence,
    log_gamma_excess,
    ratio_gap,
    stirling_rest,
)
from dgmzoo.reparam.distributions.kl import to_half_normal

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def _gamma_kl(a, b, c, d):
    """KL(Gamma(a, rate b) || Gamma(c, rate d)), which is also that of the inverse gammas."""
    a, b, c, d = broadcast_floats(a, b, c, d)
    return c * ratio_gap(a * d, c * b) + log_gamma_divergence(c, a)


@kl_divergence.register(dist.Gamma, dist.Gamma)
def _gamma(p, q):
    return _gamma_kl(p.concentration, p.rate, q.concentration, q.rate)


@kl_divergence.register(dist.InverseGamma, dist.InverseGamma)
def _inverse_gamma(p, q):
    return _gamma_kl(p.concentration, p.rate, q.concentration, q.rate)


@kl_divergence.register(dist.Exponential, dist.Exponential)
def _exponential(p, q):
    a, b = broadcast_floats(p.rate, q.rate)
    return ratio_gap(b, a)


@kl_divergence.register(dist.Exponential, dist.Gamma)
def _exponential_gamma(p, q):
    return _gamma_kl(1.0, p.rate, q.concentration, q.rate)


@kl_divergence.register(dist.Gamma, dist.Exponential)
def _gamma_exponential(p, q):
    return _gamma_kl(p.concentration, p.rate, 1.0, q.rate)


@kl_divergence.register(dist.Gamma, dist.HalfNormal)
def _gamma_half_normal(p, q):
    """By the entropy of p, which is log(2 pi e a) / 2 - log b and a small rest."""
    a, b = broadcast_floats(p.concentration, p.rate)
    rest, slope = stirling_rest(a)
    entropy = jnp.log(a) / 2 - jnp.log(b) + (_HALF_LOG_2PI + 0.5) - 0.5 / a + rest + (1 - a) * slope
    return to_half_normal(entropy, a * (a + 1) / b**2, q)


@kl_divergence.register(dist.Beta, dist.Beta)
def _beta(p, q):
    """KL(Beta(a, b) || Beta(c, d)): the divergences of log-gammas at a and b less that at their sum."""
    a, b, c, d = broadcast_floats(p.concentration1, p.concentration0, q.concentration1, q.concentration0)
    m, n = c + d, a + b
    shift = a * d - c * b  # 0 if the means are equal
    means = c * ratio_gap(a * m, c * n, shift) + d * ratio_gap(b * m, d * n, -shift)
    return means + log_gamma_divergence(c, a) + log_gamma_divergence(d, b) - log_gamma_divergence(m, n)


@kl_divergence.register(dist.Weibull, dist.Gamma)
def _weibull_gamma(p, q):
    k, scale, c, d = broadcast_floats(p.concentration, p.scale, q.concentration, q.rate)
    excess = log_gamma_excess(1 / k)  # log Gamma(1 + 1/k) + gamma / k, where -gamma / k is E log(z / scale)
    log_ratio = jnp.log(scale) + jnp.log(d) - jnp.log(c) + excess - jnp.euler_gamma / k  # of the means
    rest, _ = stirling_rest(c)
    return (
        c * (exp_gap(log_ratio) + excess) + rest + jnp.log(k) - jnp.log(c) / 2 + (_HALF_LOG_2PI - jnp.euler_gamma - 1)
    )


def _log_normal_gamma_kl(m, s, c, d):
    """KL(LogNormal(m, s^2) || Gamma(c, rate d)). Source: Louizos et al. 2017 (arXiv:1705.08665), appendix A."""
    m, s, c, d = broadcast_floats(m, s, c, d)
    log_ratio = m + s**2 / 2 + jnp.log(d) - jnp.log(c)  # of the means
    rest, _ = stirling_rest(c)
    return c * exp_gap(log_ratio) + ratio_gap(c * s**2, jnp.ones_like(c)) / 2 + rest


@kl_divergence.register(dist.LogNormal, dist.Gamma)
def _log_normal_gamma(p, q):
    return _log_normal_gamma_kl(p.loc, p.scale, q.concentration, q.rate)


@kl_divergence.register(dist.LogNormal, dist.InverseGamma)
def _log_normal_inverse_gamma(p, q):
    return _log_normal_gamma_kl(-jnp.asarray(p.loc), p.scale, q.concentration, q.rate)


@kl_divergence.register(dist.LogNormal, dist.Exponential)
def _log_normal_exponential(p, q):
    return _log_normal_gamma_kl(p.loc, p.scale, 1.0, q.rate)
