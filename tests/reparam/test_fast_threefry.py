import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.fast_threefry import fast_key

DRAWS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "many": lambda key: jax.random.normal(key, (40, 60)),
    "an odd number of many": lambda key: jax.random.bits(key, (2049,)),
    "many of many keys": lambda key: jax.vmap(lambda key: jax.random.bits(key, (3000,)))(jax.random.split(key, 2)),
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


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("name", DRAWS)
def test_draws_are_those_of_jax(name, reused):
    key, draw = jax.random.key(12345), jax.jit(DRAWS[name])
    np.testing.assert_array_equal(draw(key), draw(fast_key(key, reused)))
    assert fast_key(fast_key(key, reused), not reused).dtype == fast_key(key, not reused).dtype != fast_key(key, reused).dtype


def test_what_is_reused_is_worked_out_once():
    """By a loop, which XLA's fusion leaves whole: the rounds stand in one computation."""

    @jax.jit
    def asked(key, loc, scale):
        z = loc + scale * jax.random.normal(key, (50, 20, 50))
        return z @ jnp.ones((50, 200)), -jnp.square((z - loc) / scale).sum(-1), -jnp.square(z).sum(-1)

    def copies(key) -> int:
        text = asked.lower(key, jnp.zeros((1, 20, 50)), jnp.ones((1, 20, 50))).compile().as_text()
        return sum(each.count(" xor(") > 10 for each in text.split("\n}\n"))

    key = jax.random.key(0)
    assert copies(fast_key(key, reused=True)) == 1


def test_double_precision(x64):
    key = jax.random.key(3)
    np.testing.assert_array_equal(jax.random.normal(key, (5,)), jax.random.normal(fast_key(key), (5,)))


def test_poisson_has_its_generator_back():
    """JAX draws it from Threefry alone."""
    q, key = dist.Poisson(jnp.full((1, 2, 3), 4.0)), jax.random.key(1)
    for reused in (False, True):
        np.testing.assert_array_equal(pathwise.sample(q, key, 5), pathwise.sample(q, fast_key(key, reused), 5))


def test_other_generators_stay():
    key = jax.random.key(0, impl="rbg")
    assert fast_key(key) is key and fast_key(key, reused=True) is key
