"""Cases of discrete variational autoencoders."""

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from tests.support.case import Case
from tests.support.toy_rows import SHAPE

CASES = [
    Case(
        "sigmoid-belief-network",
        SigmoidBeliefNetwork(latent_dims=(3, 2), hidden=(8,), shape=SHAPE),
        NVIL(num_samples=4, baseline_hidden=(8,)),
        refused_fields=({"latent_dims": ()}, {"latent_dims": (3, 0)}),
    ),
    Case(
        "sigmoid-belief-network-bayes",
        SigmoidBeliefNetwork(
            (3, 2),
            hidden=(8,),
            weights=VariationalWeights(),
            likelihood=Bernoulli(weights=VariationalWeights()),
            shape=SHAPE,
        ),
        NVIL(num_samples=4, baseline_hidden=(8,)),
        num_data=10_000,  # the KL of the weights is paid once for all data
        learning_rate=0.02,
        thorough=True,
    ),
]
