"""`closed_kl`: the closed-form KL divergence of two distributions, also for pairs that NumPyro itself lacks.

Importing this module registers them with `numpyro.distributions.kl_divergence(p, q)` = E_p[log p - log q]. Each returns
the divergence per element of the broadcast batch shape. Pairs that NumPyro has are not replaced. The formulas follow
from the definition and are tested against quadrature or summation.
"""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import lax
from jax.nn import log_sigmoid, sigmoid
from jax.scipy.special import digamma, gammaln, i0e, i1e
from numpyro.distributions.discrete import BernoulliLogits, BernoulliProbs
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats
from dgmzoo.reparam.ops import relaxed_promotion

_HALF_LOG_2PI = 0.5 * math.log(2 * math.pi)


def closed_kl(q: dist.Distribution, p: dist.Distribution) -> jax.Array | None:
    """KL(q || p) per element of the batch shape, in nats; None if no closed form is registered.

    >>> float(closed_kl(dist.Normal(1.0, 1.0), dist.Normal(0.0, 1.0)))
    0.5
    """
    try:
        with relaxed_promotion():
            return kl_divergence(q, p)
    except NotImplementedError:
        return None


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
    return _relative_entropy(a, _log(a), _log(b)) + b - a


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


def _gamma_kl(a, b, c, d):
    """KL(Gamma(a, rate b) || Gamma(c, rate d)), which is also that of the inverse gammas."""
    a, b, c, d = broadcast_floats(a, b, c, d)
    ratio = d / b
    return (a - c) * digamma(a) - gammaln(a) + gammaln(c) - c * jnp.log(ratio) + a * (ratio - 1)


@kl_divergence.register(dist.InverseGamma, dist.InverseGamma)
def _inverse_gamma(p, q):
    return _gamma_kl(p.concentration, p.rate, q.concentration, q.rate)


@kl_divergence.register(dist.Exponential, dist.Exponential)
def _exponential(p, q):
    a, b = broadcast_floats(p.rate, q.rate)
    return jnp.log(a) - jnp.log(b) + b / a - 1


@kl_divergence.register(dist.Exponential, dist.Gamma)
def _exponential_gamma(p, q):
    return _gamma_kl(1.0, p.rate, q.concentration, q.rate)


@kl_divergence.register(dist.Gamma, dist.Exponential)
def _gamma_exponential(p, q):
    return _gamma_kl(p.concentration, p.rate, 1.0, q.rate)


@kl_divergence.register(dist.HalfNormal, dist.HalfNormal)
def _half_normal(p, q):
    s, t = broadcast_floats(p.scale, q.scale)
    return jnp.log(t) - jnp.log(s) + (s / t - 1) * (s / t + 1) / 2


@kl_divergence.register(dist.LogNormal, dist.LogNormal)
def _log_normal(p, q):
    m, s, n, t = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    return jnp.log(t) - jnp.log(s) + ((s / t - 1) * (s / t + 1) + ((m - n) / t) ** 2) / 2


def _log_normal_gamma_kl(m, s, shape, rate):
    """KL(LogNormal(m, s^2) || Gamma(shape, rate)). Source: Louizos et al. 2017 (arXiv:1705.08665), appendix A."""
    m, s, shape, rate = broadcast_floats(m, s, shape, rate)
    entropy = jnp.log(s) + (_HALF_LOG_2PI + 0.5)  # of log z
    cross = shape * (m + jnp.log(rate)) - gammaln(shape) - rate * jnp.exp(m + s**2 / 2)
    return -entropy - cross


@kl_divergence.register(dist.LogNormal, dist.Gamma)
def _log_normal_gamma(p, q):
    return _log_normal_gamma_kl(p.loc, p.scale, q.concentration, q.rate)


@kl_divergence.register(dist.LogNormal, dist.InverseGamma)
def _log_normal_inverse_gamma(p, q):
    return _log_normal_gamma_kl(-jnp.asarray(p.loc), p.scale, q.concentration, q.rate)


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


def _to_half_normal(entropy, square, q):
    """KL from a distribution of positive numbers with the given entropy and mean square to the half-normal q."""
    entropy, square, s = broadcast_floats(entropy, square, q.scale)
    return jnp.log(s) + 0.5 * math.log(math.pi / 2) - entropy + square / (2 * s**2)


@kl_divergence.register(dist.Exponential, dist.HalfNormal)
def _exponential_half_normal(p, q):
    (a,) = broadcast_floats(p.rate)
    return _to_half_normal(1 - jnp.log(a), 2 / a**2, q)


@kl_divergence.register(dist.Gamma, dist.HalfNormal)
def _gamma_half_normal(p, q):
    a, b = broadcast_floats(p.concentration, p.rate)
    entropy = a - jnp.log(b) + gammaln(a) + (1 - a) * digamma(a)
    return _to_half_normal(entropy, a * (a + 1) / b**2, q)


@kl_divergence.register(dist.LogNormal, dist.HalfNormal)
def _log_normal_half_normal(p, q):
    m, s = broadcast_floats(p.loc, p.scale)
    return _to_half_normal(m + jnp.log(s) + (_HALF_LOG_2PI + 0.5), jnp.exp(2 * m + 2 * s**2), q)


@kl_divergence.register(dist.HalfNormal, dist.Exponential)
def _half_normal_exponential(p, q):
    s, b = broadcast_floats(p.scale, q.rate)
    return math.sqrt(2 / math.pi) * b * s - jnp.log(b * s) + (0.5 * math.log(2 / math.pi) - 0.5)


@kl_divergence.register(dist.LogNormal, dist.Exponential)
def _log_normal_exponential(p, q):
    return _log_normal_gamma_kl(p.loc, p.scale, 1.0, q.rate)


@kl_divergence.register(dist.VonMises, dist.VonMises)
def _von_mises(p, q):
    m, k, n, c = broadcast_floats(p.loc, p.concentration, q.loc, q.concentration)
    log_normalizers = jnp.log(i0e(c)) + c - jnp.log(i0e(k)) - k
    return log_normalizers + i1e(k) / i0e(k) * (k - c * jnp.cos(m - n))
