"""`HierarchicalVAE`: a variational autoencoder with several layers of latents and bottom-up inference.

    z_L ~ p(z_L),   z_l ~ p(z_l | network(z_{l+1})),   x ~ p(x | network(z_1)),
    q(z | x) = q(z_1 | network(x)) q(z_2 | network(z_1)) ... q(z_L | network(z_{L-1})).

Source: Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), equations 1 and 2. The
default sizes are those of the two-layer network of section 5.

Deviations: scales are a softplus of the networks' outputs, instead of an exponential. In the ELBO the KL of the top layer
is in closed form, and that of the other layers is log q - log p at the samples, because z_{l+1} depends on z_l.
"""

from dgmzoo.layers.latents.hierarchy import BottomUpHierarchy
from dgmzoo.layers.networks.mlp import MLP, Activation


class HierarchicalVAE(BottomUpHierarchy):
    """A variational autoencoder with layers of latents z1, z2, ... from the data upwards.

    >>> HierarchicalVAE(latent_dims=(100, 50), hidden=(200, 100)).depth
    2

    Raises:
      ValueError: a size is below 1, or `hidden` has another length than `latent_dims`.
    """

    hidden: tuple[int, ...] = (200, 100)
    """Width of the hidden layers below each layer of latents, in the encoder and in the decoder."""
    depth: int = 2
    """Number of hidden layers below each layer of latents; 0 for linear maps."""
    activation: Activation = "tanh"
    """Activation of the hidden layers."""

    def __post_init__(self):
        super().__post_init__()
        if len(self.hidden) != len(self.latent_dims) or any(width < 1 for width in self.hidden):
            raise ValueError(
                f"expected a hidden width >= 1 for each of {len(self.latent_dims)} layers, got {self.hidden}"
            )
        if isinstance(self.depth, bool) or not isinstance(self.depth, int) or self.depth < 0:
            raise ValueError(f"expected depth of an integer >= 0, got {self.depth!r}")

    def setup(self):
        self.layers = self.latent_layers()
        self.encoders = [MLP(self.depth * (width,), self.activation) for width in self.hidden]
        self.decoders = [MLP(self.depth * (width,), self.activation, weights=self.weights) for width in self.hidden]
