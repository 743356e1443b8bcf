"""The one-layer VAE and IWAE of Burda et al. on MNIST, trained for 3280 epochs as in the paper.

Overrides for the rows of their table 1:

    VAE  K = 1   (no override)
    VAE  K = 50  --objective.num-samples 50
    IWAE K = 5   --objective iwae
    IWAE K = 50  --objective iwae --objective.num-samples 50

Adam's settings are those of the authors' code. b1 is 0.99. Their epsilon is 1e-4 for the sum of the gradients over a batch
of 20, which is 5e-6 for the mean of the gradients; with 1e-4 for the mean, half of the units never become active.
`--training.epochs 400` is a shorter run with the same proportions of the schedule.

Source: Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), table 1 and section 5.
"""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Paper, Training

experiment = Experiment(
    model=VAE(latent_dim=50, encoder=MLP((200, 200)), decoder=MLP((200, 200))),
    data=Data("mnist", encoding="dynamic", num_validation=0),
    objective=ELBO(num_samples=1),
    training=Training(epochs=3280, batch_size=20, schedule="burda", learning_rate=1e-3, b1=0.99, epsilon=5e-6),
    evaluation=Evaluation(num_samples=5000),
    papers=(
        Paper(
            value=86.76,
            source="Burda et al. 2016, table 1, VAE k = 1",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
        ),
        Paper(
            value=86.35,
            source="Burda et al. 2016, table 1, VAE k = 50",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
            when={"objective.num_samples": 50},
        ),
        Paper(
            value=85.54,
            source="Burda et al. 2016, table 1, IWAE k = 5",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
            when={"objective": "iwae", "objective.num_samples": 5},
        ),
        Paper(
            value=84.78,
            source="Burda et al. 2016, table 1, IWAE k = 50",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
            when={"objective": "iwae", "objective.num_samples": 50},
        ),
    ),
)
