"""What a posterior against a horseshoe prior needs, above all the local scale as a second latent; in nats."""

import math

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jax import lax
from jax.nn import softplus
from numpyro.distributions.kl import kl_divergence

from dgmzoo.reparam.distributions.arrays import aligned
from dgmzoo.reparam.distributions.horseshoe import Horseshoe, log_density_at_square
from dgmzoo.reparam.distributions.slab import log_slab_mass, slab_ratio
from dgmzoo.reparam.distributions.special import HALF_LOG_2PI, log_normal_density, ndtr


def _mean_relu(loc, scale):
    """E max(y, 0) for y ~ N(loc, scale^2)."""
    return loc * ndtr(loc / scale) + scale * jnp.exp(log_normal_density(loc / scale))


_SMOOTH = math.pi / math.sqrt(12)  # sd of the logistic noise that makes E max(2 y, 0) a softplus


def expected_softplus(loc, scale):
    """E log(1 + exp(2 y)) for y ~ N(loc, scale^2).

    Narrow normals by Gauss-Hermite. For wide ones, E 2 max(y', 0) with y' wider by the logistic noise,
    which is exact in the tails, and the difference, which falls like exp(-2 |y|), by the trapezoid rule on
    a fixed grid.
    """
    double = loc.dtype == jnp.float64
    limit, num = (0.5, 32) if double else (0.4, 8)
    narrow = scale < limit
    nodes, weights = np.polynomial.hermite_e.hermegauss(num)
    width = jnp.where(narrow, scale, limit)
    at_nodes = softplus(2 * (loc[None] + width[None] * _leading(nodes, loc)))
    by_nodes = (_leading(weights / weights.sum(), loc) * at_nodes).sum(0)

    step, reach = (0.25, 15.0) if double else (0.4, 8.0)
    grid = np.arange(-reach, reach + step / 2, step)
    cdf = np.array([0.5 * math.erfc(-y / _SMOOTH * math.sqrt(0.5)) for y in grid])
    relu = grid * cdf + _SMOOTH * np.exp(-((grid / _SMOOTH) ** 2) / 2) / math.sqrt(2 * math.pi)
    rest = step * (np.logaddexp(0, 2 * grid) - 2 * relu)
    width = jnp.where(narrow, 1, scale)
    density = jnp.exp(log_normal_density((_leading(grid, loc) - loc[None]) / width[None])) / width[None]
    by_grid = 2 * _mean_relu(loc, jnp.sqrt(width**2 + _SMOOTH**2)) + (_leading(rest, loc) * density).sum(0)
    return jnp.where(narrow, by_nodes, by_grid)


def _leading(values, like):
    """Constants along a new first axis [N, ...]: sums over it run faster on CPU than over a last one."""
    constants = jnp.asarray(values, like.dtype).reshape(-1, *[1] * like.ndim)
    return jnp.broadcast_to(constants, (len(values), *like.shape))


def half_cauchy_kl(loc, scale):
    """KL(LogNormal(loc, scale^2) || HalfCauchy(1)), elementwise; for HalfCauchy(A) take log A off `loc`."""
    loc, scale = aligned(loc, scale)
    constant = HALF_LOG_2PI + 0.5 + math.log(2 / math.pi)
    return expected_softplus(loc, scale) - loc - jnp.log(scale) - constant


@kl_divergence.register(dist.LogNormal, dist.HalfCauchy)
def _log_normal_half_cauchy(p, q):
    loc, scale, other = aligned(p.loc, p.scale, q.scale)
    return half_cauchy_kl(loc - jnp.log(other), scale)


def augmented_horseshoe_log_prob(z, log_local, scale, slab=jnp.inf):
    """log p(z, log lambda) (nats) of the density that `augmented_horseshoe_kl` names, elementwise."""
    z, log_local, scale, slab = aligned(z, log_local, scale, slab)
    half_cauchy = math.log(2 / math.pi) + log_local - softplus(2 * log_local)
    normal = log_normal_density(z / scale * jnp.exp(-log_local)) - jnp.log(scale) - log_local
    return half_cauchy + normal - jnp.square(z / slab) / 2 - log_slab_mass(slab_ratio(scale, slab))


def augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab=jnp.inf):
    """KL(N(z; loc, sd^2) LogNormal(lambda; local_loc, local_scale^2) || p(z, lambda)), elementwise.

    p(z, lambda) = HalfCauchy(lambda) N(z; 0, scale^2 lambda^2) exp(-z^2 / 2 slab^2) / Z. It is an upper
    bound of the divergence from the horseshoe itself. It holds exp(-2 local_loc + 2 local_scale^2): bound
    those where they are made.
    """
    loc, sd, local_loc, local_scale, scale, slab = aligned(loc, sd, local_loc, local_scale, scale, slab)
    precision = jnp.exp(2 * (local_scale**2 - local_loc - jnp.log(scale))) + (1 / slab) ** 2
    normal = jnp.log(scale) + local_loc - jnp.log(sd) - 0.5 + (loc**2 + sd**2) / 2 * precision
    return normal + half_cauchy_kl(local_loc, local_scale) + log_slab_mass(slab_ratio(scale, slab))


def log_regularized_scale(log_scale, slab):
    """log (s / sqrt(1 + s^2 / slab^2)) at log s: a scale capped by a slab (Piironen and Vehtari, 2017)."""
    log_scale, slab = aligned(log_scale, slab)
    return log_scale - softplus(2 * (log_scale - jnp.log(slab))) / 2


def horseshoe_log_prob_surrogate(z, loc, sd, scale, slab=jnp.inf):
    """log p(z) of the horseshoe [...] with an unbiased gradient of finite variance when z = loc + sd * noise.

    The pathwise gradient of log p has 1/z in it: an expectation only as a principal value, and no variance.
    With z^2 + sd^2 for z^2 (sd held) it is tame; the difference of the two is handled by the score
    function, and the gradient in `scale` and `slab` is taken at a fixed z. For one sample: inside an
    importance-weighted bound the weights' own gradient is not covered.
    """
    z, loc, sd, scale, slab = aligned(z, loc, sd, scale, slab)
    fixed_z, fixed_sd, *fixed_prior = lax.stop_gradient((z, sd, scale, slab))
    exact = Horseshoe(scale, slab, validate_args=False).log_prob(fixed_z)
    smooth = log_density_at_square(jnp.log(z**2 + fixed_sd**2), *fixed_prior)
    log_q = log_normal_density((fixed_z - loc) / sd) - jnp.log(sd)
    return exact + _gradient_only(smooth) + lax.stop_gradient(exact - smooth) * _gradient_only(log_q)


def _gradient_only(x):
    return x - lax.stop_gradient(x)
