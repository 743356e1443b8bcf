"""`Bernoulli`: the likelihood of binary data, with one Bernoulli distribution per element."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.likelihoods.base import Likelihood


class Bernoulli(Likelihood):
    """Independent Bernoulli distributions of binary x in {0, 1}.

    >>> Bernoulli().distribution(jnp.zeros((4, 1))).batch_shape
    (4,)
    """

    family = dist.BernoulliLogits

    @property
    def values(self) -> np.ndarray:
        return np.array([0.0, 1.0])

    def start(self, total, num):
        return jnp.log((total + 0.5) / (num - total + 0.5))[:, None]

    def check_support(self, x: np.ndarray) -> None:
        if not np.isin(x, (0, 1)).all():
            raise ValueError(
                f"expected x in {{0, 1}} for a Bernoulli likelihood, got values from {x.min():g} to {x.max():g}; "
                "set data.encoding (dynamic, static, threshold) or choose another likelihood"
            )
