"""Unconstrained parameters of random weights."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

GLOROT = nn.initializers.glorot_uniform()
KEY = jax.random.key(3)


def unconstrained_of(kind, shape, seed=0):
    """Parameters of a kernel's posterior, normal with scale 0.5."""
    random = np.random.default_rng(seed)
    initial = {name: init(KEY) for name, init in kind.parameters(shape, GLOROT).items()}
    return {name: jnp.asarray(random.normal(0, 0.5, leaf.shape)) for name, leaf in initial.items()}
