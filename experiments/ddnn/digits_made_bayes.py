"""MADE on the 8x8 digits with Bayesian weights, which have normal posteriors and a learned normal prior.

The record holds the predictive log-likelihood at the mean weights. `--evaluation.weight-draws 20` averages the prediction
over 20 samples of the network.
"""

from dgmzoo import ELBO, MADE, Data, Evaluation, Experiment, Training, VariationalWeights

experiment = Experiment(
    model=MADE(hidden=(500,), weights=VariationalWeights()),
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
