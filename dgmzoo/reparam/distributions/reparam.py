"""The horseshoe as NumPyro's samplers want it."""

import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.infer.reparam import Reparam

from dgmzoo.reparam.distributions.arrays import aligned
from dgmzoo.reparam.distributions.horseshoe import Horseshoe
from dgmzoo.reparam.distributions.slab import shrunk_scale, slab_ratio


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
        local, noise, scale, slab = aligned(local, noise, base.scale, base.slab)
        return None, scale * shrunk_scale(local, slab_ratio(scale, slab)) * noise
