"""Plain networks between the variational layers."""

from typing import Literal

import flax.linen as nn
import jax

from dgmzoo.layers.linear import dense
from dgmzoo.layers.weights import PointWeights, Weights

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
