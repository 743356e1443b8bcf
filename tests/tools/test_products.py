"""The count of matrix products, by which the speed of training is judged."""

import numpy as np

from tests.support.tiny import TINY, prepared
from tests.tools.products import products_of_step


def test_products_of_a_step_have_the_flops_of_the_layers():
    experiment, model, dataset = prepared(TINY)
    flops = 0
    for (a, b), parameters, times in products_of_step(experiment, model, dataset):
        (contracted, _), _ = parameters["dimension_numbers"]
        inner = np.prod([a.shape[axis] for axis in contracted])
        flops += times * 2 * a.size * b.size // inner  # there are no batch axes
    layers = [(64, 8), (8, 4), (2, 8), (8, 64)]  # encoder, posterior head, decoder, likelihood
    forward = sum(2 * 64 * inputs * outputs for inputs, outputs in layers)
    assert flops == 3 * forward - 2 * 64 * 64 * 8  # the backward pass has two a layer, but x needs no gradient
