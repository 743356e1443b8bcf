"""Convolutional networks between flat images and features."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.networks.mlp import Activation
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import conv, dense


class ConvEncoder(nn.Module):
    """Convolutions that halve the image, each followed by the activation: `[..., H * W * C]` to `[..., features]`."""

    shape: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    channels: tuple[int, ...] = (32, 64)
    """Of the layers; each halves height and width."""
    window: int = 3
    """Side of the convolutions' windows."""
    activation: Activation = "relu"
    """Applied after every layer."""
    weights: Weights = PointWeights()
    """Of every layer: plain parameters, or with a posterior and a prior."""

    def __post_init__(self):
        super().__post_init__()
        _check(self)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        lead = x.shape[:-1]
        if x.shape[-1] != math.prod(self.shape):
            raise ValueError(
                f"expected images of shape {self.shape}, {math.prod(self.shape)} values, got {x.shape[-1]}; "
                "set the network's `shape`"
            )
        x = x.reshape(-1, *self.shape)
        for channels in self.channels:
            x = getattr(nn, self.activation)(conv(channels, self.weights, self.window, stride=2)(x))
        return x.reshape(*lead, -1)


class ConvDecoder(nn.Module):
    """From a small image of features up to the full one by doubling and convolving: `[..., U]` to `[..., H, W, F]`.

    Doubling by repetition leaves no checkerboards, as transposed convolutions do (Odena, Dumoulin & Olah 2016).
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    channels: tuple[int, ...] = (64, 32)
    """Of the layers; each doubles height and width."""
    window: int = 3
    """Side of the convolutions' windows."""
    activation: Activation = "relu"
    """Applied after every layer."""
    weights: Weights = PointWeights()
    """Of every layer: plain parameters, or with a posterior and a prior."""

    def __post_init__(self):
        super().__post_init__()
        _check(self)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        activation = getattr(nn, self.activation)
        sizes = [self.shape[:2]]
        for _ in self.channels:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        small, *larger = sizes[::-1]
        x = activation(dense(math.prod(small) * self.channels[0], self.weights)(z)).reshape(
            -1, *small, self.channels[0]
        )
        for channels, (height, width) in zip(self.channels, larger, strict=True):
            x = jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)[:, :height, :width]
            x = activation(conv(channels, self.weights, self.window)(x))
        return x.reshape(*z.shape[:-1], *x.shape[1:])


def _check(network: ConvEncoder | ConvDecoder) -> None:
    if len(network.shape) != 3 or min(network.shape) < 1:
        raise ValueError(f"expected the shape [H, W, C] of an image, got {network.shape}")
    if not network.channels or min(network.channels) < 1 or network.window < 1:
        raise ValueError(f"expected at least one layer of channels >= 1 and a window >= 1, got {network}")
