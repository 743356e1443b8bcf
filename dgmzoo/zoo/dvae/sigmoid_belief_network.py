"""The sigmoid belief network with an inference network: a variational autoencoder with Bernoulli latents.

    z_L ~ Bernoulli(prior),   z_l ~ Bernoulli(network(z_{l+1})),   x ~ p(x | network(z_1)),
    q(z | x) = q(z_1 | x) q(z_2 | z_1) ... q(z_L | z_{L-1}).

Networks receive the bits as -1 and 1.

Source: Mnih & Gregor 2014, "Neural variational inference and learning in belief networks" (arXiv 1402.0030). The defaults
are the "linear" one-layer model of 200 units in papers on discrete gradients (Yin & Zhou 2019, arXiv 1807.11143,
table 2). Their "nonlinear" model has `hidden=(200, 200)`, their two-layer model `latent_dims=(200, 200)`.
"""

import flax.linen as nn
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.hierarchy import Network, infer_and_score, sample_top_down
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood, log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import MLP, flat
from dgmzoo.layers.validation import check_entry
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class SigmoidBeliefNetwork(nn.Module):
    """A variational autoencoder with layers of Bernoulli latents z1, z2, ... from the data upwards.

    >>> SigmoidBeliefNetwork(latent_dims=(200, 200)).latent.posterior.__name__
    'BernoulliLogits'

    Raises:
      ValueError: a size is below 1, or random weights are set where no network has weights.
    """

    latent_dims: tuple[int, ...] = (200,)
    """Number of bits in each layer, from the data upwards."""
    hidden: tuple[int, ...] = ()
    """Widths of the deterministic tanh layers below each layer of bits; empty for linear maps."""
    latent: LatentLayer = VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)
    """Posterior and prior of the bits; the prior of the top layer is learned."""
    weights: Weights = PointWeights()
    """Weights of the decoder between layers: plain parameters, or random weights with a posterior and a prior."""
    likelihood: Likelihood = Bernoulli()
    """Likelihood p(x | features)."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "elbo"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self)
        if not self.latent_dims or any(size < 1 for size in self.latent_dims):
            raise ValueError(f"expected latent_dims of at least one size >= 1, got {self.latent_dims}")
        if self.weights.is_random and not self.hidden and len(self.latent_dims) == 1:
            raise ValueError(
                "expected plain weights in a sigmoid belief network with one layer of latents and no hidden layers, got "
                f"{self.weights}, which no network would use; set those of the likelihood"
            )

    def setup(self):
        top = len(self.latent_dims) - 1
        self.layers = [
            self.latent.clone(units=size, learned_prior=level == top, weights=self.weights)
            for level, size in enumerate(self.latent_dims)
        ]
        self.encoders = [MLP(self.hidden) for _ in self.latent_dims]
        self.decoders = [MLP(self.hidden, weights=self.weights) for _ in self.latent_dims]

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x, mask = batch["x"], batch.get("mask")  # [B, *shape]
        encoders, decoders = ([_signed(network) for network in networks] for networks in (self.encoders, self.decoders))
        latents, features = infer_and_score(self.layers, encoders, decoders, flat(x, self.shape, mask), query)
        p = self.likelihood(features, self.shape, batch)  # [K, B, *shape]
        return Evidence(log_likelihood(p, x, mask), latents, parameters=parameters(p))

    def generate(self, num: int, context=None) -> Draw:
        latents, features = sample_top_down(self.layers, [_signed(network) for network in self.decoders], num)
        return sample(self.likelihood(features, self.shape), self.make_rng("sample"), latents)


def _signed(network: Network) -> Network:
    """The network with its input bits 0 and 1 mapped to -1 and 1."""
    return lambda bits: network(2 * bits - 1)
