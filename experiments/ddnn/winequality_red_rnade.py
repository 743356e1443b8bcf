"""An RNADE with mixtures of 20 normals on eleven measurements of red wines, the first of ten folds."""

from dgmzoo import ELBO, RNADE, Data, Evaluation, Experiment, MixtureOfNormals, Training

experiment = Experiment(
    model=RNADE(likelihood=MixtureOfNormals(components=20)),
    data=Data("winequality_red"),
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
