"""`VAE`: a variational autoencoder with one layer of latents.

    z ~ p(z),   x ~ p(x | decoder(z)),   q(z | x) = q(z; encoder(x)).

Source: Kingma & Welling 2014, "Auto-encoding variational Bayes" (arXiv 1312.6114). The default sizes are those of the
one-layer network of Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), section 5.

Deviation: the scale of the posterior is a softplus of the encoder's output, instead of an exponential.
"""

import flax.linen as nn

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.call import apply_network
from dgmzoo.layers.networks.mlp import MLP, network
from dgmzoo.layers.validation import check_entry
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class VAE(nn.Module):
    """A variational autoencoder with one layer of latents.

    >>> VAE(latent_dim=20, shape=(28, 28, 1)).bound
    'elbo'

    Raises:
      ValueError: a size is below 1, or two fields hold the same submodule.
    """

    latent_dim: int = 50
    """Number of latent units."""
    latent: LatentLayer = VariationalLayer()
    """Posterior q(z | x) and prior p(z)."""
    encoder: nn.Module = network(MLP((200, 200)))
    """Network from flattened x to features."""
    decoder: nn.Module = network(MLP((200, 200)))
    """Network from z to features."""
    likelihood: Likelihood = Bernoulli()
    """Likelihood p(x | features)."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; None: that of the data."""

    bound = "elbo"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("latent_dim",))

    def setup(self):
        self.z = self.latent.clone(units=self.latent_dim, encoder=self.encoder)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x, mask = batch["x"], batch.get("mask")  # [B, *shape]
        inputs = self.likelihood.inputs(x, self.shape, mask)
        z = self.z(apply_network(self.encoder, inputs, query), query.with_inputs(inputs), "z")
        p = self.likelihood(apply_network(self.decoder, z.value, query), self.shape, batch)  # [K, B, *shape]
        return Evidence(p.log_prob(x, mask), {"z": z}, parameters=p.parameters())

    def generate(self, num: int, context=None) -> Draw:
        z = self.z.draw(num)
        p = self.likelihood(apply_network(self.decoder, z, False), self.shape)
        return p.draw(self.make_rng("sample"), {"z": z})
