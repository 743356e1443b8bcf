"""`Horseshoe`: the horseshoe distribution with an optional slab; `HorseshoeReparam`: its NumPyro reparameterization.

Source: Carvalho, Polson and Scott 2009, "Handling sparsity via the horseshoe".
"""

import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jax import lax
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample
from numpyro.infer.reparam import Reparam

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive
from dgmzoo.reparam.distributions.no_bijection import NoBijection
from dgmzoo.reparam.distributions.slab import log_slab_mass, shrunk_scale, shrunk_scale_second_moment, slab_ratio
from dgmzoo.reparam.distributions.special import log_scaled_e1, ndtr

_HALF_LOG_2PI3 = 0.5 * math.log(2 * math.pi**3)


class _SpikeAtZero(NoBijection):
    within = constraints.real
    reason = (
        "expected a latent whose density is finite, got a horseshoe: at its spike at 0 NUTS does not mix, and the gradient "
        "of an automatic guide has infinite variance; expand it: numpyro.handlers.reparam(model, {name: HorseshoeReparam()})"
    )


spike_at_zero = _SpikeAtZero()


class Horseshoe(dist.Distribution):
    """The horseshoe: N(0, scale^2 lambda^2) with lambda ~ HalfCauchy(1), times exp(-z^2 / 2 slab^2), normalized.

    The density has a spike at 0 and tails like 1 / z^2. A finite `slab` makes the tails normal beyond its width. `scale`
    and `slab` broadcast to the batch shape. Without a slab the mean is NaN and the variance infinite.

    Log-densities are in nats, through the exponential integral E1. The density is infinite at 0; `log_prob(0)` is its
    value at the smallest positive number, with gradient 0. Samples are exact and reparameterized in both parameters.
    `cdf` is computed by quadrature and `icdf` by bisection.

    NUTS does not mix on this density, so NUTS and NumPyro's automatic guides refuse it: expand it with
    `HorseshoeReparam`. A `MixtureGeneral` with other families needs `support=constraints.real`. As the prior of a normal
    posterior the horseshoe has a gradient of infinite variance: see `augmented_horseshoe_kl` and
    `horseshoe_log_prob_surrogate`.

    >>> d = Horseshoe(scale=2.0)
    >>> float(d.cdf(0.0)), round(float(d.icdf(0.75)), 3)
    (0.5, 1.174)

    Raises:
      ValueError: `scale` or `slab` is not positive.
    """

    arg_constraints: ClassVar = {"scale": constraints.positive, "slab": constraints.positive}
    support = spike_at_zero
    reparametrized_params: ClassVar = ["scale", "slab"]

    def __init__(self, scale=1.0, slab=jnp.inf, *, validate_args=None):
        require_positive("scale", scale)
        require_positive("slab", slab)
        self.scale, self.slab = broadcast_floats(scale, slab)
        super().__init__(batch_shape=jnp.shape(self.scale), validate_args=validate_args)

    def sample(self, key, sample_shape=()):
        shape = (3, *sample_shape, *jnp.shape(self.scale))
        upper, lower, noise = jax.random.normal(key, shape, self.scale.dtype)
        scale, slab, noise = broadcast_floats(self.scale, self.slab, noise)
        # A ratio of normals is Cauchy. The shift prevents 0 / 0 and is far below the resolution of a sample.
        local = jnp.abs(upper) / (jnp.abs(lower) + jnp.finfo(noise.dtype).eps)
        return scale * shrunk_scale(local, slab_ratio(scale, slab)) * noise

    @validate_sample
    def log_prob(self, value):
        value, scale, slab = broadcast_floats(value, self.scale, self.slab)
        size, tiny = jnp.abs(value), jnp.finfo(value.dtype).tiny
        return log_density_at_square(2 * jnp.log(jnp.where(size > tiny, size, tiny)), scale, slab)

    def cdf(self, value):
        value, scale, slab = broadcast_floats(value, self.scale, self.slab)
        return _mixture_cdf(value / scale, slab_ratio(scale, slab))

    def icdf(self, q):
        q, scale, slab = broadcast_floats(q, self.scale, self.slab)
        ratio, tail = slab_ratio(scale, slab), jnp.minimum(q, 1 - q)
        reach = 80.0 if q.dtype == jnp.float64 else 40.0

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            inside = _mixture_cdf(-jnp.exp(middle), ratio) > tail
            return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

        start = jnp.full_like(q, -reach), jnp.full_like(q, reach)
        log_size, _ = lax.fori_loop(0, 60 if q.dtype == jnp.float64 else 30, halve, lax.stop_gradient(start))
        size = lax.stop_gradient(scale * jnp.exp(log_size))
        side = jnp.where(q < 0.5, -1, 1).astype(q.dtype)
        # A final step of Newton's method, which also carries the derivatives in q, scale and slab. It compares the tails,
        # because near 1 a difference of two CDF values has no correct digits.
        density = lax.stop_gradient(jnp.exp(self.log_prob(size)))
        error = self.cdf(-size) - tail
        size = size + jnp.where(density > 0, error / jnp.where(density > 0, density, 1), 0)
        quantile = side * size
        edge = jnp.where(q == 0, -jnp.inf, jnp.where(q == 1, jnp.inf, jnp.nan))
        return jnp.where((q > 0) & (q < 1), jnp.where(q == 0.5, 0, quantile), edge)

    @property
    def mean(self):
        return jnp.where(jnp.isinf(self.slab), jnp.nan, 0)

    @property
    def variance(self):
        return self.scale**2 * shrunk_scale_second_moment(slab_ratio(self.scale, self.slab))


def log_density_at_square(log_square, scale, slab):
    """Log-density of the horseshoe (nats), elementwise, given log z^2, since z^2 itself may over- or underflow.

    >>> z, scale, slab = jnp.array(0.3), jnp.array(1.0), jnp.array(2.0)
    >>> error = log_density_at_square(jnp.log(z**2), scale, slab) - Horseshoe(scale, slab).log_prob(z)
    >>> bool(jnp.abs(error) < 1e-6)
    True
    """
    log_u = log_square - 2 * jnp.log(scale) - math.log(2)
    without_slab = log_scaled_e1(log_u) - jnp.log(scale) - _HALF_LOG_2PI3
    return without_slab - jnp.exp(log_square - 2 * jnp.log(slab)) / 2 - log_slab_mass(slab_ratio(scale, slab))


def _mixture_cdf(value, ratio):
    """P(z <= value) for scale 1: normal CDFs averaged over the shrunk scales, by the trapezoid rule in log lambda.

    The weight is analytic in a strip of half-width pi / 2 and decays like exp(-|log lambda|). The normal CDF is bounded
    in half of that strip. The step below and the lower cut-off leave an error of 1e-11 each in float64. The upper cut-off
    lies far above, because a tail probability t consists of local scales near 1 / t.
    """
    step, low, high = (0.18, 27.0, 60.0) if value.dtype == jnp.float64 else (0.35, 18.0, 36.0)
    grid = np.arange(-low, high + step, step)
    inverse = jnp.asarray(np.exp(-grid), value.dtype)
    weight = jnp.asarray(0.5 / np.cosh(grid), value.dtype)  # lambda / (1 + lambda^2)

    def add(i, sums):
        precision = jnp.sqrt(jnp.square(inverse[i]) + jnp.square(ratio))  # 1 / shrunk scale
        w = weight[i] * inverse[i] / precision
        return sums[0] + w * ndtr(value * precision), sums[1] + w

    below, total = lax.fori_loop(0, grid.size, add, (jnp.zeros_like(value), jnp.zeros_like(value)))
    return below / total


class HorseshoeReparam(Reparam):
    """NumPyro reparameterizer: expand a site `name ~ Horseshoe(scale, slab)` into scale * t * noise.

    t is the shrunk scale of a half-Cauchy variable. The expansion adds the sites `{name}_local ~ HalfCauchy(1)` and
    `{name}_noise ~ Normal(0, 1)`. The site `name` becomes deterministic and keeps its distribution, slab included.

    >>> import jax
    >>> model = numpyro.handlers.reparam(
    ...     lambda: numpyro.sample("w", Horseshoe(0.1)), config={"w": HorseshoeReparam()}
    ... )
    >>> list(numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0))).get_trace())
    ['w_local', 'w_noise', 'w']

    Raises:
      ValueError: the site has another distribution, or it is observed.
    """

    def __call__(self, name, fn, obs):
        base, shape, event_dim = self._unwrap(fn)
        if not isinstance(base, Horseshoe):
            raise ValueError(
                f"expected a Horseshoe at site {name}, got {type(base).__name__}; take it out of the config"
            )
        if obs is not None:
            raise ValueError(f"expected a latent at site {name}, got an observation; take it out of the config")
        one = jnp.ones_like(base.scale)
        local = numpyro.sample(f"{name}_local", self._wrap(dist.HalfCauchy(one), shape, event_dim))
        noise = numpyro.sample(f"{name}_noise", self._wrap(dist.Normal(0 * one, one), shape, event_dim))
        local, noise, scale, slab = broadcast_floats(local, noise, base.scale, base.slab)
        return None, scale * shrunk_scale(local, slab_ratio(scale, slab)) * noise
