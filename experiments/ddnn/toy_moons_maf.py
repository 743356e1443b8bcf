"""A masked autoregressive flow of eight steps on two interlocked half circles."""

from dgmzoo import ELBO, MAF, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=MAF(num_layers=8),
    data=Data("toy_moons"),
    objective=ELBO(),
    training=Training(
        epochs=50,
        batch_size=100,
        learning_rate=2e-3,
        schedule="cosine",
        validate_epochs=5,
    ),
    evaluation=Evaluation(num_samples=1),
)
