"""`MixtureDensityNetwork`: a mixture of normals, whose parameters are outputs of a network of the context.

    p(t | x) = sum_i alpha_i(x) prod_k N(t_k; mu_ik(x), sigma_ik(x)^2)

The components are shared by all elements, so that elements depend on each other through the component. With neither a
context nor a label it is a mixture of normals. Missing elements are marginalised exactly: their factors are left out.

In dgmzoo the modelled variable t is called x, and the input x is the context.

Source: Bishop 1994, "Mixture density networks" (NCRG/94/004), equations 22 to 29. Deviation: each element of a component has
a scale of its own. The locations start at training rows.
"""

import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.networks.context import context_features
from dgmzoo.layers.networks.mlp import check_shape, network
from dgmzoo.layers.sampling import from_rows
from dgmzoo.layers.validation import check_entry
from dgmzoo.model.contract import Batch, Draw, Evidence, Query
from dgmzoo.reparam import families


class MixtureDensityNetwork(nn.Module):
    """A density of real-valued x, given a context or a label where one is read, by a mixture of normals.

    >>> MixtureDensityNetwork(components=20).bound
    'exact'

    Raises:
      ValueError: a size is below 1; when called, the context or the label is missing, or there are fewer training rows than
        components.
    """

    components: int = 10
    """Number of normals in the mixture."""
    context: nn.Module | None = network(None)
    """Network of the flattened context, for a density of x given the context; None: the context is not read."""
    labels: int = 0
    """Number of labels, for a density of x given the label; 0: the label is not read."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("components",))

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        check_shape(batch["x"], self.shape)
        x, num = batch["x"].reshape(1, len(batch["x"]), -1), len(batch["x"])  # [1, B, D]
        log_alpha, mu, sigma = self.mixture(batch, num, query)
        is_observed = batch["mask"].reshape(x.shape) if "mask" in batch else jnp.ones(x.shape, bool)
        x = jnp.where(is_observed, x, jnp.zeros((), x.dtype))
        terms = -0.5 * jnp.square((x - mu) / sigma) - jnp.log(sigma) - 0.5 * math.log(2 * math.pi)  # [C, B, D]
        log_p = log_alpha + jnp.where(is_observed, terms, jnp.zeros((), terms.dtype)).sum(-1)
        mean = (jnp.exp(log_alpha)[..., None] * mu).sum(0).reshape(1, num, *self.shape)
        return Evidence(jax.nn.logsumexp(log_p, 0, keepdims=True), parameters={"mean": mean})

    def generate(self, num: int, context=None) -> Draw:
        log_alpha, mu, sigma = self.mixture(context, num, False)
        keys = jax.random.split(self.make_rng("sample"))
        component = jax.random.categorical(keys[0], log_alpha, axis=0)[None, :, None]  # [1, num, 1]
        mu, sigma = (jnp.take_along_axis(each, component, 0)[0] for each in (mu, sigma))
        x = mu + sigma * jax.random.normal(keys[1], mu.shape, mu.dtype)
        return Draw(x.reshape(num, *self.shape), mu.reshape(num, *self.shape))

    @nn.compact
    def mixture(self, rows: Batch | None, num: int, query: Query | bool) -> tuple[jax.Array, jax.Array, jax.Array]:
        """log alpha `[C, num]`, mu and sigma `[C, num, D]`."""
        C, D = self.components, math.prod(self.shape or ())
        start = from_rows(self, "start", C, query or None).reshape(C, 1, D)
        bias = self.param("bias", nn.initializers.zeros, (1, C * (1 + 2 * D)), jnp.float32)
        features = context_features(self, rows, num, query)
        outputs = jnp.broadcast_to(bias, (num, bias.shape[1]))
        if features is not None:
            head = nn.Dense(bias.shape[1], use_bias=False, kernel_init=nn.initializers.normal(0.05), name="head")
            outputs = outputs + families.at_least_float32(head(features))
        logits, mu, sigma = jnp.split(outputs.T, [C, C + C * D])
        mu, sigma = (jnp.moveaxis(each.reshape(C, D, num), 1, 2) for each in (mu, sigma))
        return jax.nn.log_softmax(logits, 0), start + mu, families.positive(sigma)
