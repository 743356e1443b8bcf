"""`MaskedDense`: a dense layer for autoregressive networks; `made_degrees`: the unit degrees that define its masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import RandomLinear
from dgmzoo.model.precision import compute_dtype


class MaskedDense(nn.Module):
    """A dense layer that connects unit i to unit j if degree_out[j] >= degree_in[i], or > if it is strict.

    >>> layer, degrees = MaskedDense(2, strict=True), jnp.array([1, 2])
    >>> kernel_and_bias = {"params": {"kernel": jnp.ones((2, 2)), "bias": jnp.zeros(2)}}
    >>> layer.apply(kernel_and_bias, jnp.ones((1, 2)), degrees, degrees).tolist()
    [[0.0, 1.0]]
    """

    features: int = 1
    """Number of output units."""
    strict: bool = False
    """Connect only if the degree rises, as in the output layer."""
    weights: Weights = PointWeights()
    """Weights: plain parameters, or random weights with a posterior and a prior."""

    @nn.compact
    def __call__(self, x: jax.Array, degree_in: jax.Array, degree_out: jax.Array) -> jax.Array:
        """x `[..., in]`, degrees `[in]` and `[out]` to `[..., out]`."""
        compare = jnp.greater if self.strict else jnp.greater_equal
        mask = compare(degree_out[None, :], degree_in[:, None])  # [in, out]
        if self.weights.is_random:
            return _RandomMasked(self.features, self.weights)(x, mask)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, _masked(kernel, mask), bias, dtype=compute_dtype())
        return x @ kernel + bias[None]


class _RandomMasked(RandomLinear):
    """Masked random weights. The KL includes masked weights, which training moves to the prior, where their KL is 0."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        return self.linear(x, (x.shape[-1], self.features), lambda x, w: jnp.tensordot(x, _masked(w, mask), 1))


def _masked(kernel: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, kernel, jnp.zeros((), kernel.dtype))


def made_degrees(
    num_inputs: int, hidden: tuple[int, ...], num_masks: int, random_order: bool, seed: int
) -> list[np.ndarray]:
    """Degrees of the units of each layer, for each of `num_masks` networks.

    The degree of an input is its position in the order, from 1. Degrees of hidden units are uniform between the smallest
    degree of the layer below and D - 1.

    Returns:
      Integer arrays: `[num_masks, D]` for the inputs, then `[num_masks, width]` for each hidden layer.

    Source: Germain et al. 2015 (arXiv 1502.03509), section 4.

    >>> made_degrees(3, hidden=(), num_masks=1, random_order=False, seed=0)[0].tolist()
    [[1, 2, 3]]
    """
    random = np.random.Generator(np.random.Philox(seed))
    natural = np.arange(1, num_inputs + 1)
    layers = [np.stack([random.permutation(natural) if random_order else natural for _ in range(num_masks)])]
    for width in hidden:
        lowest = np.minimum(layers[-1].min(1), num_inputs - 1)
        degrees = [random.integers(low, max(num_inputs, low + 1), width) for low in lowest]
        layers.append(np.stack(degrees))
    return [layer.astype(np.int32) for layer in layers]
