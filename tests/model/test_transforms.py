"""Rematerialization computes p(x | z) for a few samples at a time: the same numbers in less memory."""

import chex
import jax
import jax.numpy as jnp
import pytest

from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import PointWeights, VariationalWeights
from dgmzoo.model.functional import functional
from dgmzoo.model.transforms import rematerialized
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.zoo.vae.vae import VAE


@pytest.mark.parametrize(
    "objective, weights",
    [
        (DReG(36), PointWeights()),
        pytest.param(DReG(36), VariationalWeights(), marks=pytest.mark.thorough),
        pytest.param(IWAE(36), VariationalWeights(), marks=pytest.mark.thorough),
        pytest.param(IWAE(36), PointWeights(), marks=pytest.mark.thorough),
    ],
    ids=lambda value: type(value).__name__,
)
def test_rematerialization_gives_the_same_numbers_in_less_memory(objective, weights):
    module = VAE(4, encoder=MLP((16,)), decoder=MLP((64, 64), weights=weights), shape=(8, 8))
    batch, key = {"x": jax.random.bernoulli(jax.random.key(0), 0.5, (10, 8, 8)).astype(jnp.float32)}, jax.random.key(1)
    plain = functional(module)
    params = jax.jit(plain.init)(key, batch)["params"]
    losses_and_gradients, memory = [], []
    for model in (plain, rematerialized(plain)):

        def loss(params, model=model):
            return objective(model, {"params": params}, batch, key, jnp.int32(0), 100)[0]

        program = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
        losses_and_gradients.append(program(params))
        memory.append(program.memory_analysis().temp_size_in_bytes)
    chex.assert_trees_all_close(*losses_and_gradients, rtol=1e-4, atol=1e-5)
    assert memory[1] < 0.5 * memory[0]
