"""`Observe`: rows as stored to a batch as modelled, inside the training step."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp


@dataclass(frozen=True)
class Observe:
    """Rows as stored to a batch as modelled: pure, hashable, part of the protocol."""

    encoding: str | None
    maximum: int | None
    kind: str

    def __call__(self, key: jax.Array, rows: Mapping[str, Any]) -> dict[str, jax.Array]:
        """A batch from rows `x` [B, ...]: float32 (int32 for tokens and classes), and a `mask` of the same shape.

        A `mask` [B, ...] of the first axes of `x` covers the others; `label` passes through. Only `dynamic` reads the
        key.
        """
        batch = {name: jnp.asarray(a) for name, a in rows.items()}
        if "mask" in batch:
            batch["mask"] = covering(batch["mask"], batch["x"].shape, jnp)
        x = batch["x"]  # worked on flat: compiled for CPU, the arithmetic of short last axes is 50 times slower
        return {**batch, "x": self._values(key, x.reshape(-1)).reshape(x.shape)}

    def _values(self, key: jax.Array, x: jax.Array) -> jax.Array:
        if self.encoding == "dynamic":
            return (uniform16(key, x.shape) < _threshold(x, self.maximum)).astype(jnp.float32)
        if self.encoding == "threshold":
            return above_half(x, self.maximum, jnp).astype(jnp.float32)
        if self.encoding in (None, "gray") and self.maximum not in (None, 1):
            return x.astype(jnp.float32) * jnp.float32(1 / self.maximum)
        return x.astype(jnp.int32 if self.whole else jnp.float32)

    @property
    def whole(self) -> bool:
        """Whether values are numbers of classes or words: int32."""
        return self.kind == "tokens" or self.encoding == "classes"


def covering(mask: Any, shape: tuple[int, ...], xp: Any) -> Any:
    """A mask of the first axes of `shape`, the same over the others, in JAX or NumPy (`xp`)."""
    return xp.broadcast_to(mask.reshape(*mask.shape, *(1,) * (len(shape) - mask.ndim)), shape)


def uniform16(key: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """Uniform whole numbers 0..65535, uint32: two from each 32-bit word, which halves the cost of a draw."""
    size = math.prod(shape)
    words = jax.random.bits(key, ((size + 1) // 2,), jnp.uint32)
    halves = jnp.concatenate([words & jnp.uint32(0xFFFF), words >> jnp.uint32(16)])
    return halves[:size].reshape(shape)


def _threshold(x: jax.Array, maximum: int | None) -> jax.Array:
    """`draws.threshold` on the device: P(uniform16 < t) = t / 65536 is off by at most 2^-17."""
    if maximum is None:
        return jnp.round(x.astype(jnp.float32) * 65536).astype(jnp.uint32)
    return (x.astype(jnp.uint32) * jnp.uint32(65536) + jnp.uint32(maximum // 2)) // jnp.uint32(maximum)


def above_half(x: Any, maximum: int | None, xp: Any) -> Any:
    """x / maximum > 1/2 in JAX or NumPy (`xp`); exactly one half gives 0."""
    return x > 0.5 if maximum is None else x.astype(xp.int32) * 2 > maximum
