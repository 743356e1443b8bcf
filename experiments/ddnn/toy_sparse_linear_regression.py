"""Sparse linear regression with horseshoe weights on 300 rows with 200 inputs, of which 8 are relevant.

The coefficients are `run.weights()["likelihood/VariationalDense_0"]`. An input counts as relevant if its coefficient is
above a tenth of the largest. For comparison: `--model.likelihood.weights normal`. For other data: `--data.seed 1`.
"""

from dgmzoo import ELBO, Data, Evaluation, Experiment, HorseshoeWeights, Normal, Regression, Training

experiment = Experiment(
    model=Regression(likelihood=Normal(homoscedastic=True, weights=HorseshoeWeights())),
    data=Data("toy_sparse_linear"),
    objective=ELBO(),
    training=Training(steps=4000, batch_size=300, learning_rate=5e-3, schedule="cosine"),
    evaluation=Evaluation(num_samples=1),
)
