"""`Categorical`: the likelihood of integer classes, with one categorical distribution per element."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.reparam import families


class Categorical(Likelihood):
    """Independent categorical distributions of integer x in {0, ..., num_classes - 1}, which networks read as one-hot.

    >>> Categorical(num_classes=4).size
    4

    Raises:
      ValueError: there are fewer than 2 classes.
    """

    num_classes: int = 256
    """Number of values that an element of x can take."""

    def __post_init__(self):
        super().__post_init__()
        if self.num_classes < 2:
            raise ValueError(f"expected num_classes >= 2, got {self.num_classes}")

    @property
    def size(self) -> int:
        return self.num_classes

    @property
    def input_size(self) -> int:
        return self.num_classes

    def encode(self, x: jax.Array) -> jax.Array:
        return jax.nn.one_hot(x.astype(jnp.int32), self.num_classes, dtype=jnp.float32)

    @property
    def values(self) -> np.ndarray:
        return np.arange(self.num_classes)

    def check_support(self, x: np.ndarray) -> None:
        if not np.issubdtype(x.dtype, np.integer) or x.min() < 0 or x.max() >= self.num_classes:
            raise ValueError(
                f"expected integer x in 0..{self.num_classes - 1} for a categorical likelihood, "
                f"got {x.dtype} from {x.min():g} to {x.max():g}; set num_classes or choose another likelihood"
            )

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        return dist.CategoricalLogits(families.at_least_float32(unconstrained))
