"""`MADE`: the masked autoencoder for distribution estimation.

    p(x) = prod_d p(x_d | x_{<d})

One pass through a network gives all D conditionals. Its weights are masked so that output d depends only on x_{<d}
(equations 8 to 13 of the paper). With several masks (section 4.2) the training steps use them in turn, and the density is
the equal mixture over all masks.

With a network of the context, or a number of labels, the model is p(x | context): the features of the context enter
every layer, the output layer included, because the first element sees no other input. Samples are computed
incrementally: an element costs one row of the first layer and one block of columns of the last. Missing elements are
refused.

Source: Germain, Gregor, Murray & Larochelle 2015 (arXiv 1502.03509). Deviation: there are no direct connections from
input to output.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Elements, Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.context import context_features, refuse_mask
from dgmzoo.layers.networks.masked import MaskedMLP
from dgmzoo.layers.networks.mlp import network
from dgmzoo.layers.sampling import ancestral
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.layers.weights.base import PointWeights, Weights
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
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("num_masks",))
        check_likelihood_without_head(self)
        self._network()

    @nn.nowrap
    def _network(self) -> MaskedMLP:
        sizes = (math.prod(self.shape or ()), self.likelihood.size, self.likelihood.input_size)
        masks = (self.num_masks, self.random_order, self.mask_seed)
        return MaskedMLP(*sizes, self.hidden, *masks, weights=self.weights, parent=None)

    def setup(self):
        self.net = self._network()
        nn.share_scope(self, self.net)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, *shape]
        refuse_mask(self, batch)
        context = context_features(self, batch, len(x), query)

        def score(module, carry, mask):
            p = module.conditionals(x, context, mask)
            return carry, (p.log_prob(x), p.parameters())

        if query.train or self.num_masks == 1:
            _, (log_p, p) = score(self, None, query.step % self.num_masks)
            return Evidence(log_p, parameters=p)
        _, (log_p, p) = ancestral(self, score, None, self.num_masks)  # [masks, 1, B]
        mixture = jax.nn.logsumexp(log_p, 0) - math.log(self.num_masks)
        return Evidence(mixture, parameters=jax.tree.map(lambda leaf: leaf[0], p))

    def generate(self, num: int, context=None) -> Draw:
        context = context_features(self, context, num)
        chosen = jax.random.randint(self.make_rng("sample"), (num,), 0, self.num_masks)

        def sample_mask(module, draw, mask):
            candidate, is_chosen = module.sample_in_order(num, context, mask), (chosen == mask)[:, None]
            return jax.tree.map(lambda new, old: jnp.where(is_chosen, new, old), candidate, draw), None

        start = jax.tree.map(jnp.zeros_like, self.sample_in_order(num, context, 0))
        x, mean = ancestral(self, sample_mask, start, self.num_masks)[0]
        return Draw(x.reshape(num, *self.shape), mean.reshape(num, *self.shape))

    def sample_in_order(
        self, num: int, context: jax.Array | None, mask: jax.Array | int
    ) -> tuple[jax.Array, jax.Array]:
        """Sample x `[num, D]` element by element, in the order of one mask, with the mean of each element."""

        def sample_element(module, first, element):
            p = module.likelihood.elements(module.net.outputs(first, element, context, mask)[None], (1,))
            draw = p.draw(module.make_rng("sample"))  # [num, 1]
            first = module.net.update(first, module.likelihood.inputs(draw.x, (1,)), element, mask)
            return first, (draw.x[:, 0], draw.mean[:, 0])

        start = self.net.start(jnp.zeros((num, self.likelihood.input_size)), context, mask)
        _, in_order = ancestral(self, sample_element, start, self.net.order(mask))  # [D, num] each
        return jax.tree.map(lambda leaf: leaf[self.net.position(mask)].T, in_order)

    def conditionals(self, x: jax.Array, context: jax.Array | None, mask: jax.Array | int) -> Elements:
        """`p(x_d | x_<d)` of all d under one mask, `[1, B, *shape]`."""
        unconstrained = self.net(self.likelihood.inputs(x, self.shape), context, mask)
        return self.likelihood.elements(unconstrained[None], self.shape)
