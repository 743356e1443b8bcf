"""MADE, the masked autoencoder for distribution estimation.

    p(x) = prod_d p(x_d | x_{<d})

One pass through a network gives all D conditionals. Its weights are masked so that output d depends only on x_{<d}
(equations 8 to 13 of the paper). With several masks (section 4.2) the training steps use them in turn, and the density is
the equal mixture over all masks.

Source: Germain, Gregor, Murray & Larochelle 2015 (arXiv 1502.03509). Deviation: there are no direct connections from
input to output.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Likelihood, log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.masked import MaskedDense, made_degrees
from dgmzoo.layers.networks.mlp import flat
from dgmzoo.layers.validation import check_entry, check_likelihood_without_head
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class MADE(nn.Module):
    """A masked autoregressive density model with an exact likelihood.

    >>> MADE(hidden=(500, 500), num_masks=4).bound
    'exact'

    Raises:
      ValueError: a size is below 1, or the likelihood has settings of its own head; when called, x has a mask.
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
        self.dense = [MaskedDense(width, weights=self.weights) for width in self.hidden]
        self.head = MaskedDense(self.dims * self.likelihood.size, strict=True, weights=self.weights)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x = batch["x"]  # [B, *shape]
        if "mask" in batch:
            raise ValueError(
                "expected x without a mask, got one: an autoregressive model has no closed-form marginals over missing "
                "elements; choose data without missing elements, or a VAE"
            )

        def score(module, carry, mask):
            p = module.conditionals(x, mask)
            return carry, (log_likelihood(p, x)[0], parameters(p))

        if query.train or self.num_masks == 1:
            mask = query.step % self.num_masks
            _, (log_p, p) = score(self, None, mask)
            return Evidence(jnp.repeat(log_p[None], query.num_samples, 0), parameters=p)
        over_masks = nn.scan(score, variable_broadcast="params", split_rngs={"params": False})
        _, (log_p, p) = over_masks(self, None, jnp.arange(self.num_masks))
        mixture = jax.nn.logsumexp(log_p, 0) - math.log(self.num_masks)
        return Evidence(
            jnp.repeat(mixture[None], query.num_samples, 0), parameters=jax.tree.map(lambda leaf: leaf[0], p)
        )

    def generate(self, num: int, context=None) -> Draw:
        masks = jax.random.randint(self.make_rng("sample"), (num,), 0, self.num_masks)

        def sample_mask(module, draw, mask):
            candidate = module.ancestral(num, mask)
            is_chosen = (masks == mask).reshape([num] + [1] * len(self.shape))
            x, mean = jnp.where(is_chosen, candidate.x, draw.x), jnp.where(is_chosen, candidate.mean, draw.mean)
            return Draw(x, mean), None

        scan = nn.scan(sample_mask, variable_broadcast="params", split_rngs={"params": False, "sample": True})
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.ancestral(num, 0))
        return scan(self, start, jnp.arange(self.num_masks))[0]

    def ancestral(self, num: int, mask: jax.Array | int) -> Draw:
        """Sample x element by element, in the order of one mask."""

        def sample_element(module, x, element):
            new_x = sample(module.conditionals(x, mask), module.make_rng("sample")).x
            is_element = (jnp.arange(module.dims) == element).reshape(1, *module.shape)
            return jnp.where(is_element, new_x, x), None

        order = jnp.argsort(jnp.asarray(self.degrees[0])[mask])
        scan = nn.scan(sample_element, variable_broadcast="params", split_rngs={"params": False, "sample": True})
        start = sample(self.conditionals(jnp.zeros((num, *self.shape)), mask), self.make_rng("sample"))
        x, _ = scan(self, jnp.zeros_like(start.x), order)
        return Draw(x, parameters(self.conditionals(x, mask))["mean"][0])

    def conditionals(self, x: jax.Array, mask: jax.Array | int):
        """`p(x_d | x_<d)` of all d under one mask, `[1, B, *shape]`."""
        h = flat(x, self.shape)
        degrees = [jnp.asarray(layer)[mask] for layer in self.degrees]
        for dense, below, above in zip(self.dense, degrees, degrees[1:], strict=False):
            h = nn.relu(dense(h, below, above))
        unconstrained = self.head(h, degrees[-1], jnp.repeat(degrees[0], self.likelihood.size))
        return self.likelihood.elements(unconstrained[None], self.shape)
