"""A MADE model of the 8x8 digits that takes the pixels in raster order and has an exact density.

The model has no latents, so that `ELBO` is maximum likelihood. Binary pixels are sampled anew in every training step.
"""

from dgmzoo import ELBO, MADE, Data, Evaluation, Experiment, Training

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
