"""`RectifiedNormal`: the distribution of max(0, y) for a normal y, with a point mass at zero."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.scipy.special import ndtri
from numpyro.distributions import constraints
from numpyro.distributions.kl import kl_divergence
from numpyro.distributions.util import validate_sample

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive
from dgmzoo.reparam.distributions.no_bijection import NoBijection
from dgmzoo.reparam.distributions.special import excess_moment, log_ndtr, log_normal_density, ndtr


class _AtomAtZero(NoBijection):
    within = constraints.nonnegative  # 0 has positive probability
    reason = (
        "expected a latent with a density, got a rectified normal, which has a point mass at 0; "
        "sample y ~ Normal(loc, scale) and use numpyro.deterministic(name, jnp.maximum(y, 0))"
    )


atom_at_zero = _AtomAtZero()


class RectifiedNormal(dist.Distribution):
    """z = max(0, y) with y ~ N(loc, scale^2). `loc` and `scale` broadcast to the batch shape.

    `log_prob` is a log-probability at z = 0 and a log-density above (nats). Compare it only with a distribution that also
    has an atom at 0. Samples are reparameterized, and their gradient is unbiased for expectations of continuous functions.
    `log_prob` jumps at 0, so a sampled log-ratio has a biased gradient: use the KL in closed form (in NumPyro
    `TraceMeanField_ELBO`), or use y as the latent. NUTS refuses a rectified normal as a latent.

    >>> d = RectifiedNormal(loc=0.0, scale=1.0)
    >>> float(d.cdf(0.0)), round(float(d.mean), 4)  # half of the mass lies at 0
    (0.5, 0.3989)

    Raises:
      ValueError: `scale` is not positive.
    """

    has_atom: ClassVar = True  # a distribution without an atom has an infinite KL from this one
    arg_constraints: ClassVar = {"loc": constraints.real, "scale": constraints.positive}
    support = atom_at_zero
    reparametrized_params: ClassVar = ["loc", "scale"]

    def __init__(self, loc=0.0, scale=1.0, *, validate_args=None):
        require_positive("scale", scale)
        self.loc, self.scale = broadcast_floats(loc, scale)
        super().__init__(batch_shape=jnp.shape(self.loc), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        noise = jax.random.normal(key, (*sample_shape, *jnp.shape(self.loc)), self.loc.dtype)
        loc, scale, noise = broadcast_floats(self.loc, self.scale, noise)
        return jnp.maximum(loc + scale * noise, 0)

    @validate_sample
    def log_prob(self, value):
        value, loc, scale = broadcast_floats(value, self.loc, self.scale)
        density = log_normal_density((value - loc) / scale) - jnp.log(scale)
        return jnp.where(value > 0, density, jnp.where(value == 0, log_ndtr(-loc / scale), -jnp.inf))

    def cdf(self, value):
        value, loc, scale = broadcast_floats(value, self.loc, self.scale)
        return jnp.where(value < 0, 0, ndtr((value - loc) / scale))

    def icdf(self, q):
        q, loc, scale = broadcast_floats(q, self.loc, self.scale)
        return jnp.maximum(loc + scale * ndtri(q), 0)

    @property
    def mean(self):
        a, alpha, mass_below, mass_above = _tails(self.loc, self.scale)
        w1 = excess_moment(1, alpha)
        return self.scale * jnp.where(a < 0, mass_above * w1, a + mass_below * w1)

    @property
    def variance(self):
        a, alpha, mass_below, mass_above = _tails(self.loc, self.scale)
        w1, w2 = excess_moment(1, alpha), excess_moment(2, alpha)
        below = mass_above * (w2 - mass_above * w1**2)
        above = 1 - 2 * mass_below + mass_below * (w2 - mass_below * w1**2)
        return self.scale**2 * jnp.where(a < 0, below, above)


def _tails(loc, scale):
    """(a, |a|, P(y < 0), P(y > 0)) at a = loc / scale."""
    a = loc / scale
    return a, jnp.where(a < 0, -a, a), ndtr(-a), ndtr(a)


@kl_divergence.register(RectifiedNormal, RectifiedNormal)
def _rectified_rectified(p, q):
    """KL in closed form: the log-ratio of the atoms plus the integral of the normals' log-ratio over y > 0.

    Let y = loc + scale x, r the ratio of scales, d the distance of the locations in units of q's scale, and b q's
    location in the same units. Twice the log-ratio is (d + r x)^2 - x^2 - 2 log r. If most of the mass is cut off
    (a < 0), moments of x cancel, and the excess t = x + a is used: (r t + b)^2 - (t - a)^2 - 2 log r.
    """
    loc, scale, other_loc, other_scale = broadcast_floats(p.loc, p.scale, q.loc, q.scale)
    a, alpha, mass_below, mass_above = _tails(loc, scale)
    b, r, d = other_loc / other_scale, scale / other_scale, (loc - other_loc) / other_scale
    e = (r - 1) * (r + 1) / 2
    w1, w2 = excess_moment(1, alpha), excess_moment(2, alpha)
    atom = mass_below * (log_ndtr(-a) - log_ndtr(-b))
    cut = mass_above * ((b - a) * (b + a) / 2 - jnp.log(r) + (a - r * b) * w1 + e * w2)
    whole = mass_above * (e - jnp.log(r) + d**2 / 2) + jnp.exp(log_normal_density(a)) * (r * d - a * e)
    return atom + jnp.where(a < 0, cut, whole)


def _refuse_kl(p, q):
    names = type(p).__name__, type(q).__name__
    raise ValueError(
        f"expected both or neither of the distributions to have an atom at 0, got {names[0]} and {names[1]}, "
        "whose KL is infinite; use RectifiedNormal for both"
    )


for _continuous in (dist.Normal, dist.Laplace, dist.StudentT, dist.Cauchy, dist.HalfNormal, dist.LogNormal):
    kl_divergence.add((RectifiedNormal, _continuous), _refuse_kl)
    kl_divergence.add((_continuous, RectifiedNormal), _refuse_kl)
