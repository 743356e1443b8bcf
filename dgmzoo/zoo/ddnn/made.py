"""`MADE`: the masked autoencoder for distribution estimation.

    p(x) = prod_d p(x_d | x_{<d})

One pass through a network gives all D conditionals. Its weights are masked so that output d depends only on x_{<d}
(equations 8 to 13 of the paper). With several masks (section 4.2) the training steps use them in turn, and the density is
the equal mixture over all masks.

With a network of the context the model is p(x | context): the features of the context enter every layer, the output layer
included, because the first element sees no other input.

Source: Germain, Gregor, Murray & Larochelle 2015 (arXiv 1502.03509). Deviation: there are no direct connections from
input to output.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Elements, Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.layers.networks.masked import MaskedDense, made_degrees
from dgmzoo.layers.networks.mlp import network
from dgmzoo.layers.sampling import ancestral
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class MADE(nn.Module):
    """A masked autoregressive density model with an exact likelihood.

    >>> MADE(hidden=(500, 500), num_masks=4).bound
    'exact'

    Raises:
      ValueError: a size is below 1, or the likelihood has settings of its own head; when called, x has a mask, or the
        context is missing.
    """

    hidden: tuple[int, ...] = (500,)
    """Widths of the hidden layers."""
    num_masks: int = 1
    """Number of masks, which share the weights."""
    random_order: bool = False
    """Use a random order of the elements for each mask; otherwise all masks have the natural order."""
    mask_seed: int = 0
    """Seed of the masks and orders."""
    weights: Weights = PointWeights()
    """Weights of every layer: plain parameters, or random weights with a posterior and a prior."""
    likelihood: Likelihood = Bernoulli()
    """Conditionals p(x_d | x_<d)."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: a density of x alone."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("num_masks",))
        if not self.hidden or any(width < 1 for width in self.hidden):
            raise ValueError(f"expected at least one hidden width >= 1, got {self.hidden}")
        check_likelihood_without_head(self)

    def setup(self):
        self.dims = math.prod(self.shape or ())
        self.degrees = made_degrees(self.dims, self.hidden, self.num_masks, self.random_order, self.mask_seed)
        widths = (*self.hidden, self.dims * self.likelihood.size)
        self.dense = [MaskedDense(width, weights=self.weights) for width in self.hidden]
        self.head = MaskedDense(widths[-1], strict=True, weights=self.weights)
        self.from_context = [dense(width, self.weights) for width in widths] if self.context else []

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, *shape]
        if "mask" in batch:
            raise ValueError(
                "expected x without a mask, got one: an autoregressive model has no closed-form marginals over missing "
                "elements; choose data without missing elements, or a VAE"
            )

        context = self.context_features(batch, len(x), query)

        def score(module, carry, mask):
            p = module.conditionals(x, mask, context)
            return carry, (p.log_prob(x), p.parameters())

        if query.train or self.num_masks == 1:
            _, (log_p, p) = score(self, None, query.step % self.num_masks)
            return Evidence(log_p, parameters=p)
        _, (log_p, p) = ancestral(self, score, None, self.num_masks)  # [masks, 1, B]
        mixture = jax.nn.logsumexp(log_p, 0) - math.log(self.num_masks)
        return Evidence(mixture, parameters=jax.tree.map(lambda leaf: leaf[0], p))

    def generate(self, num: int, context=None) -> Draw:
        context = self.context_features(context, num, False)
        chosen = jax.random.randint(self.make_rng("sample"), (num,), 0, self.num_masks)

        def sample_mask(module, draw, mask):
            candidate = module.sample_in_order(num, mask, context)
            return jax.tree.map(
                lambda new, old: jnp.where((chosen == mask).reshape([num] + [1] * len(self.shape)), new, old),
                candidate,
                draw,
            ), None

        start = jax.tree.map(jnp.zeros_like, self.sample_in_order(num, 0, context))
        return ancestral(self, sample_mask, start, self.num_masks)[0]

    def sample_in_order(self, num: int, mask: jax.Array | int, context: jax.Array | None) -> Draw:
        """Sample x element by element, in the order of one mask."""

        def sample_element(module, x, element):
            new_x = module.conditionals(x, mask, context).draw(module.make_rng("sample")).x
            is_element = (jnp.arange(module.dims) == element).reshape(1, *module.shape)
            return jnp.where(is_element, new_x, x), None

        start = self.conditionals(jnp.zeros((num, *self.shape)), mask, context).draw(self.make_rng("sample")).x
        order = jnp.argsort(jnp.asarray(self.degrees[0])[mask])
        x, _ = ancestral(self, sample_element, jnp.zeros_like(start), order)
        return Draw(x, self.conditionals(x, mask, context).parameters()["mean"][0])

    def conditionals(self, x: jax.Array, mask: jax.Array | int, context: jax.Array | None) -> Elements:
        """`p(x_d | x_<d)` of all d under one mask, `[1, B, *shape]`."""
        h = self.likelihood.inputs(x, self.shape)
        degrees = [jnp.asarray(layer)[mask] for layer in self.degrees]
        inputs, outputs = (
            jnp.repeat(degrees[0], self.likelihood.input_size),
            jnp.repeat(degrees[0], self.likelihood.size),
        )
        shifts = [layer(context) for layer in self.from_context] or [0.0] * (len(self.hidden) + 1)
        for layer, below, above, shift in zip(self.dense, [inputs, *degrees[1:]], degrees[1:], shifts, strict=False):
            h = nn.relu(layer(h, below, above) + shift)
        unconstrained = self.head(h, degrees[-1], outputs) + shifts[-1]
        return self.likelihood.elements(unconstrained[None], self.shape)

    def context_features(self, rows: Batch | None, num: int, query: Query | bool) -> jax.Array | None:
        """Features `[B, H]` of the context, or None without a network for it."""
        if self.context is None:
            return None
        if "context" not in (rows or {}):
            raise ValueError(f"expected a context for each of {num} rows of a conditional MADE, got none")
        return apply_network(self.context, rows["context"].reshape(num, -1), query)
