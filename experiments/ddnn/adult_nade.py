"""A NADE of 500 units on the census records of the adult set, binary indicators of 123 attributes."""

from dgmzoo import ELBO, NADE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=NADE(),
    data=Data("adult"),
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
