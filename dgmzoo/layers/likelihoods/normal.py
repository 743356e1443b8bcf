"""`Normal`: the likelihood of real-valued data, with one normal distribution per element."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.likelihoods.base import Likelihood, dense_head
from dgmzoo.reparam import families


class Normal(Likelihood):
    """Independent normal distributions of real x, with a location and a scale per element.

    >>> Normal(homoscedastic=True).size, Normal().discrete
    (2, False)
    """

    homoscedastic: bool = False
    """Learn one scale for each element of x that does not depend on the features."""

    family = dist.Normal
    discrete = False

    @property
    def needs_own_head(self) -> bool:
        return self.homoscedastic or super().needs_own_head

    def start(self, total, num):
        mean = total / jnp.maximum(num, 1)
        return jnp.stack([mean, jnp.zeros_like(mean)], -1)

    def unconstrained(self, features: jax.Array, start: jax.Array) -> jax.Array:
        if not self.homoscedastic:
            return super().unconstrained(features, start)
        loc = families.at_least_float32(dense_head(features, self.weights, start[:, 0]))
        scale = self.param("scale", nn.initializers.zeros, start.shape[:1], loc.dtype)
        return jnp.stack([loc, jnp.broadcast_to(scale, loc.shape)], -1)
