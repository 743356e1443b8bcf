"""`NormalMixture`: a mixture of normals with reparameterized samples; `SpikeAndSlab`: a mixture of two normals."""

import functools
import math
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax.nn import log_softmax, logsumexp
from numpyro.distributions import constraints
from numpyro.distributions.util import validate_sample

from dgmzoo.reparam.distributions.broadcast import broadcast_floats, require_positive
from dgmzoo.reparam.distributions.special import log_normal_density, ndtr

_MIN_SHARE = 2.0**-23  # this number and 1 minus it are exact in single precision


class _ReparameterizedMixture(dist.Distribution):
    """Density, moments and samples of `sum_c w_c N(loc_c, scale_c^2)`; subclasses define `_components`.

    Samples have an implicit reparameterization gradient. The gradient of a sample z in a parameter t is
    `-(dF(z; t) / dt) / p(z; t)`, with F the CDF of the mixture. Along this gradient the quantile of z does not change.

    Source: Figurnov, Mohamed & Mnih 2018 (arXiv 1805.08498), equation 6.
    """

    support = constraints.real

    def _components(self):
        """Log-weights, locations and scales of the components, each `[..., C]`."""
        raise NotImplementedError

    def sample(self, key, sample_shape=()):
        shape = (*sample_shape, *self.batch_shape)
        component_key, noise_key = jax.random.split(key)
        log_weight, loc, scale = (
            jnp.broadcast_to(part, (*shape, part.shape[-1])) for part in jax.lax.stop_gradient(self._components())
        )
        component = jax.random.categorical(component_key, log_weight)[..., None]
        loc, scale = (jnp.take_along_axis(part, component, -1)[..., 0] for part in (loc, scale))
        z = loc + scale * jax.random.normal(noise_key, shape, scale.dtype)
        log_weight, standard, _ = self._standardized(z)
        weight = jnp.exp(log_weight)
        # Use the smaller of the two tails: near 1 the difference of two CDF values has no correct digits.
        side = jax.lax.stop_gradient(jnp.where((weight * ndtr(standard)).sum(-1) < 0.5, 1, -1)).astype(z.dtype)
        tail = (weight * ndtr(side[..., None] * standard)).sum(-1)
        density = jax.lax.stop_gradient(jnp.exp(self.log_prob(z)))
        return z - side * (tail - jax.lax.stop_gradient(tail)) / density

    @validate_sample
    def log_prob(self, value):
        log_weight, standard, scale = self._standardized(value)
        return logsumexp(log_weight + log_normal_density(standard) - jnp.log(scale), -1)

    @property
    def mean(self):
        log_weight, loc, _ = self._components()
        return (jnp.exp(log_weight) * loc).sum(-1)

    @property
    def variance(self):
        log_weight, loc, scale = self._components()
        spread = loc - self.mean[..., None]
        return (jnp.exp(log_weight) * (jnp.square(spread) + jnp.square(scale))).sum(-1)

    def _standardized(self, value):
        value, log_weight, loc, scale = broadcast_floats(jnp.asarray(value)[..., None], *self._components())
        return log_weight, (value - loc) / scale, scale


def _start_locs(num):
    """Locations of `num` equally likely components of scale 1/2 whose mixture has mean 0 and variance 1."""
    locs = [2 * (i + 0.5) / num - 1 for i in range(num)]
    square = sum(loc**2 for loc in locs) / num
    return tuple(loc * math.sqrt(0.75 / square) if num > 1 else 0.0 for loc in locs)


class NormalMixture(_ReparameterizedMixture):
    """`sum_c softmax(logits)_c N(locs_c, scales_c^2)`, with the components on the last axis of all three parameters.

    Log-densities are in nats. Samples are reparameterized in all parameters.

    >>> d = NormalMixture(logits=jnp.zeros(2), locs=jnp.array([-1.0, 1.0]), scales=jnp.ones(2))
    >>> float(d.mean), float(d.variance)
    (0.0, 2.0)

    Raises:
      ValueError: a parameter without a component axis, or scales that are not positive.
    """

    arg_constraints: ClassVar = {
        "logits": constraints.real_vector,
        "locs": constraints.real_vector,
        "scales": constraints.independent(constraints.positive, 1),
    }
    reparametrized_params: ClassVar = ["logits", "locs", "scales"]
    unconstrained_sizes: ClassVar = {"logits": 5, "locs": 5, "scales": 5}  # for parameters from a network
    unconstrained_starts: ClassVar = {
        "locs": _start_locs(5),
        "scales": 0.5,
    }  # equal components would have equal gradients
    free_form: ClassVar = True  # as a prior it is always learned

    def __init__(self, logits, locs, scales, *, validate_args=None):
        if min(jnp.ndim(part) for part in (logits, locs, scales)) == 0:
            raise ValueError("expected logits, locs and scales of shape [..., components], got a single number")
        require_positive("scales", scales)
        self.logits, self.locs, self.scales = broadcast_floats(logits, locs, scales)
        super().__init__(batch_shape=jnp.shape(self.locs)[:-1], validate_args=validate_args)

    def _components(self):
        return log_softmax(self.logits, -1), self.locs, self.scales


@functools.cache
def mixture_of(num: int) -> type[NormalMixture]:
    """The family of mixtures of `num` normals, for parameters from a network.

    >>> mixture_of(3).unconstrained_sizes["locs"]
    3
    """
    sizes = {name: num for name in ("logits", "locs", "scales")}
    fields = {"unconstrained_sizes": sizes, "unconstrained_starts": {"locs": _start_locs(num), "scales": 0.5}}
    return type("NormalMixture", (NormalMixture,), fields)


class SpikeAndSlab(_ReparameterizedMixture):
    """The spike and slab `share N(0, spike^2) + (1 - share) N(0, slab^2)`.

    The spike is a narrow normal. The density is therefore positive everywhere, and the divergence from any normal
    posterior is finite. Log-densities are in nats. Samples are reparameterized in all parameters.

    Source: George & McCulloch 1993, "Variable selection via Gibbs sampling", equation 3.

    >>> round(float(SpikeAndSlab(share=0.5, spike=0.1, slab=1.0).variance), 4)
    0.505

    Raises:
      ValueError: `spike` or `slab` is not positive.
    """

    arg_constraints: ClassVar = {
        "share": constraints.unit_interval,
        "spike": constraints.positive,
        "slab": constraints.positive,
    }
    reparametrized_params: ClassVar = ["share", "spike", "slab"]
    unconstrained_starts: ClassVar = {"spike": 0.1}

    def __init__(self, share=0.5, spike=0.1, slab=1.0, *, validate_args=None):
        require_positive("spike", spike)
        require_positive("slab", slab)
        self.share, self.spike, self.slab = broadcast_floats(share, spike, slab)
        super().__init__(batch_shape=jnp.shape(self.share), validate_args=validate_args)

    def _components(self):
        share = jnp.clip(self.share, _MIN_SHARE, 1 - _MIN_SHARE)  # the sigmoid of a network may round to 0 or 1
        log_weight = jnp.stack([jnp.log(share), jnp.log1p(-share)], -1)
        scale = jnp.stack([self.spike, self.slab], -1)
        return log_weight, jnp.zeros_like(scale), scale
