"""What a posterior against a horseshoe prior needs, above all the local scale as a second latent; in nats."""

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

_SMOOTH = math.pi / math.sqrt(12)  # sd of the logistic noise that makes E max(2 y, 0) a softplus


@jax.custom_jvp
def expected_softplus(loc, scale):
    """E log(1 + exp(2 y)) for y ~ N(loc, scale^2).

    Narrow normals by Gauss-Hermite. For wide ones, E 2 max(y', 0) with y' wider by the logistic noise,
    which is exact in the tails, and the difference, which falls like exp(-2 |y|), by the trapezoid rule on
    a fixed grid. Sums are products with constants, and serve the derivatives too.
    """
    return _softplus_and_slopes(loc, scale)[0]


@expected_softplus.defjvp
def _expected_softplus_jvp(primals, tangents):
    value, by_loc, by_scale = _softplus_and_slopes(*primals)
    return value, by_loc * tangents[0] + by_scale * tangents[1]


def _softplus_and_slopes(loc, scale):
    """Expected softplus and its derivatives in `loc` and `scale`."""
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
    rest = step * (np.logaddexp(0, 2 * grid) - 2 * relu)
    density = jnp.exp(log_normal_density((_leading(grid, loc) - loc[None]) / scale[None])) / scale[None]
    none, first, second = _sums(np.stack([rest, rest * grid, rest * grid**2]), density)  # moments of the rest
    wide = jnp.sqrt(scale**2 + _SMOOTH**2)
    at = loc / wide
    above, height = ndtr(at), jnp.exp(log_normal_density(at))
    value = 2 * (loc * above + wide * height) + none
    by_loc = 2 * above + (first - loc * none) / scale**2
    square = second - 2 * loc * first + loc**2 * none
    return value, by_loc, 2 * height * scale / wide + (square / scale**2 - none) / scale


def _sums(constants, values):
    """Constants `[S, N]` times values `[N, ...]`, `[S, ...]`: on CPU many times faster than sums over the axis."""
    return jnp.tensordot(jnp.asarray(constants, values.dtype), values, 1, precision="highest")


def _leading(values, like):
    """Constants along a new first axis [N, ...]."""
    constants = jnp.asarray(values, like.dtype).reshape(-1, *[1] * like.ndim)
    return jnp.broadcast_to(constants, (len(values), *like.shape))


def half_cauchy_kl(loc, scale):
    """KL(LogNormal(loc, scale^2) || HalfCauchy(1)), elementwise; for HalfCauchy(A) take log A off `loc`."""
    loc, scale = broadcast_floats(loc, scale)
    constant = HALF_LOG_2PI + 0.5 + math.log(2 / math.pi)
    return expected_softplus(loc, scale) - loc - jnp.log(scale) - constant


@kl_divergence.register(dist.LogNormal, dist.HalfCauchy)
def _log_normal_half_cauchy(p, q):
    loc, scale, other = broadcast_floats(p.loc, p.scale, q.scale)
    return half_cauchy_kl(loc - jnp.log(other), scale)


def augmented_horseshoe_log_prob(z, log_local, scale, slab=jnp.inf):
    """log p(z, log lambda) (nats) of the density that `augmented_horseshoe_kl` names, elementwise."""
    z, log_local, scale, slab = broadcast_floats(z, log_local, scale, slab)
    half_cauchy = math.log(2 / math.pi) + log_local - softplus(2 * log_local)
    normal = log_normal_density(z / scale * jnp.exp(-log_local)) - jnp.log(scale) - log_local
    return half_cauchy + normal - jnp.square(z / slab) / 2 - log_slab_mass(slab_ratio(scale, slab))


def augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab=jnp.inf):
    """KL(N(z; loc, sd^2) LogNormal(lambda; local_loc, local_scale^2) || p(z, lambda)), elementwise.

    p(z, lambda) = HalfCauchy(lambda) N(z; 0, scale^2 lambda^2) exp(-z^2 / 2 slab^2) / Z. It is an upper
    bound of the divergence from the horseshoe itself. It holds exp(-2 local_loc + 2 local_scale^2): bound
    those where they are made.
    """
    loc, sd, local_loc, local_scale, scale, slab = broadcast_floats(loc, sd, local_loc, local_scale, scale, slab)
    precision = jnp.exp(2 * (local_scale**2 - local_loc - jnp.log(scale))) + (1 / slab) ** 2
    normal = jnp.log(scale) + local_loc - jnp.log(sd) - 0.5 + (loc**2 + sd**2) / 2 * precision
    return normal + half_cauchy_kl(local_loc, local_scale) + log_slab_mass(slab_ratio(scale, slab))


def log_regularized_scale(log_scale, slab):
    """log (s / sqrt(1 + s^2 / slab^2)) at log s: a scale capped by a slab (Piironen and Vehtari, 2017)."""
    log_scale, slab = broadcast_floats(log_scale, slab)
    return log_scale - softplus(2 * (log_scale - jnp.log(slab))) / 2


def horseshoe_log_prob_surrogate(z, loc, sd, scale, slab=jnp.inf):
    """log p(z) of the horseshoe [...] with an unbiased gradient of finite variance when z = loc + sd * noise.

    The pathwise gradient of log p has 1/z in it: an expectation only as a principal value, and no variance.
    With z^2 + sd^2 for z^2 (sd held) it is tame; the difference of the two is handled by the score
    function, and the gradient in `scale` and `slab` is taken at a fixed z. For one sample: inside an
    importance-weighted bound the weights' own gradient is not covered.
    """
    z, loc, sd, scale, slab = broadcast_floats(z, loc, sd, scale, slab)
    fixed_z, fixed_sd, *fixed_prior = lax.stop_gradient((z, sd, scale, slab))
    exact = Horseshoe(scale, slab, validate_args=False).log_prob(fixed_z)
    smooth = log_density_at_square(jnp.log(z**2 + fixed_sd**2), *fixed_prior)
    log_q = log_normal_density((fixed_z - loc) / sd) - jnp.log(sd)
    return exact + _gradient_only(smooth) + lax.stop_gradient(exact - smooth) * _gradient_only(log_q)


def _gradient_only(x):
    return x - lax.stop_gradient(x)
