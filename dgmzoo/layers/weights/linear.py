"""`dense`: make a dense layer with plain or Bayesian weights; `conv`: make a convolution with such weights.

The noise of random weights is set for a whole call of the model, by `dgmzoo.model.random_weights`.
"""

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

_MIN_VARIANCE = 1e-16  # of local noise; the square root has no finite gradient at 0


class RandomLinear(nn.Module):
    """A linear map with random weights, and a bias that is a plain parameter.

    In training with one sample, every example has its own sample of the weights if the estimator is exact
    (`Weights.estimator`). In training with several samples, all samples and examples share one sample of the whole
    network. Outside training the mean weights are used, unless `Query.weights` is the key of a sample. `functional` adds
    the KL once, even if the layer is called several times.

    >>> RandomLinear(features=3).weights.posterior.__name__
    'Normal'

    Raises:
      ValueError: the weights are plain parameters.
    """

    features: int = 1
    """Number of output units."""
    weights: Weights = dataclasses.field(default_factory=VariationalWeights)
    """Posterior, prior and estimator of the weights."""
    kernel_init: Init = nn.initializers.glorot_uniform()
    """Initializer of the posterior's locations."""
    bias_init: Init = nn.initializers.zeros
    """Initializer of the bias."""

    def __post_init__(self):
        super().__post_init__()
        if not self.weights.is_random:
            raise ValueError(
                f"expected random weights, got {type(self.weights).__name__}; use `dense`, which chooses the layer"
            )

    def linear(self, x: jax.Array, shape: tuple[int, ...], product: Callable, positions: int = 0) -> jax.Array:
        """Product of x with random weights, plus the bias.

        Args:
          shape: of the weights.
          product: function `(x, weights) -> output` that is linear in both arguments.
          positions: number of axes before the last at which one example uses the same weights again.
        """
        unconstrained = {
            name: self.param(name, init) for name, init in self.weights.parameters(shape, self.kernel_init).items()
        }
        bias = self.param("bias", self.bias_init, shape[-1:], jnp.float32)
        out = self._random_product(x, unconstrained, _in_compute_dtype(product), positions)
        return out + bias.astype(out.dtype).reshape((1,) * (out.ndim - 1) + (-1,))

    def _random_product(self, x, unconstrained, product, positions):
        noise = weight_noise()
        is_repeated = noise.report(self.path, self.weights, unconstrained)
        if noise.key is None:
            return product(x, self.weights.mean(unconstrained))
        scales_key, weights_key = jax.random.split(noise.key_of(self.path))
        q = self.weights.posterior_given(unconstrained, scales_key)
        leading_shape = x.shape[: x.ndim - 1 - positions]
        estimator = self._estimator(q, positions) if math.prod(leading_shape) == noise.examples else "shared"
        if is_repeated and estimator != "shared":
            raise ValueError(
                f"expected {'/'.join(self.path)} to be called once where each example has its own weights, got a second "
                "call; set the estimator of its weights to shared"
            )
        if estimator == "local":
            mean, variance = product(x, q.loc), product(jnp.square(x), jnp.square(q.scale))
            scale = jnp.sqrt(jnp.maximum(variance, jnp.asarray(_MIN_VARIANCE, variance.dtype)))
            return mean + scale * jax.random.normal(weights_key, mean.shape, mean.dtype)
        with relaxed_promotion():
            w = q.sample(weights_key)
        if estimator == "flipout":
            keys, ones = jax.random.split(jax.random.fold_in(weights_key, 1)), (1,) * positions
            signs_in = jax.random.rademacher(keys[0], (*leading_shape, *ones, x.shape[-1]), x.dtype)
            mean, deviation = product(x, q.loc), product(x * signs_in, w - q.loc)
            signs_out = jax.random.rademacher(keys[1], (*leading_shape, *ones, self.features), deviation.dtype)
            return mean + deviation * signs_out
        return product(x, w)

    def _estimator(self, q: dist.Distribution, positions: int) -> str:
        estimator = self.weights.estimator
        if estimator == "local" and positions:
            raise ValueError(
                "expected estimator flipout, shared or auto for weights that are used at many positions, got 'local', "
                "whose noise would be independent between positions"
            )
        if estimator != "auto":
            return estimator
        if isinstance(q, dist.Normal) and not positions:
            return "local"
        return "flipout" if isinstance(q, SYMMETRIC) else "shared"


class VariationalDense(RandomLinear):
    """A dense layer with random weights `[inputs, features]`.

    Source of the local reparameterization: Kingma, Salimans & Welling 2015.

    >>> VariationalDense(3).features
    3
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[..., inputs]` to `[..., features]`."""
        return self.linear(x, (x.shape[-1], self.features), lambda x, w: jnp.tensordot(x, w, 1))


class VariationalConv(RandomLinear):
    """A convolution in one to three dimensions with random weights `[*kernel_size, inputs, features]`.

    Source of flipout: Wen et al. 2018 (arXiv 1803.04386).

    >>> VariationalConv(8).kernel_size
    (3, 3)
    """

    kernel_size: tuple[int, ...] = (3, 3)
    """Size of the convolution window."""
    strides: tuple[int, ...] | None = None
    """Strides of the convolution window; None: 1."""
    padding: str = "SAME"
    """SAME or VALID."""

    _axes: ClassVar = {1: "NWC", 2: "NHWC", 3: "NDHWC"}

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x `[..., *space, inputs]` to `[..., *space, features]`."""
        dims = len(self.kernel_size)
        if dims not in self._axes or x.ndim < dims + 2:
            raise ValueError(
                f"expected x of shape [..., *space, channels] for a kernel of size {self.kernel_size}, got {x.shape}"
            )
        axes = self._axes[dims]
        kernel_axes = axes.replace("N", "").replace("C", "") + "IO"

        def product(x, w):
            flat = x.reshape(-1, *x.shape[-dims - 1 :])
            strides = self.strides or (1,) * dims
            out = jax.lax.conv_general_dilated(
                flat, w, strides, self.padding, dimension_numbers=(axes, kernel_axes, axes)
            )
            return out.reshape(*x.shape[: -dims - 1], *out.shape[1:])

        shape = (*self.kernel_size, x.shape[-1], self.features)
        return self.linear(x, shape, product, positions=dims)


def dense(features: int, weights: Weights, bias_init: Init = nn.initializers.zeros) -> nn.Module:
    """A dense layer: Flax's own for plain parameters, `VariationalDense` for random weights.

    >>> type(dense(3, VariationalWeights())).__name__
    'VariationalDense'
    """
    if weights.is_random:
        return VariationalDense(features, weights, bias_init=bias_init)
    kernel_init = nn.initializers.glorot_uniform()
    return nn.Dense(features, dtype=compute_dtype(), kernel_init=kernel_init, bias_init=bias_init)


def conv(features: int, weights: Weights, window: int, stride: int = 1) -> nn.Module:
    """A convolution of images: Flax's own for plain parameters, `VariationalConv` for random weights.

    >>> type(conv(8, VariationalWeights(), window=3)).__name__
    'VariationalConv'
    """
    size, strides = (window, window), (stride, stride)
    if weights.is_random:
        return VariationalConv(features, weights, kernel_size=size, strides=strides)
    return nn.Conv(features, size, strides, dtype=compute_dtype(), kernel_init=nn.initializers.glorot_uniform())


def _in_compute_dtype(product: Callable) -> Callable:
    """The product with both arguments cast to the dtype of `precision`."""
    return lambda x, w: product(*nn.dtypes.promote_dtype(x, w, dtype=compute_dtype()))
