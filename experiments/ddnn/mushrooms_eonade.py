"""An EoNADE of 16 orders on the descriptions of mushrooms, 112 binary indicators."""

from dgmzoo import ELBO, Data, EoNADE, Evaluation, Experiment, Training

experiment = Experiment(
    model=EoNADE(),
    data=Data("mushrooms"),
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
