"""A one-layer VAE on dynamically binarized MNIST, trained for 400 epochs (about 15 minutes on two cores)."""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=50, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
    data=Data("mnist", encoding="dynamic", num_validation=0),
    objective=ELBO(),
    training=Training(
        epochs=400,
        batch_size=100,
        schedule="cosine",
        final_learning_rate=3e-5,
        ema=0.999,
    ),
    evaluation=Evaluation(num_samples=5000),
)
