"""Where NumPyro's own arithmetic needs looser rules than ours."""

import contextlib

import jax


@contextlib.contextmanager
def relaxed_promotion():
    """Allow implicit dtype and rank promotion inside NumPyro's and optax's own code.

    dgmzoo's code runs under strict promotion in its tests; NumPyro's and optax's does not pass it. Wrap
    only their calls.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
