"""`Observe`: the encoder that turns stored rows into a batch of scaled or binarized values."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Observe:
    """Encoder of stored rows as a batch: a pure, hashable function, and a part of the protocol.

    >>> observe = Observe("gray", maximum=16, kind="images")
    >>> observe(jax.random.key(0), {"x": jnp.array([[0, 4, 16]], jnp.uint8)})["x"].tolist()
    [[0.0, 0.25, 1.0]]
    """

    encoding: str | None
    maximum: int | None
    """The stored value of intensity 1, or None where values are intensities, or are not scaled."""
    kind: str
    """The kind of data, as `Entry.kind`."""

    def __call__(self, key: jax.Array, rows: Mapping[str, Any]) -> dict[str, jax.Array]:
        """Encode rows as a batch.

        Args:
          key: read by the encoding `dynamic` alone.
          rows: `x` [B, ...] as stored, and optionally `mask` of the first axes of `x`, and other fields.

        Returns:
          `x` float32 [B, ...] (int32 for tokens and classes), `mask` of the same shape, other fields unchanged.
        """
        batch = {name: jnp.asarray(a) for name, a in rows.items()}
        if "mask" in batch:
            batch["mask"] = broadcast_mask(batch["mask"], batch["x"].shape, jnp)
        x = batch["x"]  # flattened: compiled for CPU, the arithmetic of short last axes is 50 times slower
        return {**batch, "x": self._encode(key, x.reshape(-1)).reshape(x.shape)}

    def _encode(self, key: jax.Array, x: jax.Array) -> jax.Array:
        if self.encoding == "dynamic":
            return (uniform_16bit(key, x.shape) < _bernoulli_threshold(x, self.maximum)).astype(jnp.float32)
        if self.encoding == "threshold":
            return above_half(x, self.maximum, jnp).astype(jnp.float32)
        if self.encoding in (None, "gray") and self.maximum not in (None, 1):
            return x.astype(jnp.float32) * jnp.float32(1 / self.maximum)
        return x.astype(jnp.int32 if self.integer_valued else jnp.float32)

    @property
    def integer_valued(self) -> bool:
        """True if values are numbers of classes or of words, int32."""
        return self.kind == "tokens" or self.encoding == "classes"


def broadcast_mask(mask: Any, shape: tuple[int, ...], xp: Any) -> Any:
    """Broadcast a mask of the first axes of `shape` over the remaining axes.

    Args:
      xp: `jax.numpy` or `numpy`.

    >>> broadcast_mask(jnp.array([True, False]), (2, 3), jnp).tolist()
    [[True, True, True], [False, False, False]]
    """
    return xp.broadcast_to(mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)), shape)


def uniform_16bit(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform whole numbers 0..65535, uint32: two from each 32-bit word, which halves the cost of sampling.

    >>> uniform_16bit(jax.random.key(0), (3,)).shape
    (3,)
    """
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jnp.concatenate([words & jnp.uint32(0xFFFF), words >> jnp.uint32(16)])
    return halves[:size].reshape(shape)


def _bernoulli_threshold(x: jax.Array, maximum: int | None) -> jax.Array:
    """`host_random.bernoulli_threshold` on the device: P(uniform_16bit < t) = t / 65536 is off by at most 2^-17."""
    if maximum is None:
        return jnp.round(x.astype(jnp.float32) * 65536).astype(jnp.uint32)
    return (x.astype(jnp.uint32) * jnp.uint32(65536) + jnp.uint32(maximum // 2)) // jnp.uint32(maximum)


def above_half(x: Any, maximum: int | None, xp: Any) -> Any:
    """The comparison x / maximum > 1/2, bool; exactly one half gives False.

    Args:
      xp: `jax.numpy` or `numpy`.

    >>> above_half(jnp.array([7, 8, 9], jnp.uint8), 16, jnp).tolist()
    [False, False, True]
    """
    return x > 0.5 if maximum is None else x.astype(xp.int32) * 2 > maximum
