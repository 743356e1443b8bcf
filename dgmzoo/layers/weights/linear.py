"""Dense and convolutional layers with random weights; how their noise enters is decided by who asks (`weight_noise`)."""

import dataclasses
import math
from collections.abc import Callable
from typing import ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.weights.base import SYMMETRIC, Init, VariationalWeights, Weights
from dgmzoo.model.precision import compute_dtype
from dgmzoo.model.random_weights import weight_noise
from dgmzoo.reparam.ops import relaxed_promotion

_LEAST = 1e-16  # variance below which local noise carries no gradient: there the square root has none


class RandomLinear(nn.Module):
    """A linear map with random weights and a bias that is a plain parameter.

    Training with one sample gives every example a draw of its own where that is exact (`Weights.estimator`); with
    more, all samples and examples share one draw of the whole network. Elsewhere the mean weights are used, unless the
    query has a key to draw them by. The KL is reported to `functional`, once however often the layer is called.
    """

    features: int = 1
    """Number of units out."""
    weights: Weights = dataclasses.field(default_factory=VariationalWeights)
    """Posterior, prior and estimator."""
    kernel_init: Init = nn.initializers.glorot_uniform()
    """Of the posterior's locations."""
    bias_init: Init = nn.initializers.zeros
    """Of the bias."""

    def __post_init__(self):
        super().__post_init__()
        if not self.weights.is_random:
            raise ValueError(
                f"expected random weights, got {type(self.weights).__name__}; use `dense`, which chooses the layer"
            )

    def through(self, x: jax.Array, shape: tuple[int, ...], product: Callable, positions: int = 0) -> jax.Array:
        """x through weights of a shape, by a product that is linear in x and in them; then the bias.

        Args:
          positions: axes before the last over which the same weights are used again for one example.
        """
        unconstrained = {
            name: self.param(name, init) for name, init in self.weights.parameters(shape, self.kernel_init).items()
        }
        bias = self.param("bias", self.bias_init, shape[-1:], jnp.float32)
        out = self._random(x, unconstrained, _in_compute_dtype(product), positions)
        return out + bias.astype(out.dtype).reshape((1,) * (out.ndim - 1) + (-1,))

    def _random(self, x, unconstrained, product, positions):
        noise = weight_noise()
        again = noise.report(self.path, self.weights, unconstrained)
        if noise.key is None:
            return product(x, self.weights.mean(unconstrained))
        shared, own = jax.random.split(noise.key_of(self.path))
        q = self.weights.posterior_given(unconstrained, shared)
        lead = x.shape[: x.ndim - 1 - positions]
        estimator = self._estimator(q, positions) if math.prod(lead) == noise.examples else "shared"
        if again and estimator != "shared":
            raise ValueError(
                f"expected {'/'.join(self.path)} to be used once where each example has weights of its own, got a "
                "second use; set the estimator of its weights to shared"
            )
        if estimator == "local":
            mean, variance = product(x, q.loc), product(jnp.square(x), jnp.square(q.scale))
            spread = jnp.sqrt(jnp.maximum(variance, jnp.asarray(_LEAST, variance.dtype)))
            return mean + spread * jax.random.normal(own, mean.shape, mean.dtype)
        with relaxed_promotion():
            w = q.sample(own)
        if estimator == "flipout":
            keys, single = jax.random.split(jax.random.fold_in(own, 1)), (1,) * positions
            signs_in = jax.random.rademacher(keys[0], (*lead, *single, x.shape[-1]), x.dtype)
            centre, turned = product(x, q.loc), product(x * signs_in, w - q.loc)
            return centre + turned * jax.random.rademacher(keys[1], (*lead, *single, self.features), turned.dtype)
        return product(x, w)

    def _estimator(self, q: dist.Distribution, positions: int) -> str:
        chosen = self.weights.estimator
        if chosen == "local" and positions:
            raise ValueError(
                "expected estimator flipout, shared or auto for weights that are used at many positions, got 'local': "
                "its noise would be independent between them"
            )
        if chosen != "auto":
            return chosen
        if isinstance(q, dist.Normal) and not positions:
            return "local"
        return "flipout" if isinstance(q, SYMMETRIC) else "shared"


class VariationalDense(RandomLinear):
    """A dense layer with random weights, `[inputs, features]`. Local noise: Kingma, Salimans & Welling 2015."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[..., inputs]` to `[..., features]`."""
        return self.through(x, (x.shape[-1], self.features), lambda x, w: jnp.tensordot(x, w, 1))


class VariationalConv(RandomLinear):
    """A convolution with random weights, `[*kernel_size, inputs, features]`. Flipout: Wen et al. 2018 (1803.04386)."""

    kernel_size: tuple[int, ...] = (3, 3)
    """Size of the window."""
    strides: tuple[int, ...] | None = None
    """Steps of the window; None: 1."""
    padding: str = "SAME"
    """SAME or VALID."""

    _axes: ClassVar = {1: "NWC", 2: "NHWC", 3: "NDHWC"}

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[..., *space, inputs]` to `[..., *space, features]`."""
        window = len(self.kernel_size)
        if window not in self._axes or x.ndim < window + 2:
            raise ValueError(f"expected x of shape [..., space, channels] for {self.kernel_size}, got {x.shape}")
        axes = self._axes[window]
        kernel_axes = axes.replace("N", "").replace("C", "") + "IO"

        def product(x, w):
            flat = x.reshape(-1, *x.shape[-window - 1 :])
            strides = self.strides or (1,) * window
            out = jax.lax.conv_general_dilated(
                flat, w, strides, self.padding, dimension_numbers=(axes, kernel_axes, axes)
            )
            return out.reshape(*x.shape[: -window - 1], *out.shape[1:])

        shape = (*self.kernel_size, x.shape[-1], self.features)
        return self.through(x, shape, product, positions=window)


def dense(features: int, weights: Weights, bias_init: Init = nn.initializers.zeros) -> nn.Module:
    """A dense layer with weights of a kind: Flax's own where they are points."""
    if weights.is_random:
        return VariationalDense(features, weights, bias_init=bias_init)
    glorot = nn.initializers.glorot_uniform()
    return nn.Dense(features, dtype=compute_dtype(), kernel_init=glorot, bias_init=bias_init)


def conv(features: int, weights: Weights, window: int, stride: int = 1) -> nn.Module:
    """A convolution of images with weights of a kind: Flax's own where they are points."""
    size, strides = (window, window), (stride, stride)
    if weights.is_random:
        return VariationalConv(features, weights, kernel_size=size, strides=strides)
    return nn.Conv(features, size, strides, dtype=compute_dtype(), kernel_init=nn.initializers.glorot_uniform())


def _in_compute_dtype(product: Callable) -> Callable:
    return lambda x, w: product(*nn.dtypes.promote_dtype(x, w, dtype=compute_dtype()))
