import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.quick_keys import quick

DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "an odd number of words": lambda key: jax.random.bits(key, (7,)),
    "one word": lambda key: jax.random.bits(key),
    "none": lambda key: jax.random.bits(key, (0, 2)),
    "bytes": lambda key: jax.random.bits(key, (9,), jnp.uint8),
    "normal": lambda key: jax.random.normal(key, (4, 3)),
    "gamma": lambda key: jax.random.gamma(key, 2.0, (5,)),
    "permutation": lambda key: jax.random.permutation(key, 9),
    "split": lambda key: jax.vmap(jax.random.uniform)(jax.random.split(key, 4)),
    "fold_in": lambda key: jax.random.uniform(jax.random.fold_in(key, 2**31), (2,)),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_jax(name):
    key, draw = jax.random.key(12345), jax.jit(DRAWS[name])
    np.testing.assert_array_equal(draw(key), draw(quick(key)))
    np.testing.assert_array_equal(draw(quick(quick(key))), draw(quick(key)))


def test_double_precision(x64):
    key = jax.random.key(3)
    np.testing.assert_array_equal(jax.random.normal(key, (5,)), jax.random.normal(quick(key), (5,)))


def test_poisson_has_its_generator_back():
    """JAX draws it from Threefry alone."""
    q, key = dist.Poisson(jnp.full((1, 2, 3), 4.0)), jax.random.key(1)
    np.testing.assert_array_equal(pathwise.sample(q, key, 5), pathwise.sample(q, quick(key), 5))


def test_other_generators_stay():
    key = jax.random.key(0, impl="rbg")
    assert quick(key) is key
