"""Samples whose gradient runs along the path from parameters to value, where the family has such a path."""

import chex
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution

from dgmzoo.reparam.fast_threefry import standard_key
from dgmzoo.reparam.ops import relaxed_promotion


def is_reparameterized(family: type[Distribution]) -> bool:
    """Whether every parameter of the family is reparameterized."""
    return set(family.arg_constraints) <= set(family.reparametrized_params)


def sample(q: Distribution, key: chex.PRNGKey, num: int) -> chex.Array:
    """Draws `[K, B, U]` from q with batch shape `[1 or K, B, U]`, K = `num`.

    The gradient is pathwise where the family has one, and zero elsewhere: a discrete sample gets its gradient from
    the score function.
    """
    lead = q.batch_shape[0]
    if lead not in (1, num):
        raise ValueError(f"expected parameters [1 or {num}, B, ...], got batch shape {q.batch_shape}")
    key = key if is_reparameterized(type(q)) else standard_key(key)
    with relaxed_promotion():
        drawn = q.sample(key, (num,))[:, 0] if lead == 1 else q.sample(key)
    drawn = drawn.astype(jnp.result_type(*jax.tree.leaves(q)))  # counts become floats for the layers above
    return drawn if is_reparameterized(type(q)) else jax.lax.stop_gradient(drawn)
