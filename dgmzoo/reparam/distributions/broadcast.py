"""`broadcast_floats`: turn values into float arrays of one shape; `require_positive`: refuse values of 0 and below."""

import jax
import jax.numpy as jnp
import numpy as np


def broadcast_floats(*values):
    """Broadcast `values` to floating arrays of one shape; integers become floats.

    >>> [array.shape for array in broadcast_floats(jnp.zeros((3, 1)), jnp.ones(2))]
    [(3, 2), (3, 2)]
    """
    arrays = [jnp.asarray(value) for value in values]
    arrays = [a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(float) for a in arrays]
    return jnp.broadcast_arrays(*arrays)


def require_positive(name, value):
    """Raise ValueError unless `value` is positive. Inside a JAX transformation values are unknown and not checked.

    >>> require_positive("scale", -1.0)
    Traceback (most recent call last):
    ValueError: expected a positive scale, got -1.0; pass it through exp or softplus
    """
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"expected a positive {name}, got {value}; pass it through exp or softplus")
