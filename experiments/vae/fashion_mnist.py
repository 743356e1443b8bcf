"""The one-layer VAE on Fashion-MNIST, binarized dynamically, 40 latents, 300 units.

All 60,000 rows are trained on, as on `vae/mnist`. No published figure stands beside this entry: those for the set come
from gated networks or other protocols. `--data.encoding static` draws each pixel once, by `data.seed`; a figure
of one protocol says nothing about the other.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.vae.vae import VAE

experiment = Experiment(
    model=VAE(latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300))),
    data=Data("fashion_mnist", encoding="dynamic", num_validation=0),
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
