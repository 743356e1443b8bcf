"""Cases of the probes: modules and objectives that need more of the contract than the zoo's entries do."""

from dgmzoo.objectives.importance import IWAE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from tests.support import probes
from tests.support.case import Case
from tests.support.toy_rows import ENTROPY_GIVEN_LABEL, LABELLED, MASKED, SHAPE

CASES = [
    # A quantized code has no bound on log p(x): training reaches a perfect reconstruction.
    Case("moving-codebook", probes.MovingCodebook(), entropy=0.0, noisy=False),
    Case("boltzmann-prior", probes.BoltzmannPrior(), probes.Enumeration(), steps=4000, learning_rate=0.02),
    # A Gaussian posterior cannot be exact: the optimum of its bound lies above the entropy.
    Case("labelled", probes.Labelled(), IWAE(num_samples=4), LABELLED, ENTROPY_GIVEN_LABEL, tolerance=0.15),
    Case(
        "masked",
        SigmoidBeliefNetwork(latent_dims=(3,), hidden=(8,), shape=SHAPE),
        probes.Enumeration(layer="z1"),
        rows=MASKED,
        noisy=False,
    ),
    # The KL of the weights is paid once for all data, so the bound nears the entropy as the data set grows.
    Case("bayesian-weights", probes.BayesianWeights(), num_data=10_000, thorough=True),
]
