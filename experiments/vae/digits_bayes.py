"""A VAE on the 8x8 digits with Bayesian decoder weights, which have normal posteriors and a learned normal prior.

The record holds the predictive log-likelihood at the mean weights. `--evaluation.weight-draws 20` averages the prediction
over 20 samples of the network. For other weights: `--model.decoder.weights horseshoe --model.likelihood.weights horseshoe`.
"""

from dgmzoo import ELBO, MLP, VAE, Bernoulli, Data, Evaluation, Experiment, Training, VariationalWeights

experiment = Experiment(
    model=VAE(
        latent_dim=20,
        encoder=MLP((200, 200)),
        decoder=MLP((200, 200), weights=VariationalWeights()),
        likelihood=Bernoulli(weights=VariationalWeights()),
    ),
    data=Data("digits"),
    objective=ELBO(),
    training=Training(
        epochs=300,
        batch_size=64,
        schedule="cosine",
        final_learning_rate=3e-5,
        validate_epochs=10,
    ),
    evaluation=Evaluation(num_samples=1000),
)
