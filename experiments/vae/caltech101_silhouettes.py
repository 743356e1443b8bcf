"""The one-layer VAE on the Caltech 101 silhouettes, 4100 training rows, selected on the validation split.

The images are binary as published, so nothing is drawn, and the set is small: the net soon learns it by heart, and
training stops once the validation bound has not improved for 20 readings. No published figure stands beside this entry:
those at hand are for convolutional networks or other posteriors.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300))),
    data=Data("caltech101_silhouettes"),
    objective=ELBO(),
    training=Training(
        epochs=500,
        batch_size=100,
        learning_rate=5e-4,
        validate_epochs=5,
        patience=20,
    ),
    evaluation=Evaluation(num_samples=5000),
)
