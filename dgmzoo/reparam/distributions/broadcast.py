"""What every distribution here does with its arguments: one dtype, one shape, checked once."""

import jax
import jax.numpy as jnp
import numpy as np


def broadcast_floats(*values):
    """Return `values` as floating arrays of one shape (integers become floats)."""
    arrays = [jnp.asarray(value) for value in values]
    arrays = [a if jnp.issubdtype(a.dtype, jnp.floating) else a.astype(float) for a in arrays]
    return jnp.broadcast_arrays(*arrays)


def require_positive(name, value):
    """Raise ValueError unless `value` is positive; inside a transformation only its type can be known."""
    if not isinstance(value, jax.core.Tracer) and not np.all(np.asarray(value) > 0):
        raise ValueError(f"expected a positive {name}, got {value}; pass it through exp or softplus")
