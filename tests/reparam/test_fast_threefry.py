"""Keys of the fast generator give the samples of JAX's own, and bits that are used repeatedly are generated once."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.fast_threefry import fast_key

SAMPLERS = {
    "bits": lambda key: jax.random.bits(key, (3, 5)),
    "words in a loop": lambda key: jax.random.normal(key, (40, 60)),
    "an odd number above the loop size": lambda key: jax.random.bits(key, (2049,)),
    "a loop for each of several keys": lambda key: jax.vmap(lambda key: jax.random.bits(key, (3000,)))(
        jax.random.split(key, 2)
    ),
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
@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_equal_those_of_jax(name, reused):
    key, sampler = jax.random.key(12345), jax.jit(SAMPLERS[name])
    np.testing.assert_array_equal(sampler(key), sampler(fast_key(key, reused)))
    assert (
        fast_key(fast_key(key, reused), not reused).dtype
        == fast_key(key, not reused).dtype
        != fast_key(key, reused).dtype
    )


def test_reused_bits_are_generated_in_one_computation():
    """The rounds are in a loop, which XLA does not duplicate when it fuses."""

    @jax.jit
    def sample_and_densities(key, loc, scale):
        z = loc + scale * jax.random.normal(key, (50, 20, 50))
        return z @ jnp.ones((50, 200)), -jnp.square((z - loc) / scale).sum(-1), -jnp.square(z).sum(-1)

    def copies(key) -> int:
        text = sample_and_densities.lower(key, jnp.zeros((1, 20, 50)), jnp.ones((1, 20, 50))).compile().as_text()
        return sum(computation.count(" xor(") > 10 for computation in text.split("\n}\n"))

    key = jax.random.key(0)
    assert copies(fast_key(key, reused=True)) == 1


def test_double_precision_samples_equal_those_of_jax(x64):
    key = jax.random.key(3)
    np.testing.assert_array_equal(jax.random.normal(key, (5,)), jax.random.normal(fast_key(key), (5,)))


def test_poisson_samples_use_the_generator_of_jax():
    """JAX's sampler of the Poisson distribution accepts no other generator."""
    q, key = dist.Poisson(jnp.full((1, 2, 3), 4.0)), jax.random.key(1)
    for reused in (False, True):
        np.testing.assert_array_equal(pathwise.sample(q, key, 5), pathwise.sample(q, fast_key(key, reused), 5))


def test_keys_of_other_generators_are_returned():
    key = jax.random.key(0, impl="rbg")
    assert fast_key(key) is key and fast_key(key, reused=True) is key
