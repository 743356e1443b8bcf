"""The VAE that other libraries' benchmarks train on MNIST: 784-200-200-50, batch 100, Adam at 1e-3, all 60,000 rows."""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(latent_dim=50, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
    data=Data("mnist", encoding="dynamic", num_validation=0),
    objective=ELBO(),
    training=Training(epochs=20, batch_size=100, learning_rate=1e-3),
    evaluation=Evaluation(num_samples=100, num_examples=1000),
)
