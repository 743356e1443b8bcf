"""A VAE on the Frey faces, with a discretized logistic likelihood for the 256 gray levels.

The likelihood gives probabilities of the 256 levels, so that nats and bits per dimension compare with other models of the
levels, but not with densities of dequantized pixels. `data.seed` chooses the split into 1565 / 200 / 200 frames of one
film, where neighbouring frames are similar: report the seed with a figure. Training stops after 20 evaluations of the
validation bound without improvement.
"""

from dgmzoo import ELBO, MLP, VAE, Data, DiscretizedLogistic, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(
        latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300)), likelihood=DiscretizedLogistic(levels=256)
    ),
    data=Data("freyfaces", encoding="gray"),
    objective=ELBO(),
    training=Training(
        epochs=2000,
        batch_size=100,
        learning_rate=5e-4,
        validate_epochs=20,
        patience=20,
    ),
    evaluation=Evaluation(num_samples=5000),
)
