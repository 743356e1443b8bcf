"""Discrete latents: the score-function gradient and the bounds of a belief network against enumeration of all codes."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from tests.support import probes

BELIEF_NETWORKS = {"one layer": (3,), "two layers": (3, 2)}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _enumerated(model, variables, batch, sizes):
    """`log p(x, z)` and `log q(z | x)` for every z, `[2^sum(sizes), B]`."""
    codes = probes.all_codes(sum(sizes))
    parts = jnp.split(codes, np.cumsum(sizes)[:-1], 1)
    rows = batch["x"].shape[0]
    given = {f"z{i + 1}": jnp.repeat(part[:, None], rows, 1) for i, part in enumerate(parts)}
    evidence, _ = model.evidence(variables, batch, jax.random.key(0), Query(len(codes), given=given))
    return evidence.log_joint, evidence.log_q


@pytest.fixture(scope="module", params=BELIEF_NETWORKS)
def belief_network(request):
    """Model, objective, random variables (with those of the baseline), batch and sizes of a belief network."""
    sizes = BELIEF_NETWORKS[request.param]
    model = functional(SigmoidBeliefNetwork(latent_dims=sizes, hidden=(4,), shape=(4,)))
    objective = NVIL(num_samples=4, baseline_hidden=(4,), decay=0.95)
    batch = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, 4)), jnp.float32)}
    baseline = objective.init(jax.random.key(1), batch)
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    random = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), jnp.float32), params)
    return model, objective, {**baseline, "params": {**params, **baseline["params"]}}, batch, sizes


@pytest.mark.thorough
def test_score_function_gradient_agrees_with_enumeration(belief_network):
    model, objective, variables, batch, sizes = belief_network
    # A running deviation below 1 does not scale the signal.
    variables = {**variables, "signal": {"mean": jnp.float32(-3.0), "variance": jnp.float32(0.5)}}

    def exact(params):
        log_joint, log_q = _enumerated(model, {**variables, "params": params}, batch, sizes)
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    def sampled(params, key):
        return objective(model, {**variables, "params": params}, batch, key, jnp.asarray(0), 8)

    num = 4000
    keys = jax.random.split(jax.random.key(3), num)
    gradients, (metrics, _) = jax.jit(jax.vmap(jax.grad(sampled, has_aux=True), (None, 0)))(variables["params"], keys)
    truth = jax.jit(jax.grad(exact))(variables["params"])
    del truth["baseline"], gradients["baseline"]
    max_score = 0.0
    for path, leaf in jax.tree.leaves_with_path(truth):
        samples = np.asarray(_at(gradients, path), np.float64)
        error = samples.std(0, ddof=1) / math.sqrt(num)
        assert (np.abs(leaf) > 4 * error).any() or leaf.size < 3, "the gradient is not distinguishable from zero"
        max_score = max(max_score, (np.abs(samples.mean(0) - leaf) / np.maximum(error, 1e-6)).max())
    assert max_score < 4
    elbo, error = metrics["elbo"].mean(), metrics["elbo"].std() / math.sqrt(num)
    assert abs(elbo + exact(variables["params"])) < 4 * error


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


@pytest.mark.thorough
def test_bounds_are_below_the_enumerated_likelihood(belief_network):
    model, _, variables, batch, sizes = belief_network
    log_joint, log_q = _enumerated(model, variables, batch, sizes)
    np.testing.assert_allclose(jnp.exp(log_q).sum(0), 1, rtol=1e-5)
    exact = np.asarray(jax.nn.logsumexp(log_joint, 0))
    elbo = np.asarray((jnp.exp(log_q) * (log_joint - log_q)).sum(0))
    assert (elbo < exact - 0.01).all()
    estimate = evaluate(model, variables, batch, jax.random.key(4), 5000)
    assert abs(-estimate.value - exact.mean()) < 4 * estimate.monte_carlo_error
    assert 0 < estimate.monte_carlo_error < 0.03
    assert estimate.elbo == pytest.approx(elbo.mean(), abs=0.03)
    rows = {"x": jnp.asarray(list(itertools.product((0.0, 1.0), repeat=4)))}
    log_joint, _ = _enumerated(model, variables, rows, sizes)
    assert jnp.exp(log_joint).sum() == pytest.approx(1, abs=1e-4)
