"""`MaskedMLP`: an autoregressive network; `MaskedDense`: its layers; `made_degrees`: the unit degrees that define masks."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.networks.mlp import Activation, check_widths
from dgmzoo.layers.weights.base import Init, PointWeights, Weights
from dgmzoo.layers.weights.linear import RandomLinear, dense
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
    kernel_init: Init = nn.initializers.glorot_uniform()
    """Initializer of the weights, or of the locations of their posterior."""

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        degree_in: jax.Array,
        degree_out: jax.Array,
        rows: jax.Array | None = None,
        columns: jax.Array | None = None,
    ) -> jax.Array:
        """x `[..., in]`, degrees `[in]` and `[out]` to `[..., out]`.

        Args:
          rows: numbers of the inputs that x holds; the others are 0. None: x holds all.
          columns: numbers of the outputs to compute; None: all.
        """
        compare = jnp.greater if self.strict else jnp.greater_equal
        mask = compare(degree_out[None, :], degree_in[:, None])  # [in, out]
        if self.weights.is_random:
            return _RandomMasked(self.features, self.weights, self.kernel_init)(x, mask, rows, columns)
        kernel = self.param("kernel", self.kernel_init, (len(degree_in), self.features), jnp.float32)
        bias = self.param("bias", nn.initializers.zeros, (self.features,), jnp.float32)
        kernel, bias = _part(_masked(kernel, mask), rows, columns), _part(bias, columns)
        x, kernel, bias = nn.dtypes.promote_dtype(x, kernel, bias, dtype=compute_dtype())
        return x @ kernel + bias.reshape((1,) * (x.ndim - 1) + (-1,))


class _RandomMasked(RandomLinear):
    """Masked random weights. The KL includes masked weights, which training moves to the prior, where their KL is 0."""

    @nn.compact
    def __call__(self, x: jax.Array, mask: jax.Array, rows: jax.Array | None, columns: jax.Array | None) -> jax.Array:
        def product(x, w):
            return jnp.tensordot(x, _part(_masked(w, mask), rows), 1)

        out = self.linear(x, mask.shape, product)
        return out if columns is None else out[..., columns]


def _masked(kernel: jax.Array, mask: jax.Array) -> jax.Array:
    return jnp.where(mask, kernel, jnp.zeros((), kernel.dtype))


def _part(array: jax.Array, *indices: jax.Array | None) -> jax.Array:
    """The entries with these numbers on each axis; None: all."""
    for axis, index in enumerate(indices):
        array = array if index is None else jnp.take(array, index, axis)
    return array


class MaskedMLP(nn.Module):
    """Dense layers whose outputs for element d depend on x_{<d} in an order: `[..., D * input_size]` to `[..., D * size]`.

    Several masks share the weights. Features of a context enter every layer, the output layer included, because the
    first element sees no other input. `start`, `outputs` and `update` compute the outputs of one element after another,
    with the first layer carried along, so that an element costs one row of it and the columns of its own outputs.

    >>> net = MaskedMLP(dims=3, size=2, hidden=(5,))
    >>> x = jnp.ones((4, 3))
    >>> net.apply(net.init(jax.random.key(0), x), x).shape
    (4, 6)

    Source: Germain, Gregor, Murray & Larochelle 2015 (arXiv 1502.03509), equations 8 to 13.

    Raises:
      ValueError: there is no hidden layer, or a width is below 1.
    """

    dims: int = 1
    """Number of elements (D)."""
    size: int = 1
    """Outputs of an element."""
    input_size: int = 1
    """Inputs of an element."""
    hidden: tuple[int, ...] = (500,)
    """Widths of the hidden layers."""
    num_masks: int = 1
    """Number of masks, which share the weights."""
    random_order: bool = False
    """Use a random order of the elements for each mask; otherwise all masks have the natural order."""
    mask_seed: int = 0
    """Seed of the masks and orders."""
    activation: Activation = "relu"
    """Activation after every hidden layer."""
    weights: Weights = PointWeights()
    """Weights of every layer: plain parameters, or random weights with a posterior and a prior."""
    head_init: Init = nn.initializers.glorot_uniform()
    """Initializer of the output layer."""

    def __post_init__(self):
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden, least=1))
        super().__post_init__()

    def setup(self):
        self.degrees = made_degrees(self.dims, self.hidden, self.num_masks, self.random_order, self.mask_seed)
        widths = (*self.hidden, self.dims * self.size)
        self.dense = [MaskedDense(width, weights=self.weights) for width in self.hidden]
        self.head = MaskedDense(widths[-1], strict=True, weights=self.weights, kernel_init=self.head_init)
        self.from_context = [dense(width, self.weights) for width in widths]

    def __call__(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | int = 0) -> jax.Array:
        """The outputs `[..., D * size]` of all elements.

        Args:
          x: `[..., D * input_size]`.
          context: features `[..., H]`, with as many axes as x.
          mask: number of the mask.
        """
        degrees = self._degrees(mask)
        first = self._shifted(0, self.dense[0](x, degrees[0], degrees[1]), context)
        return self._after_first(first, context, mask)

    def order(self, mask: jax.Array | int = 0) -> jax.Array:
        """The elements `[D]`, first to last, under a mask."""
        return jnp.argsort(self.position(mask))

    def position(self, mask: jax.Array | int = 0) -> jax.Array:
        """The place `[D]` of each element in the order of a mask, from 0."""
        return jnp.asarray(self.degrees[0])[mask] - 1

    def start(self, x: jax.Array, context: jax.Array | None = None, mask: jax.Array | int = 0) -> jax.Array:
        """The first layer before its activation, `[..., H]`, while no element is known.

        Args:
          x: zeros `[..., input_size]`, of the dtype and leading axes of the elements.
        """
        return self._shifted(0, self._rows(x, 0, mask), context)

    def update(self, first: jax.Array, x: jax.Array, element: jax.Array, mask: jax.Array | int = 0) -> jax.Array:
        """The first layer once the element is known, with x `[..., input_size]`."""
        return first + self._rows(x, element, mask) - self._rows(jnp.zeros_like(x), element, mask)

    def outputs(
        self, first: jax.Array, element: jax.Array, context: jax.Array | None = None, mask: jax.Array | int = 0
    ) -> jax.Array:
        """The outputs `[..., size]` of one element, once the elements before it are known."""
        return self._after_first(first, context, mask, element * self.size + jnp.arange(self.size))

    def _rows(self, x, element, mask):
        """The first layer's product with the inputs of one element, plus its bias."""
        degrees = self._degrees(mask)
        return self.dense[0](x, degrees[0], degrees[1], element * self.input_size + jnp.arange(self.input_size))

    def _after_first(self, first, context, mask, columns=None):
        activation, degrees = getattr(nn, self.activation), self._degrees(mask)
        h = activation(first)
        for i in range(1, len(self.hidden)):
            h = activation(self._shifted(i, self.dense[i](h, degrees[i], degrees[i + 1]), context))
        out = self.head(h, degrees[-2], degrees[-1], columns=columns)
        return self._shifted(len(self.hidden), out, context, columns)

    def _shifted(self, layer, h, context, columns=None):
        if context is None:
            return h
        shift = self.from_context[layer](context)
        return h + (shift if columns is None else shift[..., columns])

    def _degrees(self, mask):
        """Degrees of the inputs, of each hidden layer, and of the outputs."""
        first, *hidden = (jnp.asarray(layer)[mask] for layer in self.degrees)
        return [jnp.repeat(first, self.input_size), *hidden, jnp.repeat(first, self.size)]


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
