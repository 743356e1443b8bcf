"""The two-layer VAE and IWAE of Burda et al. on MNIST, trained for 3280 epochs as in the paper.

Overrides for the rows of their table 1:

    VAE  K = 1   (no override)
    VAE  K = 50  --objective.num-samples 50
    IWAE K = 50  --objective iwae --objective.num-samples 50

`--objective dreg --objective.num-samples 50` trains the same bound with the doubly reparameterized gradient, which is no
row of the paper. For Adam's epsilon see `vae/mnist_iwae_1l`. `--training.epochs 400` is a shorter run with the same
proportions of the schedule.

Source: Burda, Grosse & Salakhutdinov 2016, "Importance weighted autoencoders" (arXiv 1509.00519), table 1 and section 5.
"""

from dgmzoo import ELBO, Data, Evaluation, Experiment, HierarchicalVAE, Paper, Training

experiment = Experiment(
    model=HierarchicalVAE(latent_dims=(100, 50), hidden=(200, 100)),
    data=Data("mnist", encoding="dynamic", num_validation=0),
    objective=ELBO(num_samples=1),
    training=Training(epochs=3280, batch_size=20, schedule="burda", learning_rate=1e-3, b1=0.99, epsilon=5e-6),
    evaluation=Evaluation(num_samples=5000),
    papers=(
        Paper(
            value=85.33,
            source="Burda et al. 2016, table 1, two layers, VAE k = 1",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
        ),
        Paper(
            value=84.78,
            source="Burda et al. 2016, table 1, two layers, VAE k = 50",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
            when={"objective.num_samples": 50},
        ),
        Paper(
            value=82.90,
            source="Burda et al. 2016, table 1, two layers, IWAE k = 50",
            protocol="MNIST, dynamic binarization, test split, IW-5000",
            steps=9_840_000,
            when={"objective": "iwae", "objective.num_samples": 50},
        ),
    ),
)
