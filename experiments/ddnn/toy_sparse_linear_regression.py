"""Horseshoe weights find the 8 relevant of 200 inputs of a linear regression on 300 rows.

The coefficients are `run.weights()["likelihood/VariationalDense_0"]`; an input is taken as relevant if its own is above a
tenth of the largest. Beside it: `--model.likelihood.weights normal`. Other data: `--data.seed 1`.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.ddnn.regression import Regression

experiment = Experiment(
    model=Regression(likelihood=Normal(homoscedastic=True, weights=HorseshoeWeights())),
    data=Data("toy_sparse_linear"),
    objective=ELBO(),
    training=Training(steps=4000, batch_size=300, learning_rate=5e-3, schedule="cosine"),
    evaluation=Evaluation(num_samples=1),
)
