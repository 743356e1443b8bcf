"""`fast_key`: convert a Threefry key to a faster generator of the same numbers; `standard_key`: convert it back.

On CPU, JAX runs the rounds of Threefry in loops, which keeps compilation short but sends every word through memory in
every round. The generator below unrolls the rounds, so that XLA fuses them into one loop over the words.
"""

import functools
import math

import chex
import jax
import jax.extend.random
import jax.numpy as jnp

_MIN_LOOP_SIZE = 2048  # words; generating fewer in a loop does not pay
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def fast_key(key: chex.PRNGKey, reused: bool = False) -> chex.PRNGKey:
    """Convert a Threefry key to the fast generator. Samples stay the same to the bit; other kinds of keys are returned.

    Args:
      reused: set it if a program uses each sample in several places (the sample, its density, the density of its prior).
        By default the compiler may generate the bits again at every place. With `reused` they are generated once, which
        is slightly slower if there is only one place.

    >>> key = jax.random.key(0)
    >>> bool(jax.random.normal(key) == jax.random.normal(fast_key(key)))
    True
    """
    key = standard_key(key)
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_REUSED if reused else _USED_ONCE)


def standard_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """Convert a key of the fast generator back to JAX's own. Some samplers of JAX (Poisson's) accept no other.

    >>> jax.random.key_impl(standard_key(fast_key(jax.random.key(0))))
    'threefry2x32'
    """
    fast_dtypes = {
        jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl=impl).dtype for impl in (_REUSED, _USED_ONCE)
    }
    return _wrap(jax.random.key_data(key)) if key.dtype in fast_dtypes else key


def _threefry(key: chex.Array, low: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Threefry-2x32 of the counters (0, low).

    Source: Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1, 2, 3", section 3.3 and table 2.
    """
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = jnp.full_like(low, schedule[0]), low + schedule[1]
    for i in range(5):
        for rotation in _ROTATIONS[i % 2]:
            a = a + b
            b = a ^ (b << jnp.uint32(rotation) | b >> jnp.uint32(32 - rotation))
        a = a + schedule[(i + 1) % 3]
        b = b + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


def _words(key: chex.Array, start: chex.Numeric, num: int) -> chex.Array:
    a, b = _threefry(key, start + jax.lax.iota(jnp.uint32, num))
    return a ^ b


def _bits(key: chex.Array, bit_width: int, shape: tuple[int, ...], reused: bool) -> chex.Array:
    size = math.prod(shape)
    if bit_width != 32 or size >= 2**32 or not jax.config.jax_threefry_partitionable:
        return jax.random.bits(_wrap(key), shape, jnp.dtype(f"uint{bit_width}"))
    if not reused or size < _MIN_LOOP_SIZE:
        return _words(key, jnp.uint32(0), size).reshape(shape)
    # XLA keeps a loop of two iterations and does not copy its body to every place that uses the words.
    half = -(-size // 2)
    _, words = jax.lax.scan(lambda _, start: (None, _words(key, start, half)), None, jnp.array([0, half], jnp.uint32))
    return words.ravel()[:size].reshape(shape)


def _wrap(key: chex.Array) -> chex.PRNGKey:
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def _implementation(name: str, tag: str, reused: bool):
    return jax.extend.random.define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
        split=lambda key, shape: jax.random.key_data(jax.random.split(_wrap(key), shape)),
        random_bits=functools.partial(_bits, reused=reused),
        fold_in=lambda key, data: jax.random.key_data(jax.random.fold_in(_wrap(key), data)),
        name=name,
        tag=tag,
    )


_USED_ONCE = _implementation("threefry2x32 unrolled", "fryq", reused=False)
_REUSED = _implementation("threefry2x32 unrolled, generated once", "fryo", reused=True)
