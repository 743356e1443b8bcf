"""The horseshoe (Carvalho, Polson and Scott, 2009), with its scales integrated out and, by choice, a slab."""

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
        "expected a latent whose density is finite, got a horseshoe, on whose spike at 0 NUTS does not mix and the gradient "
        "of an automatic guide has infinite variance; expand it: numpyro.handlers.reparam(model, {name: HorseshoeReparam()})"
    )


spike_at_zero = _SpikeAtZero()


class Horseshoe(dist.Distribution):
    """N(0, scale^2 lambda^2) over lambda ~ HalfCauchy(1), times exp(-z^2 / 2 slab^2), normalized.

    A spike at 0 beside tails like 1 / z^2, which a finite `slab` turns normal beyond its width; `scale` and
    `slab` broadcast to the batch shape. Log-densities in nats, through E1; the density is infinite at 0
    (its value there is that at the smallest positive number, its gradient 0). Samples are exact and
    reparameterized in both parameters. Without a slab the mean is NaN and the variance infinite. `cdf` and
    `icdf` are by quadrature and bisection.

    NUTS does not mix on this density and refuses it, as NumPyro's automatic guides do: expand it with
    `HorseshoeReparam`. A `MixtureGeneral` with other families needs `support=constraints.real`. As a prior
    for a normal posterior its gradient has infinite variance: see `augmented_horseshoe_kl` and
    `horseshoe_log_prob_surrogate`.
    Raises ValueError unless both parameters are positive.
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
        # Ratios of normals are Cauchy; the shift, far below what a draw resolves, only forbids 0 / 0.
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
        reach = 40.0 if q.dtype == jnp.float64 else 18.0

        def halve(_, bounds):
            low, high = bounds
            middle = (low + high) / 2
            inside = _mixture_cdf(-jnp.exp(middle), ratio) > tail
            return jnp.where(inside, middle, low), jnp.where(inside, high, middle)

        start = jnp.full_like(q, -reach), jnp.full_like(q, reach)
        log_size, _ = lax.fori_loop(0, 60 if q.dtype == jnp.float64 else 30, halve, lax.stop_gradient(start))
        size = lax.stop_gradient(scale * jnp.exp(log_size))
        found = jnp.where(q < 0.5, -size, size)
        # A last step of Newton's method, which also carries the derivatives in q, scale and slab.
        density = lax.stop_gradient(jnp.exp(self.log_prob(found)))
        error = self.cdf(found) - q
        found = found - jnp.where(density > 0, error / jnp.where(density > 0, density, 1), 0)
        edge = jnp.where(q == 0, -jnp.inf, jnp.where(q == 1, jnp.inf, jnp.nan))
        return jnp.where((q > 0) & (q < 1), jnp.where(q == 0.5, 0, found), edge)

    @property
    def mean(self):
        return jnp.where(jnp.isinf(self.slab), jnp.nan, 0)

    @property
    def variance(self):
        return self.scale**2 * shrunk_scale_second_moment(slab_ratio(self.scale, self.slab))


def log_density_at_square(log_square, scale, slab):
    """The horseshoe's log-density (nats) at log z^2, since z^2 itself may leave the floating range."""
    log_u = log_square - 2 * jnp.log(scale) - math.log(2)
    plain = log_scaled_e1(log_u) - jnp.log(scale) - _HALF_LOG_2PI3
    return plain - jnp.exp(log_square - 2 * jnp.log(slab)) / 2 - log_slab_mass(slab_ratio(scale, slab))


def _mixture_cdf(value, ratio):
    """P(z <= value) for scale 1: the normal's over the shrunk scales, by the trapezoid rule in log lambda.

    The weight is analytic in a strip of half-width pi / 2 and falls like exp(-|log lambda|), the normal's
    CDF stays bounded in half of that strip: the step below leaves 1e-11 (float64), as does the cut.
    """
    step, reach = (0.18, 27.0) if value.dtype == jnp.float64 else (0.35, 14.0)
    grid = np.arange(-reach, reach + step, step)
    local = jnp.asarray(np.exp(grid), value.dtype)
    weight = jnp.asarray(0.5 / np.cosh(grid), value.dtype)  # lambda / (1 + lambda^2)

    def add(i, sums):
        slope = jnp.sqrt(1 + (ratio * local[i]) ** 2)
        w = weight[i] / slope
        return sums[0] + w * ndtr(value * slope / local[i]), sums[1] + w

    below, total = lax.fori_loop(0, grid.size, add, (jnp.zeros_like(value), jnp.zeros_like(value)))
    return below / total


class HorseshoeReparam(Reparam):
    """Expand a site `name ~ Horseshoe(scale, slab)` into scale * t * noise, t a function of a half-Cauchy.

    Adds the sites `{name}_local ~ HalfCauchy(1)` and `{name}_noise ~ Normal(0, 1)`; `name` becomes
    deterministic, with the same distribution, slab included. Use with
    `numpyro.handlers.reparam(config={name: HorseshoeReparam()})`. Raises ValueError for another
    distribution or an observed site.
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
