"""Masked dense layers: networks in which output d sees only the inputs before d in some order."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import RandomLinear
from dgmzoo.model.precision import compute_dtype


class MaskedDense(nn.Module):
    """A dense layer whose connection from unit i to unit j exists where degree_out[j] >= degree_in[i] (or >)."""

    features: int = 1
    """Number of units out."""
    strict: bool = False
    """Connect only where the degree rises (the output layer)."""
    weights: Weights = PointWeights()
    """Plain parameters, or with a posterior and a prior."""

    @nn.compact
    def __call__(self, x: jax.Array, degree_in: jax.Array, degree_out: jax.Array) -> jax.Array:
        compare = jnp.greater if self.strict else jnp.greater_equal
        mask = compare(degree_out[None, :], degree_in[:, None])  # [in, out]
        if self.weights.is_random:
            return _RandomMasked(self.features, self.weights)(x, mask)
        kernel = self.param("kernel", nn.initializers.glorot_uniform(), (x.shape[-1], self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        x, kernel, bias = nn.dtypes.promote_dtype(x, _masked(kernel, mask), bias, dtype=compute_dtype())
        return x @ kernel + bias[None]


class _RandomMasked(RandomLinear):
    """Weights that no mask lets through pay their KL until they are at the prior, where they cost nothing."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array) -> jax.Array:
        return self.through(x, (x.shape[-1], self.features), lambda x, w: jnp.tensordot(x, _masked(w, mask), 1))


def _masked(kernel: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, kernel, jnp.zeros((), kernel.dtype))


def made_degrees(
    num_inputs: int, hidden: tuple[int, ...], num_masks: int, random_order: bool, seed: int
) -> list[np.ndarray]:
    """Degrees of each layer's units for each of `num_masks` networks: `[num_masks, D]`, then `[num_masks, width]`.

    An input's degree is its place in the order, from 1. Hidden degrees are uniform between the smallest degree of the
    layer below and D - 1. Source: Germain et al. 2015 (arXiv 1502.03509), section 4.
    """
    random = np.random.Generator(np.random.Philox(seed))
    natural = np.arange(1, num_inputs + 1)
    layers = [np.stack([random.permutation(natural) if random_order else natural for _ in range(num_masks)])]
    for width in hidden:
        lowest = np.minimum(layers[-1].min(1), num_inputs - 1)
        drawn = [random.integers(low, max(num_inputs, low + 1), width) for low in lowest]
        layers.append(np.stack(drawn))
    return [layer.astype(np.int32) for layer in layers]
