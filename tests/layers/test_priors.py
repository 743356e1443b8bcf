"""Pseudo-inputs of the VampPrior: they start at the encoder's inputs, and their encoder has point weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import MLP, VAE, Categorical, VariationalLayer, VariationalWeights
from dgmzoo.layers.priors.vamp import VampPrior
from dgmzoo.model.functional import functional

X = np.array([[0, 1], [2, 1], [0, 0], [1, 2]], np.int32)


def vae(encoder=None):
    latent = VariationalLayer(prior=VampPrior(components=2))
    return VAE(2, latent, encoder=encoder or MLP((4,)), decoder=MLP((4,)), likelihood=Categorical(3), shape=(2,))


@pytest.mark.thorough
def test_pseudo_inputs_of_classes_are_one_hot():
    variables = functional(vae()).init(jax.random.key(0), {"x": jnp.asarray(X)})
    expected = np.eye(3)[X[[0, 3]]].reshape(2, 6)
    np.testing.assert_array_equal(variables["params"]["z"]["p"]["inputs"], expected)


def test_an_encoder_with_random_weights_is_refused():
    random = MLP((4,), weights=VariationalWeights())
    with pytest.raises(ValueError, match="expected an encoder with point weights for a VampPrior"):
        jax.eval_shape(functional(vae(random)).init, jax.random.key(0), {"x": jnp.asarray(X)})


def test_a_vamp_prior_needs_enough_rows():
    latent = VariationalLayer(prior=VampPrior(components=9))
    with pytest.raises(ValueError, match=r"expected at least 9 training rows .*got 4"):
        functional(VAE(2, latent, shape=(2,))).init(jax.random.key(0), {"x": jnp.ones((4, 2))})
