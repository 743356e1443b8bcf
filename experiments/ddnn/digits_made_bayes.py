"""MADE on the 8x8 digits with random weights: normal, with learned priors.

What is recorded is the predictive log-likelihood at the mean weights; over draws of the network with
`--evaluation.weight-draws 20`.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.ddnn.made import MADE

experiment = Experiment(
    model=MADE(hidden=(500,), weights=VariationalWeights()),
    data=Data("digits"),
    objective=ELBO(),
    training=Training(
        epochs=200,
        batch_size=64,
        learning_rate=1e-2,
        schedule="cosine",
        final_learning_rate=3e-5,
        validate_epochs=5,
    ),
    evaluation=Evaluation(num_samples=1),
)
