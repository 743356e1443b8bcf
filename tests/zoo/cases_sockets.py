"""Cases of the sockets: priors, posteriors, likelihoods, networks and sequences that a user could write."""

import numpy as np

from dgmzoo.layers.latents.categorical import CategoricalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.posteriors.flow import InverseAutoregressivePosterior
from dgmzoo.layers.priors.flow import FlowPrior
from dgmzoo.layers.priors.vamp import VampPrior
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.zoo.vae.vae import VAE
from tests.support import socket_probes
from tests.support.case import Case
from tests.support.toy_rows import BITS, SHAPE
from tests.zoo.cases_flows import REAL

_SMALL = {"encoder": MLP((16,)), "decoder": MLP((16,)), "shape": SHAPE}
# The first token that is 0 ends a sequence: the three patterns have 1, 2 and 3 tokens.
_TOKENS = np.array([[0, 0, 0], [1, 0, 0], [2, 1, 0]], np.int32)[np.repeat([0, 1, 2], [8, 4, 4])]
SEQUENCES = {"x": _TOKENS, "length": np.repeat([1, 2, 3], [8, 4, 4]).astype(np.int32)}


def _vae(**latent):
    return VAE(2, latent=VariationalLayer(**latent), **_SMALL)


# The optimum of a bound with a Gaussian posterior lies above the entropy.
CASES = [
    Case("vamp-prior", _vae(prior=VampPrior(components=4)), tolerance=0.4),
    Case("flow-prior", _vae(prior=socket_probes.FlowPrior()), tolerance=0.4, learning_rate=0.01, thorough=True),
    Case(
        "flow-prior-iaf-posterior",
        VAE(
            2,
            latent=VariationalLayer(
                prior=FlowPrior(num_layers=2, hidden=(8,)),
                posterior=InverseAutoregressivePosterior(num_layers=1, hidden=(8,)),
            ),
            **_SMALL,
        ),
        tolerance=0.4,
        learning_rate=0.01,
        thorough=True,
    ),
    Case("autoregressive-prior", _vae(prior=socket_probes.AutoregressivePrior()), tolerance=0.4, thorough=True),
    Case("iaf-posterior", _vae(posterior=socket_probes.InverseAutoregressive()), tolerance=0.4, thorough=True),
    Case("top-down", socket_probes.TopDown(), tolerance=0.5, thorough=True),
    Case(
        "normal-likelihood",
        VAE(1, encoder=MLP((8,)), decoder=MLP((8,)), likelihood=Normal(), shape=(2,)),
        rows=REAL,
        entropy=-100.0,  # a density of a few points has no lower bound; a training that diverges shows
        tolerance=105.0,
        learning_rate=0.01,
        thorough=True,
    ),
    Case(
        "mixture-likelihood",
        VAE(1, encoder=MLP((8,)), decoder=MLP((8,)), likelihood=socket_probes.MixtureLikelihood(), shape=(2,)),
        rows=REAL,
        entropy=-100.0,
        tolerance=105.0,
        learning_rate=0.01,
        thorough=True,
    ),
    Case("categorical-latents", VAE(2, latent=CategoricalLayer(classes=3), **_SMALL), NVIL(4), tolerance=0.3),
    Case("sequences", socket_probes.SequenceVAE(), rows=SEQUENCES, tolerance=0.6, learning_rate=0.02),
    Case(
        "batch-statistics",
        VAE(2, encoder=socket_probes.NormalizedEncoder(), decoder=MLP((16,)), shape=SHAPE),
        rows=BITS,
        tolerance=0.6,
        learning_rate=0.02,
        thorough=True,
    ),
]
