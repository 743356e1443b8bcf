"""The doubly reparameterized gradient: its mean is that of the plain one, its variance is lower, at any depth."""

import dataclasses
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

from dgmzoo.config.layer_check import check_fields
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.model.contract import Evidence, Latent, Query
from dgmzoo.model.functional import functional
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.hierarchical_vae import HierarchicalVAE
from dgmzoo.zoo.vae.vae import VAE

pytestmark = pytest.mark.optimized


class Shared(nn.Module):
    """One matrix for both networks: q(z | x) = N(W x, 1), p(x | z) = N(W' z, 1)."""

    bound = "elbo"

    @nn.compact
    def evidence(self, batch, query):
        w = self.param("encoder", nn.initializers.normal(), (4, 2))
        loc = (batch["x"] @ w)[None]
        noise = jax.random.normal(self.make_rng("sample"), (query.num_samples, *loc.shape[1:]))
        z = query.given.get("z", loc + noise)
        log_p, log_q = -0.5 * jnp.square(z).sum(-1), -0.5 * jnp.square(z - loc).sum(-1)
        latent = Latent(z, z, log_p, log_q, (log_q - log_p)[..., None], {"loc": loc})
        return Evidence(-0.5 * jnp.square(batch["x"][None] - z @ w.T).sum(-1), {"z": latent})


SHAPE = (4,)
LEARNED = VariationalLayer(prior=LearnedPrior())
MODELS = {
    "one layer": VAE(
        latent_dim=2, latent=LEARNED, encoder=MLP((4,)), decoder=MLP((4,)), likelihood=Normal(), shape=SHAPE
    ),
    "two layers": HierarchicalVAE((2, 2), hidden=(4, 3), depth=1, latent=LEARNED, likelihood=Normal(), shape=SHAPE),
    "shared": Shared(),
}
NUM, CHUNK = 20_000, 500
NAMES = ["one layer", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("two layers", "shared"))]


@functools.cache
def prepared(name):
    """The model, variables of order one, and a batch."""
    model = functional(MODELS[name])
    batch = {"x": jnp.asarray([[0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 1.0, 1.0]])}
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    keys = iter(jax.random.split(jax.random.key(1), len(jax.tree.leaves(variables))))

    def moved(path, leaf):
        name = jax.tree_util.keystr(path)
        strong = "encoders_1" in name or ("layers_1" in name and "['q']" in name)  # q(z2 | z1) leans on z1
        return leaf + (1.0 if strong else 0.35) * jax.random.normal(next(keys), leaf.shape)

    return model, jax.tree_util.tree_map_with_path(moved, variables), batch


@functools.cache
def trained(name):
    """The model, variables after a short training of the bound, so that the posterior fits, and a batch."""
    model, _, batch = prepared(name)
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    optimizer = optax.adam(0.01)
    state = optimizer.init(variables)

    @jax.jit
    def step(variables, state, key):
        loss = functools.partial(IWAE(64), model, batch=batch, key=key, step=jnp.zeros((), jnp.int32), num_data=1)
        change, state = optimizer.update(jax.grad(lambda variables: loss(variables)[0])(variables), state)
        return optax.apply_updates(variables, change), state

    with jax.numpy_dtype_promotion("standard"):
        for i in range(30):
            variables, state = step(variables, state, jax.random.key(i))
    return model, variables, batch


class Draws(NamedTuple):
    """Loss and gradients of an objective at N keys."""

    loss: np.ndarray  # [N]
    posterior: np.ndarray  # [N, P]  gradients of the posterior's parameters
    other: np.ndarray  # [N, Q]  and of all others


@functools.cache
def evaluated(objective, name, num, prepared=prepared):
    """The objective at `num` keys; the same keys for every objective."""
    model, variables, batch = prepared(name)

    def one(key):
        def loss(variables):
            return objective(model, variables, batch, key, jnp.zeros((), jnp.int32), 1)[0]

        value, gradient = jax.value_and_grad(loss)(variables)
        parts = {True: [jnp.zeros(0)], False: [jnp.zeros(0)]}
        for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
            where = jax.tree_util.keystr(path)
            parts["encoder" in where or "posterior" in where or "['q']" in where].append(leaf.ravel())
        return Draws(value, jnp.concatenate(parts[True]), jnp.concatenate(parts[False]))

    run = jax.jit(lambda keys: jax.lax.map(jax.vmap(one), keys.reshape(-1, CHUNK)))
    draws = run(jax.random.split(jax.random.key(2), num))
    return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64).reshape(num, *leaf.shape[2:]), draws)


def errors(one, other):
    """Mean differences of paired draws, in standard errors."""
    difference = one - other
    return difference.mean(0) / (difference.std(0, ddof=1) / np.sqrt(len(difference)))


class CutPosterior(DReG):
    """DReG that stops the distribution parameters of q where its density is taken, which is right for one layer only."""

    def __call__(self, model, variables, batch, key, step, num_data):
        query = Query(self.num_samples, train=True)
        evidence, updates = model.evidence(variables, batch, key, query)
        path = {name: latent.sample for name, latent in evidence.latents.items()}
        still = jax.lax.stop_gradient(variables)
        log_p = model.evidence(still, batch, key, dataclasses.replace(query, given=path))[0].log_joint
        for name, latent in evidence.latents.items():
            q = jax.lax.stop_gradient(latent.q)
            log_p -= dist.Normal(q["loc"], q["scale"]).log_prob(path[name]).sum(-1)
        weight = jax.nn.softmax(jax.lax.stop_gradient(evidence.log_weight), 0)
        return -(jnp.square(weight) * log_p).sum(0).mean(), ({}, updates)


@pytest.mark.parametrize("name", NAMES)
def test_the_mean_is_that_of_the_plain_gradient(name):
    plain, doubly = evaluated(IWAE(4), name, NUM), evaluated(DReG(4), name, NUM)
    z = errors(doubly.posterior, plain.posterior)
    assert np.abs(z).max() < 4 and np.sqrt(np.mean(z**2)) < 1.6
    assert np.median(np.abs(errors(plain.posterior, 0.0))) > 10  # enough draws to tell a gradient from zero


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_other_gradients_are_the_plain_ones_in_every_draw(name):
    plain, doubly = evaluated(IWAE(4), name, NUM), evaluated(DReG(4), name, NUM)
    np.testing.assert_allclose(doubly.loss, plain.loss, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(doubly.other, plain.other, rtol=1e-3, atol=1e-4)


@pytest.mark.thorough
def test_stopping_the_parameters_of_q_is_wrong_for_two_layers_only():
    one, two = (
        np.abs(errors(evaluated(CutPosterior(4), name, NUM).posterior, evaluated(IWAE(4), name, NUM).posterior)).max()
        for name in ("one layer", "two layers")
    )
    assert one < 4 and two > 6


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["one layer", "two layers"])
def test_the_variance_is_lower_once_the_posterior_fits(name):
    """By a factor of 14 and 57. Before training it is not lower, because the weights are random."""
    plain, doubly = (
        evaluated(objective(64), name, CHUNK, trained).posterior.var(0).sum() for objective in (IWAE, DReG)
    )
    assert doubly < plain / 5


@pytest.mark.thorough
def test_layers_without_a_doubly_reparameterized_gradient_are_refused():
    with pytest.raises(ValueError, match=r"model\.latent.*no pathwise gradient"):
        check_fields(SigmoidBeliefNetwork(), DReG())
    jumping = VAE(latent=PiecewiseLayer())
    check_fields(jumping, IWAE())
    with pytest.raises(ValueError, match="PiecewiseNormal jumps where the parameters move it; use iwae"):
        check_fields(jumping, DReG())
    model, batch = functional(MADE(hidden=(8,), shape=SHAPE)), prepared("shared")[2]
    variables = jax.jit(model.init)(jax.random.key(0), batch)
    with pytest.raises(ValueError, match="expected a model with latents for DReG, got one without; use ELBO"):
        DReG()(model, variables, batch, jax.random.key(0), jnp.zeros((), jnp.int32), 1)
