"""Autoregressive densities of 16 bits (images: 12) sum to one over all x, in every order that an entry uses."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.ddnn.eonade import EoNADE
from dgmzoo.zoo.ddnn.gated_pixel_cnn import GatedPixelCNN
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.ddnn.nade import NADE
from dgmzoo.zoo.ddnn.pixel_cnn import PixelCNN

pytestmark = [pytest.mark.thorough, pytest.mark.optimized]

ENTRIES = {
    "made": MADE(hidden=(20, 20), num_masks=3, random_order=True, shape=(16,)),
    "nade": NADE(hidden=10, shape=(16,)),
    **{f"eonade {seed}": EoNADE(hidden=(10,), num_orders=1, order_seed=seed, shape=(16,)) for seed in range(3)},
    "pixel-cnn": PixelCNN(channels=4, depth=2, window=5, shape=(4, 3)),
    "gated-pixel-cnn": GatedPixelCNN(channels=4, depth=2, window=3, shape=(4, 3, 1)),
}


@pytest.mark.parametrize("name", ENTRIES)
def test_probabilities_of_all_x_sum_to_one(name):
    module, random = ENTRIES[name], np.random.default_rng(0)
    model = functional(module)
    dims = math.prod(module.shape)
    x = np.array(list(itertools.product([0.0, 1.0], repeat=dims)), np.float32).reshape(16, -1, *module.shape)
    variables = jax.jit(model.init)(jax.random.key(0), {"x": x[0, :2]})
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.5, leaf.shape), leaf.dtype), variables)
    masks = range(getattr(module, "num_masks", 1))

    @jax.jit
    def log_likelihood(x, query):
        return model.evidence(variables, {"x": x}, jax.random.key(0), query)[0].log_likelihood[0]

    # Training steps of a MADE use its masks in turn, each with an order of its own.
    for query in [Query(train=True, step=jnp.asarray(mask)) for mask in masks] if name == "made" else [Query()]:
        log_p = np.concatenate([log_likelihood(part, query) for part in x]).astype(np.float64)
        assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-5)
        assert np.exp(log_p).max() < 0.5, "almost all mass lies at one x, so the test has no power"
