"""A RealNVP flow of eight affine couplings on two interlocked half circles."""

from dgmzoo import ELBO, Data, Evaluation, Experiment, RealNVP, Training

experiment = Experiment(
    model=RealNVP(num_layers=8),
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
