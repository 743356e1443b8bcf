"""Settings of `MLP` and of sizes: NumPy integers are taken, other values are refused in plain words."""

import json

import jax
import numpy as np
import pytest

from dgmzoo.layers.latents.categorical import CategoricalLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.zoo.vae.vae import VAE


def test_f49_numpy_integers_are_sizes():
    two = np.int64(2)
    sizes = [MLP((two,)).hidden, ELBO(two).num_samples, NVIL(baseline_hidden=(two,)).baseline_hidden]
    sizes += [VAE(two).latent_dim, PiecewiseLayer(pieces=two).pieces, CategoricalLayer(classes=two).classes]
    assert json.dumps(sizes) == "[[2], 2, [2], 2, 2, 2]"


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: MLP(16), r"expected hidden as a tuple of whole numbers, such as \(16,\), got 16"),
        (lambda: MLP((16.5,)), "expected hidden as a tuple of whole numbers"),
        (lambda: MLP((True,)), "expected hidden as a tuple of whole numbers"),
        (lambda: MLP(("16",)), "expected hidden as a tuple of whole numbers"),
        (lambda: MLP((0,)), "expected hidden widths >= 1"),
        (lambda: MLP(activation=jax.nn.relu), "expected the name of an activation of flax.linen"),
        (lambda: MLP(activation="rely"), "expected the name of an activation of flax.linen"),
        (lambda: ELBO(2.0), "expected objective.num_samples to be an integer >= 1"),
        (lambda: NVIL(baseline_hidden=8), "expected objective.baseline_hidden as a tuple"),
    ],
)
def test_f49_other_sizes_and_activations_are_refused(build, reason):
    with pytest.raises(ValueError, match=reason):
        build()
