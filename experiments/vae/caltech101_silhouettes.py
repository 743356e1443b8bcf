"""A one-layer VAE on the Caltech 101 silhouettes, trained with early stopping on the validation split.

The published images are binary, so that nothing is binarized. The network overfits the small set: training stops after 20
evaluations of the validation bound without improvement. There is no published figure for this model; the known ones
belong to convolutional networks or to other posteriors.
"""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300))),
    data=Data("caltech101_silhouettes"),
    objective=ELBO(),
    training=Training(
        epochs=500,
        batch_size=100,
        learning_rate=5e-4,
        validate_epochs=5,
        patience=20,
    ),
    evaluation=Evaluation(num_samples=5000),
)
