"""A small experiment on random bits, and records of a comparison without training."""

import numpy as np

import dgmzoo
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.zoo.vae.vae import VAE

_RNG = np.random.default_rng(0)
SPLITS = [_RNG.integers(0, 2, (num, 12)).astype(np.uint8) for num in (200, 40, 60)]


def small_experiment(model=None, splits=SPLITS, **changes) -> dgmzoo.Experiment:
    """An experiment that trains in about a second once it is compiled."""
    return dgmzoo.Experiment(
        model=model or VAE(latent_dim=2, encoder=MLP((8,)), decoder=MLP((8,))),
        data=dgmzoo.from_arrays(*splits),
        training=dgmzoo.Training(steps=4, batch_size=50),
        evaluation=dgmzoo.Evaluation(num_samples=5),
        **changes,
    )


def flat_record(variant: str, seed: int, bound: str | None = "iw", **values) -> dict:
    """The fields of a record that the table needs."""
    return {"variant": variant, "seed": seed, "bound": bound, "num_samples": 5, **values}
