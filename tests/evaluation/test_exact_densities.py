"""Exact densities: a MADE sums to one over all x, is evaluated exactly, and connects only what its order allows."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.networks.masked import made_degrees
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.ddnn.made import MADE

MADES = {
    "one mask": MADE(hidden=(20, 20), shape=(2, 3)),
    "one order": MADE(hidden=(20,), random_order=True, shape=(6,)),
    "three masks": MADE(hidden=(20,), num_masks=3, random_order=True, shape=(6,)),
    "categorical": MADE(hidden=(20,), random_order=True, likelihood=Categorical(num_classes=3), shape=(4,)),
}


def random_made(name):
    """Module, model, random variables in double precision, and rows of all x."""
    module = MADES[name]
    model, dims = functional(module), math.prod(module.shape)
    tokens = isinstance(module.likelihood, Categorical)
    vectors = np.array(list(itertools.product(range(3 if tokens else 2), repeat=dims)))
    x = vectors.reshape(-1, *module.shape).astype(np.int32 if tokens else np.float64)
    dtype = np.float32 if tokens else np.float64  # tokens enter the network as float32
    variables = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(x[:1], jnp.int32 if tokens else jnp.float32)})
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), dtype), variables)
    return module, model, variables, {"x": jnp.asarray(x)}


@pytest.mark.parametrize("name", MADES)
def test_probabilities_of_all_x_sum_to_one(x64, name):
    module, model, variables, rows = random_made(name)
    tolerance = 1e-5 if name == "categorical" else 1e-10
    total = 0.0

    @jax.jit
    def log_likelihood(step):
        return model.evidence(variables, rows, jax.random.key(0), Query(2, train=True, step=step))[0].log_likelihood

    for step in range(module.num_masks):  # training uses one mask after the other
        assert log_likelihood(step).shape == (2, len(rows["x"]))
        probability = np.exp(log_likelihood(step)[0])
        assert probability.sum() == pytest.approx(1, abs=tolerance)
        assert probability.max() < 0.5, "almost all mass lies at one x, so the test has no power"
        total = total + probability / module.num_masks
    mixture = jax.jit(lambda: model.evidence(variables, rows, jax.random.key(0))[0].log_likelihood[0])()
    np.testing.assert_allclose(np.exp(mixture), total, atol=tolerance)
    estimate = evaluate(model, variables, rows, jax.random.key(0), 100)
    np.testing.assert_allclose(np.exp(estimate.per_example), total, atol=tolerance)


@pytest.mark.parametrize("name", ["one mask", "one order", "three masks"])
def test_each_logit_depends_on_exactly_the_elements_before_it(x64, name):
    module, model, variables, rows = random_made(name)
    dims = math.prod(module.shape)
    orders = made_degrees(dims, module.hidden, module.num_masks, module.random_order, module.mask_seed)[0]
    assert (np.sort(orders, 1) == np.arange(1, dims + 1)).all()
    assert len({tuple(order) for order in orders}) == module.num_masks
    assert ((orders == np.arange(1, dims + 1)).all()) == (not module.random_order)

    def logits(x, mask):
        query = Query(train=True, step=mask)
        evidence, _ = model.evidence(variables, {"x": x[None]}, jax.random.key(0), query)
        return evidence.parameters["logits"].reshape(dims)

    jacobians = jax.jit(jax.vmap(jax.jacfwd(logits), (0, None)))
    for mask in range(module.num_masks):
        jacobian = jacobians(rows["x"], mask).reshape(-1, dims, dims)  # d logit / d x
        connected = (np.asarray(jacobian) != 0).any(0)
        np.testing.assert_array_equal(connected, orders[mask][:, None] > orders[mask][None])
