"""Output layers for images of whole gray levels: a logistic, or a mixture of them, cut into the levels' bins.

Salimans, Karpathy, Chen & Kingma 2017, "PixelCNN++" (arXiv 1701.05517), section 2.1. x lies in [0, 1] as the data come:
level k of L is k / (L - 1).

Deviation: every element of x has a mixture of its own, the channels of a colour too, and given the features they are
independent, where the paper lets the means of green and blue depend on the channels before (equation 3). So one layer
serves any number of channels, missing elements, and networks that are autoregressive over channels themselves.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.logistic_on_grid import LogisticOnGrid, check_grid, check_levels
from dgmzoo.reparam.ops import relaxed_promotion


class DiscretizedLogistic(Likelihood):
    """Gray levels by one logistic per element of x: zeros give location 1/2 and scale 1/4."""

    levels: int = 256
    """Number of values an element of x takes, evenly from 0 to 1."""

    def __post_init__(self):
        super().__post_init__()
        check_levels(self.levels)

    @property
    def size(self) -> int:
        return 2

    def start(self, total, num):
        mean = (total + 0.5) / (num + 1)
        return jnp.stack([mean - 0.5, jnp.zeros_like(mean)], -1)

    def check_support(self, x: np.ndarray) -> None:
        check_grid(x, self.levels)

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        return _from_unconstrained(unconstrained, self.levels)


class DiscretizedLogisticMixture(Likelihood):
    """Gray levels by a mixture of logistics per element of x."""

    levels: int = 256
    """Number of values an element of x takes, evenly from 0 to 1."""
    components: int = 5
    """Number of logistics in the mixture."""

    def __post_init__(self):
        super().__post_init__()
        check_levels(self.levels)
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise ValueError(f"expected components to be an integer >= 1, got {self.components!r}")

    @property
    def size(self) -> int:
        return 3 * self.components

    def check_support(self, x: np.ndarray) -> None:
        check_grid(x, self.levels)

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        unconstrained = families.at_least_float32(unconstrained).reshape(*unconstrained.shape[:-1], self.components, 3)
        # Zeros spread the locations over the range: equal components would stay equal.
        places = (jnp.arange(self.components, dtype=unconstrained.dtype) + 0.5) / self.components - 0.5
        loc = unconstrained[..., 1] + places.reshape((1,) * (unconstrained.ndim - 2) + (-1,))
        logistics = _from_unconstrained(jnp.stack([loc, unconstrained[..., 2]], -1), self.levels)
        with relaxed_promotion():
            return dist.MixtureSameFamily(dist.CategoricalLogits(unconstrained[..., 0]), logistics)


def _from_unconstrained(unconstrained: jax.Array, levels: int) -> LogisticOnGrid:
    unconstrained = families.at_least_float32(unconstrained)
    scale = families.constrain(constraints.positive, unconstrained[..., 1])
    return LogisticOnGrid(0.5 + unconstrained[..., 0], scale / 4, levels)
