"""A one-layer VAE on dynamically binarized Fashion-MNIST, with 40 latents and 300 hidden units.

It is trained on all 60,000 rows, as `vae/mnist` is. There is no published figure for this model; the known ones belong to
gated networks or to other protocols. `--data.encoding static` binarizes each pixel once, by `data.seed`. Figures of
different protocols do not compare.
"""

from dgmzoo import ELBO, MLP, VAE, Data, Evaluation, Experiment, Training

experiment = Experiment(
    model=VAE(latent_dim=40, encoder=MLP((300, 300)), decoder=MLP((300, 300))),
    data=Data("fashion_mnist", encoding="dynamic", num_validation=0),
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
