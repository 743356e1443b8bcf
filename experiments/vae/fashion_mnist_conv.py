"""A convolutional VAE on Fashion-MNIST's images, their gray levels drawn from a discretized logistic.

Nobody's published row: the start for those who want convolutions. 10,000 of the training rows are held out.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.likelihoods.discretized import DiscretizedLogistic
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(latent_dim=32, encoder=ConvEncoder(), decoder=ConvDecoder(), likelihood=DiscretizedLogistic()),
    data=Data("fashion_mnist", encoding="gray", num_validation=10_000),
    objective=ELBO(),
    training=Training(epochs=30, batch_size=100, learning_rate=1e-3, schedule="cosine", ema=0.999),
    evaluation=Evaluation(num_samples=500),
)
