"""`MLP`: a network of dense layers with activations; `network`: declare a module field that holds a network."""

import dataclasses
import math
import operator
from collections.abc import Iterable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense

Activation = Literal["tanh", "relu", "gelu", "silu", "softplus"]


class MLP(nn.Module):
    """Dense layers over the last axis, each followed by the activation: `[..., D]` to `[..., H]`.

    >>> MLP((300, 100)).activation
    'tanh'

    Raises:
      ValueError: `hidden` is not a tuple of whole numbers of at least 1, or `flax.linen` has no such activation.
    """

    hidden: tuple[int, ...] = (200, 200)
    """Widths of the layers; empty for the identity."""
    activation: Activation = "tanh"
    """Activation after every layer."""
    weights: Weights = PointWeights()
    """Weights of every layer: plain parameters, or random weights with a posterior and a prior."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden))
        if not isinstance(self.activation, str) or not callable(getattr(nn, self.activation, None)):
            raise ValueError(
                f"expected the name of an activation of flax.linen, such as 'relu' or 'tanh', got {self.activation!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        for width in self.hidden:
            x = getattr(nn, self.activation)(dense(width, self.weights)(x))
        return x


def check_widths(name: str, widths: Iterable[int], least: int = 0) -> tuple[int, ...]:
    """Widths of at least `least` layers as Python integers.

    >>> import numpy as np
    >>> check_widths("hidden", (np.int64(16), 8))
    (16, 8)

    Raises:
      ValueError: not a sequence of whole numbers, too few, or a width below 1.
    """
    try:
        numbers = tuple(_whole(width) for width in widths)
    except TypeError:
        raise ValueError(f"expected {name} as a tuple of whole numbers, such as (16,), got {widths!r}") from None
    if any(width < 1 for width in numbers):
        raise ValueError(f"expected {name} widths >= 1, got {numbers}")
    if len(numbers) < least:
        raise ValueError(f"expected at least {least} {name} layer, got {numbers}; give its width, such as (16,)")
    return numbers


def _whole(width: int) -> int:
    if isinstance(width, bool):
        raise TypeError(width)
    return operator.index(width)


def check_shape(x: jax.Array, shape: tuple[int, ...] | None) -> None:
    """Refuse x `[B, ...]` of another shape than that of the entry.

    Raises:
      ValueError: `shape` is None, or x has another shape.

    >>> check_shape(jnp.ones((5, 2)), (2,))
    """
    if shape is None:
        raise ValueError("expected the entry's `shape` (of one x) to be set, got None; pass shape=... to the module")
    if x.shape[1:] != tuple(shape):
        raise ValueError(f"expected x of shape [B, {', '.join(map(str, shape))}], got {list(x.shape)}")


def network(default: nn.Module | None) -> nn.Module:
    """A field of an entry that holds a network, which is chosen by name: `encoder: nn.Module = network(MLP((200,)))`.

    >>> class Entry(nn.Module):
    ...     encoder: nn.Module = network(MLP((200,)))
    >>> Entry().encoder.hidden
    (200,)
    """
    return dataclasses.field(default_factory=lambda: default, metadata={"axis": "network"})


def flat(x: jax.Array, shape: tuple[int, ...] | None, mask: jax.Array | None = None) -> jax.Array:
    """Flatten x `[B, *shape]` to the float input `[B, D]` of a network.

    Args:
      mask: `[B, *shape]`; elements with False are not observed and are replaced by 0.

    Raises:
      ValueError: `shape` is None, or x has another shape.

    >>> flat(jnp.ones((5, 2, 3), int), (2, 3)).shape
    (5, 6)
    """
    check_shape(x, shape)
    if mask is not None:
        x = jnp.where(mask, x, jnp.zeros((), x.dtype))
    x = x.reshape(x.shape[0], math.prod(shape))
    return x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32)
