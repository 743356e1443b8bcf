"""Cases of variational autoencoders."""

from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.layers.weights.base import PiecewiseWeights, VariationalWeights
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.case import Case
from tests.support.toy_rows import IMAGES, SHAPE

_SMALL = {"encoder": MLP((16,)), "decoder": MLP((16,)), "shape": SHAPE}

CASES = [
    Case(
        "vae",
        VAE(latent_dim=2, **_SMALL),
        ELBO(num_samples=4, warmup_steps=1000),
        tolerance=0.25,  # as for all Gaussian posteriors: the optimum of the bound lies above the entropy
        refused_fields=({"latent_dim": 0}, {"latent_dim": True}, {"shape": (0, 2)}, {"decoder": _SMALL["encoder"]}),
    ),
    Case(
        "vae-iwae",
        VAE(latent_dim=2, latent=VariationalLayer(prior=LearnedPrior()), **_SMALL),
        IWAE(num_samples=4),
        thorough=True,
    ),
    Case(
        "vae-conv",
        VAE(
            latent_dim=2,
            encoder=ConvEncoder((2, 2, 1), channels=(8,)),
            decoder=ConvDecoder((2, 2, 1), channels=(8,)),
            shape=(2, 2, 1),
        ),
        rows=IMAGES,
        tolerance=0.25,
        learning_rate=0.01,
    ),
    # Posteriors of independent units leave a gap between bound and entropy, as the Gaussian posterior does.
    Case("vae-horseshoe", VAE(latent_dim=2, latent=HorseshoeLayer(), **_SMALL), tolerance=0.5, learning_rate=0.02),
    Case(
        "vae-horseshoe-iwae",
        VAE(latent_dim=2, latent=HorseshoeLayer(), **_SMALL),
        IWAE(),
        tolerance=0.4,
        learning_rate=0.01,
        same_module_as="vae-horseshoe",
        thorough=True,
    ),
    Case(
        "vae-rectified",
        VAE(latent_dim=2, latent=RectifiedLayer(), **_SMALL),
        tolerance=0.4,
        learning_rate=0.02,
        thorough=True,
    ),
    Case(
        "vae-rectified-iwae",
        VAE(latent_dim=2, latent=RectifiedLayer(), **_SMALL),
        IWAE(),
        tolerance=0.3,
        same_module_as="vae-rectified",
        thorough=True,
    ),
    Case("vae-piecewise", VAE(latent_dim=2, latent=PiecewiseLayer(), **_SMALL), tolerance=0.4, thorough=True),
    Case(
        "vae-piecewise-iwae",
        VAE(latent_dim=2, latent=PiecewiseLayer(prior=PiecewiseNormal), **_SMALL),
        IWAE(),
        tolerance=0.3,
        learning_rate=0.01,
        thorough=True,
    ),
    Case("vae-spherical", VAE(latent_dim=3, latent=SphericalLayer(), **_SMALL), IWAE(), tolerance=0.3, thorough=True),
    # A point code has no bound on log p(x): training reaches a perfect reconstruction.
    Case("autoencoder", VAE(latent_dim=2, latent=PointLayer(), **_SMALL), entropy=0.0, noisy=False),
    # The KL of the weights is paid once for all data, so the bound nears the entropy as the data set grows.
    Case(
        "vae-bayes",
        VAE(latent_dim=2, encoder=MLP((16,)), decoder=MLP((16,), weights=VariationalWeights()), shape=SHAPE),
        tolerance=0.4,
        num_data=10_000,
        thorough=True,
    ),
    Case(
        "hierarchical-vae",
        HierarchicalVAE(latent_dims=(1, 1), hidden=(16, 4), depth=1, shape=SHAPE),
        DReG(num_samples=4),
        refused_fields=({"latent_dims": ()}, {"latent_dims": (3, 0)}, {"hidden": (16,)}, {"depth": -1}),
    ),
    Case(
        "hierarchical-vae-bayes",
        HierarchicalVAE((1, 1), hidden=(16, 4), depth=1, weights=PiecewiseWeights(), shape=SHAPE),
        DReG(num_samples=4),
        num_data=10_000,
        steps=4000,
        learning_rate=0.02,
        thorough=True,
    ),
]
