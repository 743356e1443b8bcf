"""JAX's own random numbers, five times sooner on CPU.

There JAX keeps the rounds of Threefry in loops, so that programs compile quickly, and the words go through memory in
every round. Here the rounds are written out, and become one loop over the words. The bits are the same, and so are all
draws made of them.
"""

import functools
import math

import chex
import jax
import jax.extend.random
import jax.numpy as jnp

_MANY = 2048  # words; fewer are not worth a loop
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def fast_key(key: chex.PRNGKey, reused: bool = False) -> chex.PRNGKey:
    """The same key, whose draws are the same; keys of other generators than Threefry as they are.

    Args:
      reused: whether a program asks for each draw in several places (a sample, its density, its prior's). The compiler
        would work it out anew for each; it does so once, for a little more where there is but one place.
    """
    key = standard_key(key)
    if jax.random.key_impl(key) != "threefry2x32":
        return key
    return jax.random.wrap_key_data(jax.random.key_data(key), impl=_REUSED if reused else _USED_ONCE)


def standard_key(key: chex.PRNGKey) -> chex.PRNGKey:
    """Undo `fast_key`: some of JAX's samplers (Poisson's) ask for its own generator."""
    mine = {jax.random.wrap_key_data(jnp.zeros(2, jnp.uint32), impl=impl).dtype for impl in (_REUSED, _USED_ONCE)}
    return _typed(jax.random.key_data(key)) if key.dtype in mine else key


def _threefry(key: chex.Array, low: chex.Array) -> tuple[chex.Array, chex.Array]:
    """Threefry-2x32 of the counters (0, low). Salmon, Moraes, Dror & Shaw 2011, "Parallel random numbers: as easy as 1,
    2, 3", section 3.3 and table 2."""
    schedule = (key[0], key[1], key[0] ^ key[1] ^ jnp.uint32(0x1BD11BDA))
    a, b = jnp.full_like(low, schedule[0]), low + schedule[1]
    for i in range(5):
        for turn in _ROTATIONS[i % 2]:
            a = a + b
            b = a ^ (b << jnp.uint32(turn) | b >> jnp.uint32(32 - turn))
        a = a + schedule[(i + 1) % 3]
        b = b + schedule[(i + 2) % 3] + jnp.uint32(i + 1)
    return a, b


def _words(key: chex.Array, start: chex.Numeric, num: int) -> chex.Array:
    a, b = _threefry(key, start + jax.lax.iota(jnp.uint32, num))
    return a ^ b


def _bits(key: chex.Array, bit_width: int, shape: tuple[int, ...], reused: bool) -> chex.Array:
    size = math.prod(shape)
    if bit_width != 32 or size >= 2**32 or not jax.config.jax_threefry_partitionable:
        return jax.random.bits(_typed(key), shape, jnp.dtype(f"uint{bit_width}"))
    if not reused or size < _MANY:
        return _words(key, jnp.uint32(0), size).reshape(shape)
    half = -(-size // 2)  # two turns: XLA keeps such a loop, and does not copy it to where its words are used
    _, words = jax.lax.scan(lambda _, start: (None, _words(key, start, half)), None, jnp.array([0, half], jnp.uint32))
    return words.ravel()[:size].reshape(shape)


def _typed(key: chex.Array) -> chex.PRNGKey:
    return jax.random.wrap_key_data(key, impl="threefry2x32")


def _implementation(name: str, tag: str, reused: bool):
    return jax.extend.random.define_prng_impl(
        key_shape=(2,),
        seed=lambda seed: jax.random.key_data(jax.random.key(seed, impl="threefry2x32")),
        split=lambda key, shape: jax.random.key_data(jax.random.split(_typed(key), shape)),
        random_bits=functools.partial(_bits, reused=reused),
        fold_in=lambda key, data: jax.random.key_data(jax.random.fold_in(_typed(key), data)),
        name=name,
        tag=tag,
    )


_USED_ONCE = _implementation("threefry2x32 written out", "fryq", reused=False)
_REUSED = _implementation("threefry2x32 written out, once", "fryo", reused=True)
