"""`relaxed_promotion`: a context that allows implicit dtype and rank promotion in calls of NumPyro and optax.

The code of dgmzoo runs under strict promotion in its tests. The code of NumPyro and optax does not pass these checks.
"""

import contextlib

import jax


@contextlib.contextmanager
def relaxed_promotion():
    """Allow implicit dtype and rank promotion within the `with` block. Wrap calls of NumPyro and optax only.

    >>> import jax.numpy as jnp
    >>> with jax.numpy_rank_promotion("raise"), relaxed_promotion():
    ...     (jnp.ones((2, 3)) + jnp.ones(3)).shape
    (2, 3)
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
