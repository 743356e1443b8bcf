"""`MixtureOfNormals`: the likelihood of real-valued data with a mixture of normals per element."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.validation import check_whole
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.mixtures import mixture_of


class MixtureOfNormals(Likelihood):
    """Real x from a mixture of normals per element. Unconstrained zeros give mean 0 and variance 1.

    Source: Bishop 1994, "Mixture density networks".

    >>> MixtureOfNormals(components=5).size
    15

    Raises:
      ValueError: there is no component.
    """

    components: int = 10
    """Number of normals in the mixture (C)."""

    discrete = False

    def __post_init__(self):
        object.__setattr__(self, "components", check_whole("components", self.components))
        super().__post_init__()

    @property
    def size(self) -> int:
        return 3 * self.components

    def start(self, total, num):
        mean = jnp.repeat((total / jnp.maximum(num, 1))[:, None], self.components, 1)
        return jnp.concatenate([jnp.zeros_like(mean), mean, jnp.zeros_like(mean)], -1)

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(mixture_of(self.components), unconstrained)
