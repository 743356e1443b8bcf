"""`DiscretizedLogistic`: a likelihood of gray levels; `DiscretizedLogisticMixture`: one with a mixture of logistics.

Source: Salimans, Karpathy, Chen & Kingma 2017, "PixelCNN++" (arXiv 1701.05517), section 2.1. As in the data, x lies in
[0, 1]: level k of L is k / (L - 1).

Deviation: given the features, all elements of x are independent, including the channels of a pixel, and each has a
mixture of its own. In the paper the means of green and blue depend on the previous channels (equation 3). This layer
therefore fits any number of channels, missing elements, and networks that are autoregressive over channels themselves.
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
    """Gray levels from one logistic per element of x. Unconstrained zeros give location 1/2 and scale 1/4.

    >>> DiscretizedLogistic(levels=16).size
    2

    Raises:
      ValueError: there are fewer than 2 levels.
    """

    levels: int = 256
    """Number of values that an element of x can take, evenly spaced from 0 to 1."""

    def __post_init__(self):
        super().__post_init__()
        check_levels(self.levels)

    @property
    def values(self) -> np.ndarray:
        return np.arange(self.levels) / (self.levels - 1)

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
    """Gray levels from a mixture of logistics per element of x.

    >>> DiscretizedLogisticMixture(components=5).size
    15

    Raises:
      ValueError: there are fewer than 2 levels, or there is no component.
    """

    levels: int = 256
    """Number of values that an element of x can take, evenly spaced from 0 to 1."""
    components: int = 5
    """Number of logistics in the mixture."""

    def __post_init__(self):
        super().__post_init__()
        check_levels(self.levels)
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise ValueError(f"expected components to be an integer >= 1, got {self.components!r}")

    @property
    def values(self) -> np.ndarray:
        return np.arange(self.levels) / (self.levels - 1)

    @property
    def size(self) -> int:
        return 3 * self.components

    def check_support(self, x: np.ndarray) -> None:
        check_grid(x, self.levels)

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        unconstrained = families.at_least_float32(unconstrained).reshape(*unconstrained.shape[:-1], self.components, 3)
        # Unconstrained zeros give different locations, because components that start equal stay equal.
        offsets = (jnp.arange(self.components, dtype=unconstrained.dtype) + 0.5) / self.components - 0.5
        loc = unconstrained[..., 1] + offsets.reshape((1,) * (unconstrained.ndim - 2) + (-1,))
        logistics = _from_unconstrained(jnp.stack([loc, unconstrained[..., 2]], -1), self.levels)
        with relaxed_promotion():
            return dist.MixtureSameFamily(dist.CategoricalLogits(unconstrained[..., 0]), logistics)


def _from_unconstrained(unconstrained: jax.Array, levels: int) -> LogisticOnGrid:
    unconstrained = families.at_least_float32(unconstrained)
    scale = families.constrain(constraints.positive, unconstrained[..., 1])
    return LogisticOnGrid(0.5 + unconstrained[..., 0], scale / 4, levels)
