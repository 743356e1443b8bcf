"""A first example: a small VAE on scikit-learn's 8x8 digits, trained in seconds.

Pixels are probabilities of Bernoulli variables, which are sampled anew in every training step and once for evaluation.
`data.seed` chooses the split.
"""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=20, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
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
