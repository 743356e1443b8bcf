"""`closed_kl`: the closed-form KL divergence of two distributions, also for pairs that NumPyro itself lacks.

Importing this module registers them with `numpyro.distributions.kl_divergence(p, q)` = E_p[log p - log q]. Each returns
the divergence per element of the broadcast batch shape. Pairs that NumPyro has are replaced only where its form loses
float32 (in `kl_gamma`, with the other pairs of gamma distributions). The formulas follow from the definition and are
tested against quadrature or summation.
"""

import inspect
import itertools
import math

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax import lax
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import digamma, gammaln, i0e
from numpyro.distributions.discrete import BernoulliLogits, BernoulliProbs
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats
from dgmzoo.reparam.distributions.concentrated import bessel_gap, ratio_gap
from dgmzoo.reparam.ops import relaxed_promotion

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


# The closed forms of NumPyro that equal quadrature over the range of parameters that `families` gives. Its
# KL(Kumaraswamy || Beta) does not: it is a series cut after ten terms. Those for its gamma, beta and Weibull distributions
# cancel in float32, so `kl_gamma` replaces them.
_FROM_NUMPYRO = ((dist.Normal, dist.Normal),)


def closed_kl(q: dist.Distribution, p: dist.Distribution) -> jax.Array | None:
    """KL(q || p) per element of the batch shape, in nats; None if there is no closed form that is known to be right.

    A closed form belongs to the class it is registered for. It is not used for a subclass with a density of its own, nor
    if NumPyro registered it and it has not been checked against quadrature.

    >>> float(closed_kl(dist.Normal(1.0, 1.0), dist.Normal(0.0, 1.0)))
    0.5
    >>> closed_kl(dist.Kumaraswamy(1.0, 1.0), dist.Beta(2.0, 2.0)) is None
    True
    """
    rule = kl_divergence.dispatch(type(q), type(p))
    if rule is None:
        return None
    signature = _signature(rule, type(q), type(p))
    if rule.__module__ == numpyro.distributions.kl.__name__ and signature not in _FROM_NUMPYRO:
        return None
    if any(_density(type(d)) is not _density(family) for d, family in zip((q, p), signature, strict=True)):
        return None
    with relaxed_promotion():
        return kl_divergence(q, p)


def _signature(rule, *families):
    """The pair of classes, those of `families` or their bases, for which the rule is registered."""
    return next(
        pair for pair in itertools.product(*(f.__mro__ for f in families)) if kl_divergence.funcs.get(pair) is rule
    )


def _density(family):
    """The function that computes log-densities of a class."""
    return inspect.unwrap(family.log_prob)


def _log(probability):
    """log p with gradient 0 instead of infinity at p = 0, where every use below multiplies it by p."""
    return jnp.where(probability > 0, jnp.log(jnp.where(probability > 0, probability, 1)), -jnp.inf)


def _relative_entropy(weight, log_weight, log_other):
    """weight (log weight - log other), elementwise; 0 if the weight is 0."""
    nonzero = weight > 0
    difference = jnp.where(nonzero, log_weight, 0) - jnp.where(nonzero, log_other, 0)
    return jnp.where(nonzero, weight * difference, 0)


def _bernoulli_logs(d):
    """(log P(1), log P(0)), without rounding a probability to 1 if the parameter is a logit."""
    if isinstance(d, BernoulliLogits):
        (logits,) = broadcast_floats(d.logits)
        return log_sigmoid(logits), log_sigmoid(-logits)
    (probs,) = broadcast_floats(d.probs)
    return _log(probs), _log(1 - probs)


def _bernoulli(p, q):
    on_p, off_p, on_q, off_q = broadcast_floats(*_bernoulli_logs(p), *_bernoulli_logs(q))
    if isinstance(p, BernoulliLogits):
        on, off = sigmoid(p.logits), sigmoid(-p.logits)
    else:
        on, off = p.probs, 1 - jnp.asarray(p.probs)
    on, off, _ = broadcast_floats(on, off, on_p)
    return _relative_entropy(on, on_p, on_q) + _relative_entropy(off, off_p, off_q)


for _p in (BernoulliLogits, BernoulliProbs):
    for _q in (BernoulliLogits, BernoulliProbs):
        kl_divergence.add((_p, _q), _bernoulli)


@kl_divergence.register(dist.Poisson, dist.Poisson)
def _poisson(p, q):
    a, b = broadcast_floats(p.rate, q.rate)
    is_positive = (a > 0) & (b > 0)
    x, y = jnp.where(is_positive, a, 1), jnp.where(is_positive, b, 1)
    impossible = jnp.where(a > 0, jnp.inf, b)  # a count above 0 under the rate 0, or a rate of 0 itself
    return jnp.where(is_positive, x * ratio_gap(y, x), impossible)


@kl_divergence.register(dist.Laplace, dist.Laplace)
def _laplace(p, q):
    m, s, n, t = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    distance = jnp.abs(m - n)
    return jnp.log(t) - jnp.log(s) + distance / t + s / t * jnp.exp(-distance / s) - 1


@kl_divergence.register(dist.Laplace, dist.Normal)
def _laplace_normal(p, q):
    m, b, n, s = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    second = ((m - n) / s) ** 2 + 2 * (b / s) ** 2  # E ((z - n) / s)^2
    return jnp.log(s) - jnp.log(b) + (_HALF_LOG_2PI - math.log(2) - 1) + second / 2


@kl_divergence.register(dist.Normal, dist.Laplace)
def _normal_laplace(p, q):
    m, s, n, b = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    d = (m - n) / s
    distance = math.sqrt(2 / math.pi) * jnp.exp(-(d**2) / 2) + d * lax.erf(d * math.sqrt(0.5))  # E |z - n| / s
    return jnp.log(b) - jnp.log(s) + (math.log(2) - _HALF_LOG_2PI - 0.5) + s / b * distance


@kl_divergence.register(dist.Cauchy, dist.Cauchy)
def _cauchy(p, q):
    """Source: Chyzak and Nielsen 2019 (arXiv:1905.10965), theorem 1."""
    m, s, n, t = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    return jnp.log1p((((m - n) / s) ** 2 + (1 - t / s) ** 2) / (4 * t / s))


@kl_divergence.register(dist.HalfCauchy, dist.HalfCauchy)
def _half_cauchy(p, q):
    """Equal to the KL of Cauchy distributions about 0, since both are folded at 0."""
    s, t = broadcast_floats(p.scale, q.scale)
    return jnp.log1p(jnp.square(1 - t / s) / (4 * t / s))


@kl_divergence.register(dist.Gumbel, dist.Gumbel)
def _gumbel(p, q):
    m, s, n, t = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    ratio = s / t
    moment = jnp.exp((n - m) / t + gammaln(1 + ratio))  # E exp(-(z - n) / t)
    return -jnp.log(ratio) + jnp.euler_gamma * (ratio - 1) + (m - n) / t + moment - 1


@kl_divergence.register(dist.HalfNormal, dist.HalfNormal)
def _half_normal(p, q):
    s, t = broadcast_floats(p.scale, q.scale)
    return jnp.log(t) - jnp.log(s) + (s / t - 1) * (s / t + 1) / 2


@kl_divergence.register(dist.LogNormal, dist.LogNormal)
def _log_normal(p, q):
    m, s, n, t = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    return jnp.log(t) - jnp.log(s) + ((s / t - 1) * (s / t + 1) + ((m - n) / t) ** 2) / 2


def _to_normal(entropy, mean, variance, q):
    """KL from a distribution with the given entropy, mean and variance to the normal q."""
    entropy, mean, variance, n, s = broadcast_floats(entropy, mean, variance, q.loc, q.scale)
    return _HALF_LOG_2PI + jnp.log(s) - entropy + (variance + (mean - n) ** 2) / (2 * s**2)


def _half_steps(w):
    """`log Gamma(w + 1/2) - log Gamma(w)` and its derivative. Large w use the series of DLMF 5.11 to avoid cancellation."""
    large = w > 30
    u = 1 / jnp.where(large, w, 30)
    step = -jnp.log(u) / 2 - u / 8 + u**3 / 192 - u**5 / 640
    slope = u / 2 + u**2 / 8 - u**4 / 64 + u**6 / 128
    w = jnp.where(large, 1, w)
    return (
        jnp.where(large, step, gammaln(w + 0.5) - gammaln(w)),
        jnp.where(large, slope, digamma(w + 0.5) - digamma(w)),
    )


@kl_divergence.register(dist.StudentT, dist.Normal)
def _student_t_normal(p, q):
    """KL, infinite up to 2 degrees of freedom, where the Student t has no variance."""
    v, m, s = broadcast_floats(p.df, p.loc, p.scale)
    step, slope = _half_steps(v / 2)
    entropy = jnp.log(s) + (v + 1) / 2 * slope + jnp.log(v) / 2 + gammaln(0.5) - step
    wide = v > 2
    variance = s**2 * v / jnp.where(wide, v - 2, 1)
    return jnp.where(wide, _to_normal(entropy, m, variance, q), jnp.inf)


@kl_divergence.register(dist.Logistic, dist.Normal)
def _logistic_normal(p, q):
    m, s = broadcast_floats(p.loc, p.scale)
    return _to_normal(jnp.log(s) + 2, m, (math.pi * s) ** 2 / 3, q)


@kl_divergence.register(dist.Gumbel, dist.Normal)
def _gumbel_normal(p, q):
    m, s = broadcast_floats(p.loc, p.scale)
    return _to_normal(jnp.log(s) + jnp.euler_gamma + 1, m + jnp.euler_gamma * s, (math.pi * s) ** 2 / 6, q)


def to_half_normal(entropy, square, q):
    """KL from a distribution of positive numbers with the given entropy and mean square to the half-normal q."""
    entropy, square, s = broadcast_floats(entropy, square, q.scale)
    return jnp.log(s) + 0.5 * math.log(math.pi / 2) - entropy + square / (2 * s**2)


@kl_divergence.register(dist.Exponential, dist.HalfNormal)
def _exponential_half_normal(p, q):
    (a,) = broadcast_floats(p.rate)
    return to_half_normal(1 - jnp.log(a), 2 / a**2, q)


@kl_divergence.register(dist.LogNormal, dist.HalfNormal)
def _log_normal_half_normal(p, q):
    m, s = broadcast_floats(p.loc, p.scale)
    return to_half_normal(m + jnp.log(s) + (_HALF_LOG_2PI + 0.5), jnp.exp(2 * m + 2 * s**2), q)


@kl_divergence.register(dist.HalfNormal, dist.Exponential)
def _half_normal_exponential(p, q):
    s, b = broadcast_floats(p.scale, q.rate)
    return math.sqrt(2 / math.pi) * b * s - jnp.log(b * s) + (0.5 * math.log(2 / math.pi) - 0.5)


@kl_divergence.register(dist.VonMises, dist.VonMises)
def _von_mises(p, q):
    m, k, n, c = broadcast_floats(p.loc, p.concentration, q.loc, q.concentration)
    gap = bessel_gap(k)  # 1 - E cos(z - m)
    bend = 2 * jnp.square(jnp.sin((m - n) / 2))  # 1 - cos(m - n)
    return jnp.log(i0e(c)) - jnp.log(i0e(k)) + (c - k) * gap + c * (1 - gap) * bend
