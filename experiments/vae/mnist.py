"""The one-layer VAE on dynamically binarized MNIST: 400 epochs, some 15 minutes on two cores."""

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
    training=Training(
        epochs=400,
        batch_size=100,
        schedule="cosine",
        final_learning_rate=3e-5,
        ema=0.999,
    ),
    evaluation=Evaluation(num_samples=5000),
)
