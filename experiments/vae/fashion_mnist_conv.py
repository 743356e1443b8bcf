"""A convolutional VAE on Fashion-MNIST, with a discretized logistic likelihood for the gray levels.

It reproduces no published figure, and is a start for models with convolutions. 10,000 training rows are the validation
split.
"""

from dgmzoo import ELBO, VAE, ConvDecoder, ConvEncoder, Data, DiscretizedLogistic, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=32, encoder=ConvEncoder(), decoder=ConvDecoder(), likelihood=DiscretizedLogistic()),
    data=Data("fashion_mnist", encoding="gray", num_validation=10_000),
    objective=ELBO(),
    training=Training(epochs=30, batch_size=100, learning_rate=1e-3, schedule="cosine", ema=0.999),
    evaluation=Evaluation(num_samples=500),
)
