"""A mixture of ten normals on eight normals on a circle."""

from dgmzoo import ELBO, Data, Evaluation, Experiment, MixtureDensityNetwork, Training

experiment = Experiment(
    model=MixtureDensityNetwork(),
    data=Data("toy_gaussians"),
    objective=ELBO(),
    training=Training(
        epochs=100,
        batch_size=100,
        learning_rate=1e-3,
        schedule="cosine",
        patience=10,
    ),
    evaluation=Evaluation(num_samples=1),
)
