"""`SigmoidBeliefNetwork`: a model with layers of Bernoulli latents; `SignedMLP`: an MLP that reads bits as -1 and 1.

    z_L ~ Bernoulli(prior),   z_l ~ Bernoulli(network(z_{l+1})),   x ~ p(x | network(z_1)),
    q(z | x) = q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1}).

Networks receive the bits as -1 and 1.

Source: Mnih & Gregor 2014, "Neural variational inference and learning in belief networks" (arXiv 1402.0030). The defaults
are the "linear" one-layer model of 200 units in papers on discrete gradients (Yin & Zhou 2019, arXiv 1807.11143,
table 2). Their "nonlinear" model has `hidden=(200, 200)`, their two-layer model `latent_dims=(200, 200)`.
"""

import dataclasses

import flax.linen as nn
import jax
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.hierarchy import BottomUpHierarchy
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.posteriors.base import FactorizedPosterior
from dgmzoo.layers.priors.base import LearnedPrior

_BITS = dist.BernoulliLogits


class SigmoidBeliefNetwork(BottomUpHierarchy):
    """A variational autoencoder with layers of Bernoulli latents z1, z2, ... from the data upwards.

    >>> SigmoidBeliefNetwork(latent_dims=(200, 200)).latent.posterior.family.__name__
    'BernoulliLogits'

    Raises:
      ValueError: a size is below 1, or random weights are set where no network has weights.
    """

    latent_dims: tuple[int, ...] = (200,)
    """Number of bits in each layer, from the data upwards."""
    hidden: tuple[int, ...] = ()
    """Widths of the deterministic tanh layers below each layer of bits; empty for linear maps."""
    latent: LatentLayer = dataclasses.field(
        default=VariationalLayer(posterior=FactorizedPosterior(_BITS), prior=LearnedPrior(_BITS)),
        kw_only=True,
    )
    """Posterior and prior of the bits; below the top, the prior depends on the layer above."""

    def __post_init__(self):
        super().__post_init__()
        if self.weights.is_random and not self.hidden and len(self.latent_dims) == 1:
            raise ValueError(
                "expected plain weights in a sigmoid belief network with one layer of latents and no hidden layers, got "
                f"{self.weights}, which no network would use; set those of the likelihood"
            )

    def setup(self):
        self.layers = self.latent_layers()
        self.encoders = [SignedMLP(self.hidden) for _ in self.latent_dims]
        self.decoders = [SignedMLP(self.hidden, weights=self.weights) for _ in self.latent_dims]


class SignedMLP(MLP):
    """An MLP of bits, which it maps from 0 and 1 to -1 and 1."""

    @nn.compact
    def __call__(self, bits: jax.Array) -> jax.Array:
        return super().__call__(2 * bits - 1)
