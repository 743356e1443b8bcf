"""Convolutional encoders and decoders: sizes, equivariance and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.convolutional import ConvDecoder, ConvEncoder


@pytest.mark.parametrize("shape", [(7, 10, 3), (28, 28, 1), (2, 5, 1)])
def test_images_of_any_size_are_encoded_and_decoded(shape):
    encoder, decoder = ConvEncoder(shape, (4, 8)), ConvDecoder(shape, (8, 4))
    x = jax.random.uniform(jax.random.key(0), (2, 3, int(np.prod(shape))))
    features, _ = encoder.init_with_output(jax.random.key(1), x)
    assert features.shape == (2, 3, -(-shape[0] // 4) * -(-shape[1] // 4) * 8)
    image, _ = decoder.init_with_output(jax.random.key(2), features)
    assert image.shape == (2, 3, *shape[:2], 4)
    p, _ = Bernoulli().init_with_output(jax.random.key(3), image, shape)
    assert p.flat.batch_shape == (2, 3, np.prod(shape)) and p.shape == shape


def test_features_move_with_the_image():
    """Away from the border, features move by one when the image moves by the product of the strides."""
    shape = (16, 16, 1)
    encoder = ConvEncoder(shape, (4, 8))
    x = jax.random.uniform(jax.random.key(0), shape)
    variables = encoder.init(jax.random.key(1), x.reshape(1, -1))
    here = encoder.apply(variables, x.reshape(1, -1)).reshape(4, 4, 8)
    there = encoder.apply(variables, jnp.roll(x, 4, 1).reshape(1, -1)).reshape(4, 4, 8)
    np.testing.assert_allclose(there[1:3, 2:3], here[1:3, 1:2], atol=1e-5)
    assert np.abs(there[1:3, 2] - here[1:3, 2]).max() > 1e-2


def test_images_of_another_size_are_refused():
    with pytest.raises(ValueError, match=r"expected images of shape \(28, 28, 1\), 784 values, got 392"):
        ConvEncoder().init(jax.random.key(0), jnp.zeros((4, 392)))
    with pytest.raises(ValueError, match=r"expected features of an image \(7, 7, 1\), got \(28, 28, 4\)"):
        Bernoulli().init(jax.random.key(0), jnp.zeros((1, 2, 28, 28, 4)), (7, 7, 1))


@pytest.mark.parametrize("cls", [ConvEncoder, ConvDecoder])
@pytest.mark.parametrize("fields", [{"shape": (28, 28)}, {"channels": ()}, {"channels": (0,)}, {"window": 0}])
def test_bad_sizes_are_refused(cls, fields):
    with pytest.raises(ValueError, match=r"expected .* got"):
        cls(**fields)
