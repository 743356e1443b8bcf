"""`VampPrior`: a prior that is a mixture of posteriors at learned pseudo-inputs."""

import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp

from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.layers.posteriors.base import Posterior
from dgmzoo.layers.priors.base import Prior
from dgmzoo.layers.sampling import from_rows
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Query
from dgmzoo.model.module_tree import has_random_weights


class VampPrior(Prior):
    """p(z) = 1/C sum_c q(z | u_c), with the posterior of the layer at C pseudo-inputs u_c, which start at training rows.

    The entry passes its encoder on to the layer (`latent.clone(units=..., encoder=self.encoder)`), and the encoder's inputs
    (`query.with_inputs(inputs)`), at which pseudo-inputs start. In a hierarchy the prior sits on the top layer.

    Source: Tomczak & Welling 2018, "VAE with a VampPrior" (arXiv 1705.07120), equation 9. Deviation: pseudo-inputs are free
    parameters that start at training rows, instead of the outputs of a linear layer with a hard tanh.

    >>> VampPrior(components=100).components
    100

    Raises:
      ValueError: there is no component; when called, no encoder is set, its weights are random, or a layer lies above.
    """

    components: int = 500
    """Number of pseudo-inputs (C)."""
    encoder: nn.Module | None = dataclasses.field(default=None, metadata={"cli": False})
    """Network from x to features; set by the layer."""
    posterior: Posterior | None = dataclasses.field(default=None, metadata={"cli": False})
    """Posterior q(z | features); set by the layer."""

    def __post_init__(self):
        if isinstance(self.components, bool) or not isinstance(self.components, int) or self.components < 1:
            raise ValueError(f"expected components to be an integer >= 1, got {self.components!r}")
        super().__post_init__()

    @nn.nowrap
    def facts(self, posterior: Facts) -> Facts:
        jumps = posterior.posterior_jumps or posterior.atom
        reason = f"the density of its VampPrior jumps with that of its posterior {posterior.posterior}" if jumps else ""
        return dataclasses.replace(posterior, closed_kl=False, prior_jumps=reason)

    @nn.compact
    def __call__(self, above: jax.Array | None = None, query: Query | None = None) -> Conditional:
        if above is not None or self.encoder is None:
            raise ValueError(
                "expected a VampPrior on the top layer of an entry that passes its encoder on, got "
                + ("a layer above" if above is not None else "no encoder; clone the layer with encoder=self.encoder")
            )
        if has_random_weights(self.encoder):
            raise ValueError(
                "expected an encoder with point weights for a VampPrior, whose density would be another one for each sample "
                "of the weights, got random weights"
            )
        inputs = from_rows(self, "inputs", self.components, query)  # [C, ...]
        q = self.posterior(apply_network(self.encoder, inputs.reshape(self.components, -1), False)[None])  # [1, C, U]
        if q.transform is not None:
            raise ValueError(
                f"expected a posterior that scores a sample under other inputs, got {type(self.posterior).__name__}, "
                "whose sample is noise"
            )

        def log_prob(z):  # [K, B, U] to [K, B, 1]
            terms = q.log_prob(z.reshape(-1, 1, *z.shape[2:])).sum(-1)  # [K * B, C]
            mixture = jax.nn.logsumexp(terms, -1) - math.log(self.components)
            return mixture.reshape(*z.shape[:2], 1)

        def sample(key, leading):
            own, choice = jax.random.split(key)
            num = math.prod(leading)
            z = q.sample(own, (num, self.components))  # [K * B, C, U]
            component = jax.random.randint(choice, (num,), 0, self.components)
            chosen = jnp.take_along_axis(z, component.reshape(num, *(1,) * (z.ndim - 1)), 1)
            return chosen.reshape(*leading, *z.shape[2:])

        return Conditional(log_prob, sample)
