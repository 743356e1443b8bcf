"""MADE on the 8x8 digits: an exact density, pixel by pixel in raster order.

ELBO is maximum likelihood here: the model has no latents. Binary pixels are drawn afresh in every step.
"""

from dgmzoo.config.experiment import Evaluation, Experiment
from dgmzoo.config.training import Training
from dgmzoo.data import Data
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.zoo.ddnn.made import MADE

experiment = Experiment(
    model=MADE(hidden=(500,)),
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
