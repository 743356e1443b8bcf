"""A gated PixelCNN given the class of each of the binary 8x8 digits."""

from dgmzoo import ELBO, Data, Evaluation, Experiment, GatedPixelCNN, Training

experiment = Experiment(
    model=GatedPixelCNN(labels=10, depth=4),
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
