"""A small VAE on scikit-learn's 8x8 digits: trains in seconds, for a first look.

Pixels are Bernoulli probabilities, drawn afresh in every training step and once for evaluation; the split is drawn by
`data.seed`.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(latent_dim=20, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
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
