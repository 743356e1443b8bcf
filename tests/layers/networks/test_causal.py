"""Causal convolutions: each output reads exactly the pixels before it, and caches give the outputs of one pass."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.networks.causal import GatedCausalStack, MaskedConv
from dgmzoo.model.functional import functional
from dgmzoo.testing import check_autoregressive
from dgmzoo.zoo.ddnn.gated_pixel_cnn import GatedPixelCNN
from dgmzoo.zoo.ddnn.pixel_cnn import PixelCNN

KEY = jax.random.key(0)
HEIGHT, WIDTH = 3, 4


def random_variables(module, *arguments):
    random = np.random.default_rng(0)
    variables = jax.jit(module.init)(KEY, *arguments)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.5, leaf.shape), leaf.dtype), variables)


def test_caches_give_the_outputs_of_one_pass_which_read_exactly_the_pixels_before():
    net, random = GatedCausalStack(size=2, channels=6, depth=3, window=3), np.random.default_rng(1)
    x = jnp.asarray(random.normal(size=(2, HEIGHT, WIDTH, 1)), jnp.float32)
    context = jnp.asarray(random.normal(size=(2, 5)), jnp.float32)
    variables = random_variables(net, x, context)

    def pixel_by_pixel(net):
        caches, above, outputs = net.start(2, 1, WIDTH), jnp.zeros((2, WIDTH, 1)), []
        for r in range(HEIGHT):
            caches, shifts = net.row(caches, above, context)
            of_row, left = net.start(2, 1), jnp.zeros((2, 1))
            for c in range(WIDTH):
                of_row, output = net.pixel(of_row, left, shifts[:, :, c], context)
                outputs.append(output)
                left = x[:, r, c]
            above = x[:, r]
        return jnp.stack(outputs, 1).reshape(2, HEIGHT, WIDTH, 2)

    whole, parts = jax.jit(lambda: (net.apply(variables, x, context), net.apply(variables, method=pixel_by_pixel)))()
    np.testing.assert_allclose(parts, whole, rtol=1e-4, atol=1e-5)

    def outputs(row):
        return net.apply(variables, row.reshape(1, HEIGHT, WIDTH, 1), context[:1]).reshape(-1, 2)

    check_autoregressive(outputs, jnp.asarray(random.normal(size=(12, HEIGHT * WIDTH)), jnp.float32))
    of_context = jax.jit(jax.jacfwd(lambda context: net.apply(variables, x[:1], context)))(context[:1])
    assert (np.abs(of_context).max((0, 4, 5)) > 0).all(), "a pixel ignores the context"


@pytest.mark.parametrize("strict", [True, False])
def test_a_masked_convolution_reads_the_window_before_its_pixel(strict):
    conv, x = MaskedConv(2, window=3, strict=strict), jnp.ones((1, HEIGHT, WIDTH, 2))
    variables = random_variables(conv, x)
    slope = np.asarray(jax.jit(jax.jacfwd(lambda x: conv.apply(variables, x)[0]))(x))[:, :, :, 0].max((2, 5)) != 0
    for r, c in np.ndindex(HEIGHT, WIDTH):
        for i, j in np.ndindex(HEIGHT, WIDTH):
            is_before = i == r - 1 or (i == r and (j < c or (j == c and not strict)))
            assert slope[r, c, i, j] == (is_before and abs(j - c) <= 1), (r, c, i, j)


@pytest.mark.parametrize("entry", [GatedPixelCNN, PixelCNN])
def test_no_pixel_of_an_entry_reads_itself_or_a_later_one(entry):
    model = functional(entry(channels=3, depth=2, window=3, shape=(HEIGHT, WIDTH, 1)))
    x = jnp.asarray(np.random.default_rng(0).integers(0, 2, (4, HEIGHT, WIDTH, 1)), jnp.float32)
    variables = random_variables(model, {"x": x})

    def logits(x):
        return model.evidence(variables, {"x": x[None]}, KEY)[0].parameters["logits"].reshape(-1)

    slope = np.abs(jax.jit(jax.vmap(jax.jacfwd(logits)))(x)).reshape(4, HEIGHT * WIDTH, -1).max(0)
    assert (np.triu(slope) == 0).all() and (np.diag(slope, -1) > 0)[np.arange(11) % WIDTH != WIDTH - 1].all()


def test_wrong_sizes_and_images_of_several_channels_are_refused():
    for entry in (GatedPixelCNN, PixelCNN):
        with pytest.raises(ValueError, match=r"expected x of shape \[H, W\] or \[H, W, 1\], got \(2, 2, 3\)"):
            entry(shape=(2, 2, 3))
        with pytest.raises(ValueError, match="expected an odd window, got 4; choose 5"):
            entry(window=4)
