"""Plain networks between the variational layers."""

import math
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense

Activation = Literal["tanh", "relu", "gelu", "silu", "softplus"]


class MLP(nn.Module):
    """Dense layers, each followed by the activation; the last axis in, the last axis out."""

    hidden: tuple[int, ...] = (200, 200)
    """Widths of the layers; empty for none (the identity)."""
    activation: Activation = "tanh"
    """Applied after every layer."""
    weights: Weights = PointWeights()
    """Of every layer: plain parameters, or with a posterior and a prior."""

    def __post_init__(self):
        super().__post_init__()
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"expected hidden widths >= 1, got {self.hidden}")
        if not hasattr(nn, self.activation):
            raise ValueError(f"expected an activation of flax.linen, got {self.activation!r}")

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = getattr(nn, self.activation)(dense(width, self.weights)(x))
        return x


def flat(x: jax.Array, shape: tuple[int, ...] | None, mask: jax.Array | None = None) -> jax.Array:
    """x `[B, *shape]` as floats `[B, D]` for a network; where its mask is False, what is not observed enters as 0.

    Raises:
      ValueError: no shape is set, or x has another one.
    """
    if shape is None:
        raise ValueError("expected the entry's `shape` (of one x) to be set, got None; pass shape=... to the module")
    if x.shape[1:] != tuple(shape):
        raise ValueError(f"expected x of shape [B, {', '.join(map(str, shape))}], got {list(x.shape)}")
    if mask is not None:
        x = jnp.where(mask, x, jnp.zeros((), x.dtype))
    x = x.reshape(x.shape[0], math.prod(shape))
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
