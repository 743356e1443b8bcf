"""The variational autoencoder.

Kingma & Welling 2014, "Auto-encoding variational Bayes" (arXiv 1312.6114); the defaults are the one-layer network of
Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), section 5:

    z ~ p(z),   x ~ p(x | decoder(z)),   q(z | x) = q(z; encoder(x)).

Deviation: the posterior's scale is a softplus of its head instead of an exponential.
"""

import flax.linen as nn

from dgmzoo.layers.latents.base import LatentLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import Likelihood, log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import MLP, flat
from dgmzoo.layers.validation import check_entry
from dgmzoo.model.contract import Batch, Draw, Evidence, Query


class VAE(nn.Module):
    """One layer of latents between two networks."""

    latent_dim: int = 50
    """Number of latent units."""
    latent: LatentLayer = VariationalLayer()
    """Posterior and prior of the latents."""
    encoder: nn.Module = MLP((200, 200))
    """From x, flattened, to features."""
    decoder: nn.Module = MLP((200, 200))
    """From z to features."""
    likelihood: Likelihood = Bernoulli()
    """p(x | features)."""
    shape: tuple[int, ...] | None = None
    """Shape of one x; taken from the data where None."""

    bound = "elbo"

    def __post_init__(self):
        super().__post_init__()
        check_entry(self, sizes=("latent_dim",))

    def setup(self):
        self.z = self.latent.clone(units=self.latent_dim)

    def evidence(self, batch: Batch, query: Query) -> Evidence:
        x, mask = batch["x"], batch.get("mask")  # [B, *shape]
        z = self.z(self.encoder(flat(x, self.shape, mask)), query, "z")
        p = self.likelihood(self.decoder(z.value), self.shape, batch)  # [K, B, *shape]
        return Evidence(log_likelihood(p, x, mask), {"z": z}, parameters=parameters(p))

    def generate(self, num: int, context=None) -> Draw:
        z = self.z.draw(num)
        return sample(self.likelihood(self.decoder(z), self.shape), self.make_rng("sample"), {"z": z})
