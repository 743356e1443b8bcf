"""Working the samples of p(x | z) off a few at a time changes memory alone."""

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


@pytest.mark.parametrize("weights", [PointWeights(), VariationalWeights()], ids=lambda kind: type(kind).__name__)
@pytest.mark.parametrize("objective", [IWAE(36), DReG(36)], ids=lambda kind: type(kind).__name__)
def test_rematerialisation_gives_the_same_numbers_in_less_memory(objective, weights):
    net = VAE(4, encoder=MLP((16,)), decoder=MLP((64, 64), weights=weights), shape=(8, 8))
    batch, key = {"x": jax.random.bernoulli(jax.random.key(0), 0.5, (10, 8, 8)).astype(jnp.float32)}, jax.random.key(1)
    plain = functional(net)
    params = jax.jit(plain.init)(key, batch)["params"]
    found, memory = [], []
    for model in (plain, rematerialized(plain)):

        def loss(params, model=model):
            return objective(model, {"params": params}, batch, key, jnp.int32(0), 100)[0]

        program = jax.jit(jax.value_and_grad(loss)).lower(params).compile()
        found.append(program(params))
        memory.append(program.memory_analysis().temp_size_in_bytes)
    chex.assert_trees_all_close(*found, rtol=1e-4, atol=1e-5)
    assert memory[1] < 0.5 * memory[0]
