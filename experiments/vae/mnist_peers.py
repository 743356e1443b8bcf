"""A VAE with 50 latents and two hidden layers of 200 units on MNIST, for comparisons with other libraries."""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=50, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
    data=Data("mnist", encoding="dynamic", num_validation=0),
    objective=ELBO(),
    training=Training(epochs=20, batch_size=100, learning_rate=1e-3),
    evaluation=Evaluation(num_samples=100, num_examples=1000),
)
