"""A VAE on the 8x8 digits whose generative network has random weights: normal, with learned priors.

What is recorded is the predictive log-likelihood at the mean weights; over draws of the network with
`--evaluation.weight-draws 20`. Other weights by name: `--model.decoder.weights horseshoe --model.likelihood.weights horseshoe`.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(
        latent_dim=20,
        encoder=MLP((200, 200)),
        decoder=MLP((200, 200), weights=VariationalWeights()),
        likelihood=Bernoulli(weights=VariationalWeights()),
    ),
    data=Data("digits"),
    objective=ELBO(),
    training=Training(
        epochs=300,
        batch_size=64,
        schedule="cosine",
        final_learning_rate=3e-5,
        validate_epochs=10,
    ),
    evaluation=Evaluation(num_samples=1000),
)
