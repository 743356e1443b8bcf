"""`NADE`: the neural autoregressive distribution estimator.

    p(x) = prod_d p(x_d | x_{<d}),    h_d = sigm(c + W_{.,<d} x_{<d}),    p(x_d = 1 | x_{<d}) = sigm(b_d + V_d h_d)

The activations are carried along, a_{d+1} = a_d + W_d x_d, so that a density and a sample cost O(DH) (equations 3 to 6 of the
review). Other conditionals than Bernoulli have several outputs for an element, and several inputs where x is a class. A
label or the features of a context add U f to the first activation. Missing elements are refused.

Source: Larochelle & Murray 2011; Uria, Cote, Gregor, Murray & Larochelle 2016 (arXiv 1605.02226), section 2. Deviation:
the order is the natural one.
"""

import math
from collections.abc import Callable
from typing import Literal

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.mlp import check_shape, network
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.model.contract import Batch, Draw, Evidence, Query
from dgmzoo.model.precision import compute_dtype


class NADE(nn.Module):
    """An autoregressive density with one hidden layer, in the natural order of the elements.

    >>> NADE(hidden=100).bound
    'exact'

    Raises:
      ValueError: a size is below 1, there is no such activation, or the likelihood has settings of its own head; when called, x has a mask, or the
        context or the label is missing.
    """

    hidden: int = 500
    """Number of hidden units (H)."""
    activation: Literal["sigmoid", "tanh", "relu"] = "sigmoid"
    """Activation of the hidden units."""
    likelihood: Likelihood = Bernoulli()
    """Conditionals p(x_d | x_<d)."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("hidden",))
        check_likelihood_without_head(self)
        if self.activation not in ("sigmoid", "tanh", "relu"):
            raise ValueError(f"expected activation to be sigmoid, tanh or relu, got {self.activation!r}")

    def setup(self):
        D, H, P, inputs = math.prod(self.shape or ()), self.hidden, self.likelihood.size, self.likelihood.input_size
        normal, zeros = nn.initializers.normal(0.05), nn.initializers.zeros
        self.W = self.param("W", normal, (D, inputs, H), jnp.float32)
        self.V = self.param("V", normal, (D, H, P), jnp.float32)
        self.b = self.param("b", zeros, (D, P), jnp.float32)
        self.c = self.param("c", zeros, (1, H), jnp.float32)
        self.U = nn.Dense(H, use_bias=False)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, *shape]
        refuse_mask(self, batch)
        check_shape(x, self.shape)
        elements = x.reshape(len(x), -1).T[..., None]  # [D, B, 1]
        outputs, _ = self.scan(batch, len(x), query, elements, lambda x_d, _: x_d)
        p = self.likelihood.elements(jnp.moveaxis(outputs, 0, 1).reshape(1, len(x), -1), self.shape)
        return Evidence(p.log_prob(x), parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        keys = jax.random.split(self.make_rng("sample"), len(self.W))

        def sample(key, outputs):
            return self.likelihood.elements(outputs[None], (1,)).draw(key).x

        outputs, x = self.scan(context, num, False, keys, sample)  # [D, num, P], [D, num, 1]
        p = self.likelihood.elements(jnp.moveaxis(outputs, 0, 1).reshape(1, num, -1), self.shape)
        return Draw(x[..., 0].T.reshape(num, *self.shape), p.parameters()["mean"][0])

    def scan(self, rows: Batch | None, num: int, query: Query | bool, source: jax.Array, element: Callable):
        """Outputs `[D, num, P]` and elements `[D, num, 1]`, where element(source[d], outputs of d) gives x_d."""
        features = context_features(self, rows, num, query)
        a = jnp.broadcast_to(self.c, (num, self.hidden)) + (0.0 if features is None else self.U(features))

        W, V, *others = self.of_elements()
        W, V = nn.dtypes.promote_dtype(W, V, dtype=compute_dtype())

        def step(a, of_d):  # products may be in another dtype, sums are not
            source, W, V, b, *others = of_d
            outputs = (self.units(a, *others).astype(V.dtype) @ V).astype(b.dtype) + b[None]  # [num, P]
            x = element(source, outputs)  # [num, 1]
            inputs = self.likelihood.inputs(x, (1,)).astype(W.dtype)
            return a + (inputs @ W).astype(a.dtype), (outputs, x)

        return jax.lax.scan(step, a, (source, W, V, *others))[1]

    def of_elements(self) -> tuple[jax.Array, ...]:
        """Parameters with one entry for each element, `[D, ...]`."""
        return self.W, self.V, self.b

    def units(self, a: jax.Array) -> jax.Array:
        """Hidden units `[num, H]` of the activations."""
        return getattr(nn, self.activation)(a)
