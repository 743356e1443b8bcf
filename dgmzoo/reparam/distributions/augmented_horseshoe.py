"""`augmented_horseshoe_kl`: the KL divergence to a horseshoe prior whose local scales are latent variables."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.nn import sigmoid, softplus
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.broadcast import broadcast_floats
from dgmzoo.reparam.distributions.horseshoe import Horseshoe, log_density_at_square
from dgmzoo.reparam.distributions.slab import log_slab_mass, slab_ratio
from dgmzoo.reparam.distributions.special import HALF_LOG_2PI, log_normal_density, ndtr

_SMOOTH = math.pi / math.sqrt(12)  # standard deviation of the logistic noise that turns max(2 y, 0) into a softplus


@jax.custom_jvp
def expected_softplus(loc, scale):
    """E log(1 + exp(2 y)) for y ~ N(loc, scale^2), elementwise.

    Narrow normals use Gauss-Hermite quadrature. For wide normals the result is E 2 max(y', 0), where y' is y plus
    the logistic noise approximated by a normal of the same variance, plus a correction. The first term is exact in the
    tails. The correction decays like exp(-2 |y|) and is integrated by the trapezoid rule on a fixed grid. Sums over nodes
    are matrix products with constants, which the derivatives share.

    >>> round(float(expected_softplus(jnp.array(0.0), jnp.array(0.01))), 4)  # log 2 in the limit
    0.6932
    """
    return _softplus_and_slopes(loc, scale)[0]


@expected_softplus.defjvp
def _expected_softplus_jvp(primals, tangents):
    value, by_loc, by_scale = _softplus_and_slopes(*primals)
    return value, by_loc * tangents[0] + by_scale * tangents[1]


def _softplus_and_slopes(loc, scale):
    """Expected softplus and its derivatives in `loc` and in `scale`."""
    limit = 0.5 if loc.dtype == jnp.float64 else 0.4
    narrow = scale < limit
    by_nodes = _by_nodes(loc, jnp.where(narrow, scale, limit))
    by_grid = _by_grid(loc, jnp.where(narrow, 1, scale))
    return tuple(jnp.where(narrow, *pair) for pair in zip(by_nodes, by_grid, strict=True))


def _by_nodes(loc, scale):
    nodes, weights = np.polynomial.hermite_e.hermegauss(32 if loc.dtype == jnp.float64 else 8)
    weights = weights / weights.sum()
    y = 2 * (loc[None] + scale[None] * _leading(nodes, loc))
    slopes = _sums(np.stack([2 * weights, 2 * weights * nodes]), sigmoid(y))
    return _sums(weights[None], softplus(y))[0], slopes[0], slopes[1]


def _by_grid(loc, scale):
    step, reach = (0.25, 15.0) if loc.dtype == jnp.float64 else (0.4, 8.0)
    grid = np.arange(-reach, reach + step / 2, step)
    cdf = np.array([0.5 * math.erfc(-y / _SMOOTH * math.sqrt(0.5)) for y in grid])
    relu = grid * cdf + _SMOOTH * np.exp(-((grid / _SMOOTH) ** 2) / 2) / math.sqrt(2 * math.pi)
    correction = step * (np.logaddexp(0, 2 * grid) - 2 * relu)
    density = jnp.exp(log_normal_density((_leading(grid, loc) - loc[None]) / scale[None])) / scale[None]
    zeroth, first, second = _sums(np.stack([correction, correction * grid, correction * grid**2]), density)
    wide = jnp.sqrt(scale**2 + _SMOOTH**2)
    standardized = loc / wide
    above, density_at_0 = ndtr(standardized), jnp.exp(log_normal_density(standardized))
    value = 2 * (loc * above + wide * density_at_0) + zeroth
    by_loc = 2 * above + (first - loc * zeroth) / scale**2
    square = second - 2 * loc * first + loc**2 * zeroth
    return value, by_loc, 2 * density_at_0 * scale / wide + (square / scale**2 - zeroth) / scale


def _sums(constants, values):
    """Constants `[S, N]` times values `[N, ...]`, to `[S, ...]`. On CPU this is many times faster than summing an axis."""
    return jnp.tensordot(jnp.asarray(constants, values.dtype), values, 1, precision="highest")


def _leading(values, like):
    """Constants [N] along a new first axis of an array shaped like `like`: [N, ...]."""
    constants = jnp.asarray(values, like.dtype).reshape(-1, *[1] * like.ndim)
    return jnp.broadcast_to(constants, (len(values), *like.shape))


def half_cauchy_kl(loc, scale):
    """KL(LogNormal(loc, scale^2) || HalfCauchy(1)), elementwise. For HalfCauchy(A) subtract log A from `loc`.

    >>> round(float(half_cauchy_kl(0.0, 1.0)), 4)
    0.1004
    """
    loc, scale = broadcast_floats(loc, scale)
    constant = HALF_LOG_2PI + 0.5 + math.log(2 / math.pi)
    return expected_softplus(loc, scale) - loc - jnp.log(scale) - constant


@kl_divergence.register(dist.LogNormal, dist.HalfCauchy)
def _log_normal_half_cauchy(p, q):
    loc, scale, other = broadcast_floats(p.loc, p.scale, q.scale)
    return half_cauchy_kl(loc - jnp.log(other), scale)


def augmented_horseshoe_log_prob(z, log_local, scale, slab=jnp.inf):
    """Log-density (nats) of z and log lambda under the horseshoe prior of `augmented_horseshoe_kl`, elementwise.

    >>> round(float(augmented_horseshoe_log_prob(0.0, 0.0, 1.0)), 4)
    -2.0637
    """
    z, log_local, scale, slab = broadcast_floats(z, log_local, scale, slab)
    half_cauchy = math.log(2 / math.pi) + log_local - softplus(2 * log_local)
    normal = log_normal_density(z / scale * jnp.exp(-log_local)) - jnp.log(scale) - log_local
    return half_cauchy + normal - jnp.square(z / slab) / 2 - log_slab_mass(slab_ratio(scale, slab))


def augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab=jnp.inf):
    """KL(N(z; loc, sd^2) LogNormal(lambda; local_loc, local_scale^2) || p(z, lambda)), elementwise.

    p(z, lambda) = HalfCauchy(lambda) N(z; 0, scale^2 lambda^2) exp(-z^2 / 2 slab^2) / Z. The result is an upper bound of
    the divergence from the horseshoe itself. It contains exp(-2 local_loc + 2 local_scale^2), so bound `local_loc` and
    `local_scale` where they are computed.

    >>> round(float(augmented_horseshoe_kl(0.0, 1.0, 0.0, 0.5, 1.0)), 4)
    0.8562
    """
    loc, sd, local_loc, local_scale, scale, slab = broadcast_floats(loc, sd, local_loc, local_scale, scale, slab)
    precision = jnp.exp(2 * (local_scale**2 - local_loc - jnp.log(scale))) + (1 / slab) ** 2
    normal = jnp.log(scale) + local_loc - jnp.log(sd) - 0.5 + (loc**2 + sd**2) / 2 * precision
    return normal + half_cauchy_kl(local_loc, local_scale) + log_slab_mass(slab_ratio(scale, slab))


def log_regularized_scale(log_scale, slab):
    """Logarithm of a scale capped by a slab: log (s / sqrt(1 + s^2 / slab^2)) given log s, elementwise.

    Source: Piironen and Vehtari 2017, "Sparsity information and regularization in the horseshoe".

    >>> round(float(jnp.exp(log_regularized_scale(10.0, 2.0))), 4)  # a scale of exp(10)
    2.0
    """
    log_scale, slab = broadcast_floats(log_scale, slab)
    return log_scale - softplus(2 * (log_scale - jnp.log(slab))) / 2


def horseshoe_log_prob_surrogate(z, loc, sd, scale, slab=jnp.inf):
    """log p(z) of the horseshoe, elementwise, with an unbiased gradient of finite variance for z = loc + sd * noise.

    The pathwise gradient of log p contains 1/z. Its expectation exists only as a principal value, and it has no variance.
    The surrogate follows the path with z^2 + sd^2 in place of z^2 (sd is held constant), adds the difference of both
    log-densities by the score function, and takes the gradient in `scale` and `slab` at a fixed z. It is valid for one
    sample. An importance-weighted bound also differentiates its weights, which the surrogate does not cover.

    >>> value = horseshoe_log_prob_surrogate(0.3, 0.0, 1.0, 1.0)
    >>> bool(jnp.abs(value - Horseshoe(1.0).log_prob(0.3)) < 1e-6)
    True
    """
    z, loc, sd, scale, slab = broadcast_floats(z, loc, sd, scale, slab)
    fixed_z, fixed_sd, *fixed_prior = lax.stop_gradient((z, sd, scale, slab))
    exact = Horseshoe(scale, slab, validate_args=False).log_prob(fixed_z)
    smooth = log_density_at_square(jnp.log(z**2 + fixed_sd**2), *fixed_prior)
    log_q = log_normal_density((fixed_z - loc) / sd) - jnp.log(sd)
    return exact + _gradient_only(smooth) + lax.stop_gradient(exact - smooth) * _gradient_only(log_q)


def _gradient_only(x):
    return x - lax.stop_gradient(x)
