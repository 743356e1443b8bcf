"""Raw parameters of random weights, for tests of them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

GLOROT = nn.initializers.glorot_uniform()
KEY = jax.random.key(3)


def raw_of(kind, shape, seed=0):
    """Parameters of some size."""
    random = np.random.default_rng(seed)
    born = {name: init(KEY) for name, init in kind.parameters(shape, GLOROT).items()}
    return {name: jnp.asarray(random.normal(0, 0.5, leaf.shape)) for name, leaf in born.items()}
