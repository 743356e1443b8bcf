"""Every zoo entry and every probe, once, at a size that a test can afford."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax
import numpy as np

from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import PiecewiseWeights, VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.objectives.base import Objective
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.distributions import PiecewiseNormal
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.ddnn.regression import Regression
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support import probes

SHAPE = (2, 2)
_PATTERNS = np.array([[0, 1, 1, 0], [1, 1, 0, 0], [1, 0, 1, 1]], np.float32).reshape(3, *SHAPE)
_WHICH = np.repeat([0, 1, 2], [8, 4, 4])  # probabilities 1/2, 1/4, 1/4

# Sixteen rows: a batch is the whole set. Missing elements hold nonsense, which must not matter.
X = _PATTERNS[_WHICH]
LABEL = (_WHICH == 2).astype(np.int32)
MASK = np.broadcast_to(np.array([[True, True], [False, True]]), X.shape).copy()
GARBLED = np.where(MASK, X, 7.0).astype(np.float32)
ENTROPY = 1.5 * math.log(2)
ENTROPY_GIVEN_LABEL = 0.75 * (math.log(3) - 2 / 3 * math.log(2))


@dataclasses.dataclass(frozen=True)
class Case:
    """An entry, how it is trained, and what the battery needs to know of it."""

    name: str
    module: nn.Module
    objective: Objective = ELBO()  # noqa: RUF009 (frozen)
    rows: Mapping[str, np.ndarray] = dataclasses.field(default_factory=lambda: {"x": X})
    entropy: float = ENTROPY
    """Nats per example that no model of these rows can go below, and a good one reaches."""
    tolerance: float = 0.05
    """Nats above the entropy that training may end; what the gap consists of is said where it is larger."""
    steps: int = 2000
    learning_rate: float = 0.05
    num_data: int = 16
    draws: bool = True
    """Whether the loss draws noise."""
    same_as: str | None = None
    """A case of the same module under another objective, which proves what no objective matters for."""
    refused: tuple[Mapping[str, Any], ...] = ()
    """Fields that the module's constructor must refuse."""

    @property
    def batch(self) -> dict[str, jax.Array]:
        return {name: jax.numpy.asarray(leaf) for name, leaf in self.rows.items()}


_SMALL = {"encoder": MLP((16,)), "decoder": MLP((16,)), "shape": SHAPE}
_LABELLED = {"x": X, "label": LABEL}
_MASKED = {"x": GARBLED, "mask": MASK}
_GIVEN = {"x": X, "context": np.eye(3, dtype=np.float32)[_WHICH]}
_TOKENS = {"x": (X.reshape(16, 4)[:, :2] + 2 * X.reshape(16, 4)[:, 2:]).astype(np.int32)}

ENTRIES = [
    Case(
        "vae",
        VAE(latent_dim=2, **_SMALL),
        ELBO(num_samples=4, warmup_steps=1000),
        tolerance=0.25,  # as for all Gaussian posteriors: the optimum of the bound is above the entropy
        refused=({"latent_dim": 0}, {"latent_dim": True}, {"shape": (0, 2)}, {"decoder": _SMALL["encoder"]}),
    ),
    Case(
        "vae-iwae",
        VAE(latent_dim=2, latent=VariationalLayer(learned_prior=True), **_SMALL),
        IWAE(num_samples=4),
    ),
    Case(
        "vae-conv",
        VAE(
            latent_dim=2,
            encoder=ConvEncoder((2, 2, 1), channels=(8,)),
            decoder=ConvDecoder((2, 2, 1), channels=(8,)),
            shape=(2, 2, 1),
        ),
        rows={"x": X[..., None]},
        tolerance=0.25,
        learning_rate=0.01,
    ),
    # As above, posteriors of independent units leave a gap between bound and entropy.
    Case("vae-horseshoe", VAE(latent_dim=2, latent=HorseshoeLayer(), **_SMALL), tolerance=0.5, learning_rate=0.02),
    Case(
        "vae-horseshoe-iwae",
        VAE(latent_dim=2, latent=HorseshoeLayer(), **_SMALL),
        IWAE(),
        tolerance=0.4,
        learning_rate=0.01,
        same_as="vae-horseshoe",
    ),
    Case("vae-rectified", VAE(latent_dim=2, latent=RectifiedLayer(), **_SMALL), tolerance=0.4, learning_rate=0.02),
    Case(
        "vae-rectified-iwae",
        VAE(latent_dim=2, latent=RectifiedLayer(), **_SMALL),
        IWAE(),
        tolerance=0.3,
        same_as="vae-rectified",
    ),
    Case("vae-piecewise", VAE(latent_dim=2, latent=PiecewiseLayer(), **_SMALL), tolerance=0.4),
    Case(
        "vae-piecewise-iwae",
        VAE(latent_dim=2, latent=PiecewiseLayer(prior=PiecewiseNormal), **_SMALL),
        IWAE(),
        tolerance=0.3,
        learning_rate=0.01,
    ),
    Case("vae-spherical", VAE(latent_dim=3, latent=SphericalLayer(), **_SMALL), IWAE(), tolerance=0.3),
    # No bound on log p(x): what is reached is a perfect reconstruction.
    Case("autoencoder", VAE(latent_dim=2, latent=PointLayer(), **_SMALL), entropy=0.0, draws=False),
    Case(
        "hierarchical-vae",
        HierarchicalVAE(latent_dims=(1, 1), hidden=(16, 4), depth=1, shape=SHAPE),
        DReG(num_samples=4),
        refused=({"latent_dims": ()}, {"latent_dims": (3, 0)}, {"hidden": (16,)}, {"depth": -1}),
    ),
    Case(
        "sigmoid-belief-network",
        SigmoidBeliefNetwork(latent_dims=(3, 2), hidden=(8,), shape=SHAPE),
        NVIL(num_samples=4, baseline_hidden=(8,)),
        refused=({"latent_dims": ()}, {"latent_dims": (3, 0)}),
    ),
    Case(
        "made",
        MADE(hidden=(16,), shape=SHAPE),
        draws=False,
        refused=({"hidden": ()}, {"hidden": (0,)}, {"num_masks": 0}),
    ),
    Case("made-masks", MADE(hidden=(16, 16), num_masks=2, random_order=True, shape=SHAPE), draws=False),
    Case(
        "made-categorical",
        MADE(hidden=(16,), likelihood=Categorical(num_classes=4), shape=(2,)),
        rows=_TOKENS,
        draws=False,
    ),
    # The weights' KL is paid once for all data, so the more data, the nearer the entropy.
    Case(
        "vae-bayes",
        VAE(latent_dim=2, encoder=MLP((16,)), decoder=MLP((16,), weights=VariationalWeights()), shape=SHAPE),
        tolerance=0.4,
        num_data=10_000,
    ),
    Case(
        "hierarchical-vae-bayes",
        HierarchicalVAE((1, 1), (16, 4), depth=1, weights=PiecewiseWeights(), shape=SHAPE),
        DReG(num_samples=4),
        num_data=10_000,
        steps=4000,
        learning_rate=0.02,
    ),
    Case(
        "sigmoid-belief-network-bayes",
        SigmoidBeliefNetwork(
            (3, 2), (8,), weights=VariationalWeights(), likelihood=Bernoulli(weights=VariationalWeights()), shape=SHAPE
        ),
        NVIL(num_samples=4, baseline_hidden=(8,)),
        num_data=10_000,
        learning_rate=0.02,
    ),
    Case(
        "made-bayes",
        MADE(hidden=(16,), num_masks=2, weights=VariationalWeights(), shape=SHAPE),
        num_data=10_000,
    ),
    Case(
        "regression-horseshoe",
        Regression(network=MLP((8,)), likelihood=Bernoulli(weights=HorseshoeWeights()), shape=SHAPE),
        rows=_GIVEN,
        entropy=0.0,
        num_data=10_000,
    ),
]

PROBES = [
    # No bound on log p(x): what is reached is a perfect reconstruction.
    Case("moving-codebook", probes.MovingCodebook(), entropy=0.0, draws=False),
    Case("boltzmann-prior", probes.BoltzmannPrior(), probes.Enumeration(), steps=4000, learning_rate=0.02),
    # A Gaussian posterior cannot be exact: the optimum of its bound is above the entropy.
    Case("labelled", probes.Labelled(), IWAE(num_samples=4), _LABELLED, ENTROPY_GIVEN_LABEL, tolerance=0.15),
    Case(
        "masked",
        SigmoidBeliefNetwork(latent_dims=(3,), hidden=(8,), shape=SHAPE),
        probes.Enumeration(layer="z1"),
        rows=_MASKED,
        draws=False,
    ),
    # The weights' KL is paid once for all data, so the more data, the nearer the entropy.
    Case("bayesian-weights", probes.BayesianWeights(), num_data=10_000),
]

CASES = ENTRIES + PROBES
