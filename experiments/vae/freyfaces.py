"""A VAE on Frey's face, 256 gray levels, each pixel a discretized logistic.

The probabilities are those of the 256 levels, so nats and bits per dimension compare with other models of the levels
and not with densities of dequantized pixels. `data.seed` draws the split of 1565 / 200 / 200 frames, neighbours in one
film: give the seed with a figure. Training stops once the validation bound has not improved for 20 readings.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.likelihoods.discretized import DiscretizedLogistic
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(
        latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300)), likelihood=DiscretizedLogistic(levels=256)
    ),
    data=Data("freyfaces", encoding="gray"),
    objective=ELBO(),
    training=Training(
        epochs=2000,
        batch_size=100,
        learning_rate=5e-4,
        validate_epochs=20,
        patience=20,
    ),
    evaluation=Evaluation(num_samples=5000),
)
