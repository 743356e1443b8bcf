"""The variational autoencoder with several layers of latents and bottom-up inference.

    z_L ~ p(z_L),   z_l ~ p(z_l | network(z_{l+1})),   x ~ p(x | network(z_1)),
    q(z | x) = q(z_1 | network(x)) q(z_2 | network(z_1)) ... q(z_L | network(z_{L-1})).

Source: Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), equations 1 and 2. The
default sizes are those of the two-layer network of section 5.

Deviations: scales are a softplus of the networks' outputs, instead of an exponential. In the ELBO the KL of the top layer
is in closed form, and that of the other layers is log q - log p at the samples, because z_{l+1} depends on z_l.
"""

import flax.linen as nn

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.hierarchy import infer_and_score, sample_top_down
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood, log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import MLP, Activation, flat
from dgmzoo.layers.validation import check_entry
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class HierarchicalVAE(nn.Module):
    """A variational autoencoder with layers of latents z1, z2, ... from the data upwards.

    >>> HierarchicalVAE(latent_dims=(100, 50), hidden=(200, 100)).samples_kl
    True

    Raises:
      ValueError: a size is below 1, or `hidden` has another length than `latent_dims`.
    """

    latent_dims: tuple[int, ...] = (100, 50)
    """Number of units in each layer of latents, from the data upwards."""
    hidden: tuple[int, ...] = (200, 100)
    """Width of the hidden layers below each layer of latents, in the encoder and in the decoder."""
    depth: int = 2
    """Number of hidden layers below each layer of latents; 0 for linear maps."""
    activation: Activation = "tanh"
    """Activation of the hidden layers."""
    latent: LatentLayer = VariationalLayer()
    """Posterior and prior of every layer of latents; only the prior of the top layer can be learned."""
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
        if len(self.hidden) != len(self.latent_dims) or any(width < 1 for width in self.hidden):
            raise ValueError(
                f"expected a hidden width >= 1 for each of {len(self.latent_dims)} layers, got {self.hidden}"
            )
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0:
            raise ValueError(f"expected depth of an integer >= 0, got {self.depth!r}")

    @property
    def samples_kl(self) -> bool:
        """True if layers below the top exist, whose KL is log q - log p at the samples."""
        return len(self.latent_dims) > 1

    def setup(self):
        top = len(self.latent_dims) - 1
        self.layers = [
            self.latent.clone(
                units=size, learned_prior=self.latent.learned_prior and level == top, weights=self.weights
            )
            for level, size in enumerate(self.latent_dims)
        ]
        self.encoders = [MLP(self.depth * (width,), self.activation) for width in self.hidden]
        self.decoders = [MLP(self.depth * (width,), self.activation, weights=self.weights) for width in self.hidden]

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x, mask = batch["x"], batch.get("mask")  # [B, *shape]
        inputs = flat(x, self.shape, mask)
        latents, features = infer_and_score(self.layers, self.encoders, self.decoders, inputs, query)
        p = self.likelihood(features, self.shape, batch)  # [K, B, *shape]
        return Evidence(log_likelihood(p, x, mask), latents, parameters=parameters(p))

    def generate(self, num: int, context=None) -> Draw:
        latents, features = sample_top_down(self.layers, self.decoders, num)
        return sample(self.likelihood(features, self.shape), self.make_rng("sample"), latents)
