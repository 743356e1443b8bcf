"""A sigmoid belief network with 50 binary latents on the 8x8 digits, trained with the score-function estimator NVIL."""

from dgmzoo import NVIL, Data, Evaluation, Experiment, SigmoidBeliefNetwork, Training

experiment = Experiment(
    model=SigmoidBeliefNetwork(latent_dims=(50,)),
    data=Data("digits"),
    objective=NVIL(),
    training=Training(
        epochs=300,
        batch_size=64,
        learning_rate=3e-3,
        schedule="cosine",
        final_learning_rate=3e-5,
        validate_epochs=10,
    ),
    evaluation=Evaluation(num_samples=1000),
)
