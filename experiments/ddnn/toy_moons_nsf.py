"""A neural spline flow of four couplings on two interlocked half circles."""

from dgmzoo import ELBO, NSF, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=NSF(num_layers=4),
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
