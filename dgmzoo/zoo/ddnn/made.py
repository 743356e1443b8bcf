"""MADE, the masked autoencoder for distribution estimation.

Germain, Gregor, Murray & Larochelle 2015 (arXiv 1502.03509):

    p(x) = prod_d p(x_d | x_{<d}),

all D conditionals by one pass through a network whose weights are masked so that output d sees only x_{<d} (equations
8 to 13). With several masks (section 4.2) each training step uses one, in turn, and the density is that of their equal
mixture. Deviations: no direct connections from input to output.
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
    """An exact autoregressive density by masking."""

    hidden: tuple[int, ...] = (500,)
    """Widths of the hidden layers."""
    num_masks: int = 1
    """Networks with masks of their own that share the weights."""
    random_order: bool = False
    """Draw an order of the elements for each mask instead of keeping the natural one."""
    mask_seed: int = 0
    """Seed of masks and orders."""
    weights: Weights = PointWeights()
    """Of every layer: plain parameters, or with a posterior and a prior."""
    likelihood: Likelihood = Bernoulli()
    """p(x_d | x_<d)."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; taken from the data where None."""

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
                "expected x without a mask, got one: an autoregressive model has no marginals over missing elements"
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
        chosen = jax.random.randint(self.make_rng("sample"), (num,), 0, self.num_masks)
        by_element = [num] + [1] * len(self.shape)

        def over_masks(module, draw, mask):
            one = module.ancestral(num, mask)
            here = (chosen == mask).reshape(by_element)
            return Draw(jnp.where(here, one.x, draw.x), jnp.where(here, one.mean, draw.mean)), None

        scan = nn.scan(over_masks, variable_broadcast="params", split_rngs={"params": False, "sample": True})
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), self.ancestral(num, 0))
        return scan(self, start, jnp.arange(self.num_masks))[0]

    def ancestral(self, num: int, mask: jax.Array | int) -> Draw:
        """Draws element by element in the order of one mask."""

        def step(module, x, element):
            fresh = sample(module.conditionals(x, mask), module.make_rng("sample")).x
            here = (jnp.arange(module.dims) == element).reshape(1, *module.shape)
            return jnp.where(here, fresh, x), None

        order = jnp.argsort(jnp.asarray(self.degrees[0])[mask])
        scan = nn.scan(step, variable_broadcast="params", split_rngs={"params": False, "sample": True})
        fresh = sample(self.conditionals(jnp.zeros((num, *self.shape)), mask), self.make_rng("sample"))
        x, _ = scan(self, jnp.zeros_like(fresh.x), order)
        return Draw(x, parameters(self.conditionals(x, mask))["mean"][0])

    def conditionals(self, x: jax.Array, mask: jax.Array | int):
        """`p(x_d | x_<d)` for all d under one mask, `[1, B, *shape]`."""
        h = flat(x, self.shape)
        degrees = [jnp.asarray(layer)[mask] for layer in self.degrees]
        for dense, below, above in zip(self.dense, degrees, degrees[1:], strict=False):
            h = nn.relu(dense(h, below, above))
        unconstrained = self.head(h, degrees[-1], jnp.repeat(degrees[0], self.likelihood.size))
        return self.likelihood.elements(unconstrained[None], self.shape)
