"""A PixelCNN with masked convolutions on the binary 8x8 digits."""

from dgmzoo import ELBO, Data, Evaluation, Experiment, PixelCNN, Training

experiment = Experiment(
    model=PixelCNN(depth=4),
    data=Data("digits"),
    objective=ELBO(),
    training=Training(
        epochs=100,
        batch_size=64,
        learning_rate=1e-3,
        schedule="cosine",
        validate_epochs=5,
    ),
    evaluation=Evaluation(num_samples=1),
)
