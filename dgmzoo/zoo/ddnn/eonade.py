"""`EoNADE`: an ensemble of deep NADEs over orders, which share one order-agnostic network.

    log p(x | theta, m_{o_<d}) = sum_{i not in o_<d} log p(x_i | x_{o_<d}),    loss = - D / (D - d + 1) times it

The network reads the observed elements and their mask. In training an order and a position d are drawn for each row, and all
elements that are not yet observed are predicted; the factor makes the loss an unbiased estimate of the mean of -log p(x)
over all orders (equations 29 to 31 of the review). The density is the equal mixture of the densities in a fixed set of orders:
probabilities are averaged, never logits (equation 32). The first layer is carried along from element to element, so that
an element costs one row of it and one column of the last.

Missing elements are refused: those that come before an observed element in one of the orders have no closed-form marginal.

Source: Uria, Murray & Larochelle 2014 (arXiv 1310.1757); Uria, Cote, Gregor, Murray & Larochelle 2016 (arXiv 1605.02226),
section 6. Here d counts the observed elements from 0, so that the factor reads D / (D - d).
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from dgmzoo.layers.likelihoods.base import Elements, Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.mlp import MLP, Activation, check_shape, check_widths, network
from dgmzoo.layers.sampling import ancestral
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.model.contract import Batch, Draw, Evidence, Query
from dgmzoo.reparam import families


class EoNADE(nn.Module):
    """An order-agnostic autoregressive density, averaged over a fixed set of orders.

    >>> EoNADE(hidden=(500, 500), num_orders=16).bound
    'exact'

    Raises:
      ValueError: a size is below 1, or the likelihood has settings of its own head; when called, x has a mask, or the
        context or the label is missing.
    """

    hidden: tuple[int, ...] = (500,)
    """Widths of the hidden layers."""
    activation: Activation = "relu"
    """Activation after every hidden layer."""
    num_orders: int = 16
    """Number of orders whose densities are averaged."""
    order_seed: int = 0
    """Seed of these orders."""
    likelihood: Likelihood = Bernoulli()
    """Conditionals p(x_i | x_observed)."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        object.__setattr__(self, "hidden", check_widths("hidden", self.hidden, least=1))
        super().__post_init__()
        check_entry(self, sizes=("num_orders",))
        check_likelihood_without_head(self)

    def setup(self):
        D, P, inputs = math.prod(self.shape or ()), self.likelihood.size, self.likelihood.input_size
        first, last, normal = self.hidden[0], self.hidden[-1], nn.initializers.normal(0.05)
        self.W = self.param(
            "W", normal, (D, inputs + 1, first), jnp.float32
        )  # of the inputs of an element and its mask
        self.V = self.param("V", normal, (D, last, P), jnp.float32)
        self.b = self.param("b", nn.initializers.zeros, (D, P), jnp.float32)
        self.c = self.param("c", nn.initializers.zeros, (1, first), jnp.float32)
        self.U = nn.Dense(first, use_bias=False)
        self.deeper = MLP(self.hidden[1:], self.activation)
        random = np.random.Generator(np.random.Philox(self.order_seed))
        self.orders = np.stack([random.permutation(D) for _ in range(self.num_orders)])

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, *shape]
        refuse_mask(self, batch)
        check_shape(x, self.shape)
        a = self.first(batch, len(x), query)
        if query.train:
            return self.estimate(x, a)

        def score(module, carry, order):
            return carry, module.log_prob_in_order(x, a, order)

        _, log_p = ancestral(self, score, None, jnp.asarray(self.orders))  # [orders, B]
        return Evidence(jax.nn.logsumexp(log_p, 0)[None] - math.log(self.num_orders))

    def estimate(self, x: jax.Array, a: jax.Array) -> Evidence:
        """An unbiased estimate of the mean of log p(x) over all orders, from one order and position a row."""
        (B, D), keys = (len(x), len(self.W)), jax.random.split(self.make_rng("sample"))
        d = jax.random.randint(keys[0], (B, 1), 0, D)  # number of observed elements
        position = jnp.argsort(jax.random.uniform(keys[1], (B, D)), 1)
        is_observed = position < d
        inputs = self.inputs(x.reshape(B, D)) * is_observed[..., None].astype(a.dtype)  # [B, D, inputs + 1]
        h = self.units(a + jnp.einsum("bdi,dih->bh", inputs, self.W))
        outputs = jnp.einsum("bh,dhp->bdp", h, self.V) + self.b[None]
        p = self.likelihood.elements(outputs.reshape(1, B, -1), self.shape)
        log_p = p.log_prob(x, ~is_observed.reshape(x.shape))  # [1, B]
        return Evidence(log_p * D / (D - d.T).astype(log_p.dtype), parameters=p.parameters())

    def log_prob_in_order(self, x: jax.Array, a: jax.Array, order: jax.Array) -> jax.Array:
        """log p(x) `[B]` in an order `[D]` of the elements."""
        flat = x.reshape(len(x), -1)

        def step(module, a, element):
            x_i = jnp.take(flat, element, 1)[:, None]
            return module.observe(a, x_i, element), module.conditional(a, element).log_prob(x_i)[0]

        return ancestral(self, step, a, order)[1].sum(0)

    def generate(self, num: int, context=None) -> Draw:
        chosen = jax.random.randint(self.make_rng("sample"), (num,), 0, self.num_orders)
        order = jnp.asarray(self.orders)[chosen].T  # [D, num]

        def step(module, a, t):
            draw = module.conditional(a, order[t]).draw(module.make_rng("sample"))
            return module.observe(a, draw.x, order[t]), (draw.x[:, 0], draw.mean[:, 0])

        _, in_order = ancestral(self, step, self.first(context, num, False), len(order))  # [D, num] each
        position = jnp.argsort(order, 0)
        x, mean = (jnp.take_along_axis(leaf, position, 0).T.reshape(num, *self.shape) for leaf in in_order)
        return Draw(x, mean)

    def first(self, rows: Batch | None, num: int, query: Query | bool) -> jax.Array:
        """The first layer before its activation, `[num, H]`, while no element is observed."""
        features = context_features(self, rows, num, query)
        a = jnp.broadcast_to(self.c, (num, self.hidden[0]))
        return a if features is None else a + self.U(features)

    def observe(self, a: jax.Array, x: jax.Array, element: jax.Array) -> jax.Array:
        """The first layer with one more element observed, of all rows `[]` or of each row `[num]`: x `[num, 1]`."""
        return a + (self.inputs(x) @ self.W[element])[:, 0]

    def conditional(self, a: jax.Array, element: jax.Array) -> Elements:
        """p(x_i | x_observed) of an element i of all rows `[]` or of each row `[num]`, `[1, num, 1]`."""
        outputs = (self.units(a)[:, None] @ self.V[element])[:, 0]
        return self.likelihood.elements((outputs + self.b[element].reshape(-1, self.likelihood.size))[None], (1,))

    def inputs(self, x: jax.Array) -> jax.Array:
        """Inputs `[B, D, inputs + 1]` of observed elements x `[B, D]`."""
        return jnp.pad(self.likelihood.encode(x), ((0, 0), (0, 0), (0, 1)), constant_values=1)

    def units(self, a: jax.Array) -> jax.Array:
        """Units `[B, H]` of the last hidden layer."""
        return families.at_least_float32(self.deeper(getattr(nn, self.activation)(a)))
