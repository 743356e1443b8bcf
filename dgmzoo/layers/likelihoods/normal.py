"""The normal likelihood of real-valued data."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.likelihoods.base import Likelihood, _head
from dgmzoo.reparam import families


class Normal(Likelihood):
    """Real x, with a location and a scale per element."""

    homoscedastic: bool = False
    """Learn one scale for each element of x, the same whatever the features are."""

    family = dist.Normal
    discrete = False

    @property
    def has_own_head(self) -> bool:
        return self.homoscedastic or super().has_own_head

    def start(self, total, num):
        mean = total / jnp.maximum(num, 1)
        return jnp.stack([mean, jnp.zeros_like(mean)], -1)

    def unconstrained(self, features: jax.Array, start: jax.Array) -> jax.Array:
        if not self.homoscedastic:
            return super().unconstrained(features, start)
        loc = families.at_least_float32(_head(features, self.weights, start[:, 0]))
        scale = self.param("scale", nn.initializers.zeros, start.shape[:1], loc.dtype)
        return jnp.stack([loc, jnp.broadcast_to(scale, loc.shape)], -1)
