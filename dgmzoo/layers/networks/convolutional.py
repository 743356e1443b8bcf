"""`ConvEncoder`: a convolutional network that maps images to features; `ConvDecoder`: one that maps codes to images."""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.networks.mlp import Activation
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import conv, dense


class ConvEncoder(nn.Module):
    """Convolutions that halve height and width, each followed by the activation: `[..., H * W * C]` to `[..., features]`.

    >>> ConvEncoder(shape=(8, 8, 1)).channels
    (32, 64)

    Raises:
      ValueError: a size is below 1; when called, x has another size than `shape`.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    channels: tuple[int, ...] = (32, 64)
    """Channels of each layer, which halves height and width."""
    window: int = 3
    """Side of the convolution windows."""
    activation: Activation = "relu"
    """Activation after every layer."""
    weights: Weights = PointWeights()
    """Weights of every layer: plain parameters, or random weights with a posterior and a prior."""

    def __post_init__(self):
        super().__post_init__()
        _check(self)

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        leading_shape = x.shape[:-1]
        if x.shape[-1] != math.prod(self.shape):
            raise ValueError(
                f"expected images of shape {self.shape}, {math.prod(self.shape)} values, got {x.shape[-1]}; "
                "set the network's `shape`"
            )
        x = x.reshape(-1, *self.shape)
        for channels in self.channels:
            x = getattr(nn, self.activation)(conv(channels, self.weights, self.window, stride=2)(x))
        return x.reshape(*leading_shape, -1)


class ConvDecoder(nn.Module):
    """A dense layer to a small image of features, then upsampling and convolutions: `[..., U]` to `[..., H, W, F]`.

    Upsampling repeats every pixel, because transposed convolutions produce checkerboard artifacts (Odena, Dumoulin &
    Olah 2016).

    >>> ConvDecoder(shape=(8, 8, 1)).channels
    (64, 32)

    Raises:
      ValueError: a size is below 1.
    """

    shape: tuple[int, int, int] = (28, 28, 1)
    """Height, width and channels of an image."""
    channels: tuple[int, ...] = (64, 32)
    """Channels of each layer, which doubles height and width."""
    window: int = 3
    """Side of the convolution windows."""
    activation: Activation = "relu"
    """Activation after every layer."""
    weights: Weights = PointWeights()
    """Weights of every layer: plain parameters, or random weights with a posterior and a prior."""

    def __post_init__(self):
        super().__post_init__()
        _check(self)

    @nn.compact
    def __call__(self, z: jax.Array) -> jax.Array:
        activation = getattr(nn, self.activation)
        sizes = [self.shape[:2]]
        for _ in self.channels:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        smallest, *larger = sizes[::-1]
        x = activation(dense(math.prod(smallest) * self.channels[0], self.weights)(z)).reshape(
            -1, *smallest, self.channels[0]
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
