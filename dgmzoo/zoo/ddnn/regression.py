"""`Regression`: a density of x given a context, with plain, Bayesian or sparse weights.

    p(x | context) = likelihood(network(context))

Without hidden layers the regression is linear. With normal weights it is Bayesian linear regression (MacKay 1992,
"Bayesian interpolation"). With horseshoe weights it is the sparse regression of Carvalho, Polson & Scott 2009 in the form
of Piironen & Vehtari 2017 (arXiv 1707.01694), with the posterior of Louizos et al. 2017 (arXiv 1705.08665); the
coefficients of inputs that do not matter are shrunk to almost 0.

Deviation: the posterior of normal weights is factorized instead of exact.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.layers.networks.mlp import MLP, network
from dgmzoo.layers.validation import check_entry
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class Regression(nn.Module):
    """A density of x given a context.

    >>> Regression().likelihood.homoscedastic
    True

    Raises:
      ValueError: when called, the rows have no context.
    """

    network: nn.Module = network(MLP(()))
    """Network from the flattened context to features; without hidden layers the features are the context."""
    likelihood: Likelihood = Normal(homoscedastic=True)
    """Likelihood p(x | features); the weights of its head are the coefficients of a linear regression."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "exact"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        p = self.conditional(batch, len(batch["x"]), query)
        log_p = p.log_prob(batch["x"], batch.get("mask"))
        return Evidence(jnp.repeat(log_p, query.num_samples, 0), parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        return self.conditional(context or {}, num).draw(self.make_rng("sample"))

    def conditional(self, rows: Batch, num: int, query: Query | bool = False):
        """`p(x | context)` with batch shape `[1, B, *shape]`."""
        if "context" not in rows or len(rows["context"]) != num:
            raise ValueError(f"expected a context for each of {num} rows, got {jax.tree.map(jnp.shape, dict(rows))}")
        context = rows["context"].reshape(1, num, -1)
        return self.likelihood(apply_network(self.network, context, query), self.shape, rows if "x" in rows else None)
