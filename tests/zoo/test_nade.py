"""NADE, EoNADE, RNADE and mixture density networks: every order, the weight of the loss, recursions, marginals."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.likelihoods.mixture import MixtureOfNormals
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.testing import check_autoregressive
from dgmzoo.zoo.ddnn.eonade import EoNADE
from dgmzoo.zoo.ddnn.mixture_density_network import MixtureDensityNetwork
from dgmzoo.zoo.ddnn.nade import NADE
from dgmzoo.zoo.ddnn.rnade import RNADE

KEY = jax.random.key(0)
NUM = 40_000


def bits(dims):
    """All binary x `[2^D, D]`."""
    return jnp.asarray(list(itertools.product([0.0, 1.0], repeat=dims)), jnp.float32)


def random_variables(model, rows, scale=0.7):
    random = np.random.default_rng(0)
    variables = jax.jit(model.init)(KEY, rows)
    return jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, scale, leaf.shape), leaf.dtype), variables)


@pytest.mark.parametrize("dims", [1, 2, 16])
def test_nade_sums_to_one_given_a_context(dims):
    model, x = functional(NADE(hidden=6, context=MLP((3,)), shape=(dims,))), bits(dims)
    variables = random_variables(model, {"x": x[:2], "context": jnp.ones((2, 2))})

    @jax.jit
    def probability(context):
        rows = {"x": x, "context": jnp.broadcast_to(context[None], (len(x), 2))}
        return jnp.exp(model.evidence(variables, rows, KEY)[0].log_likelihood[0])

    p = np.array([probability(jnp.array(c)) for c in ([1.0, 0.0], [-1.0, 2.0])], np.float64)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    first = p[:, len(x) // 2 :].sum(1)  # p(x_1 = 1 | context)
    assert abs(first[0] - first[1]) > 1e-3


def test_nade_is_the_recursion_of_its_paper_and_connects_what_the_order_allows():
    model, x = functional(NADE(hidden=5, shape=(4,))), bits(4)
    variables = random_variables(model, {"x": x})
    W, V, b, c = (np.asarray(variables["params"][name], np.float64) for name in "WVbc")
    logits = [b[d, 0] + stats.logistic.cdf(c + np.asarray(x)[:, :d] @ W[:d, 0]) @ V[d, :, 0] for d in range(4)]
    evidence = jax.jit(model.evidence)(variables, {"x": x}, KEY)[0]
    np.testing.assert_allclose(evidence.parameters["logits"][0], np.stack(logits, 1), rtol=1e-4, atol=1e-5)
    check_autoregressive(lambda row: model.evidence(variables, {"x": row[None]}, KEY)[0].parameters["logits"][0, 0], x)


ORDERS = np.array(list(itertools.permutations(range(3))))


def in_every_order(module, variables, x):
    """log p(x) `[6, N]` in each order of three elements."""

    def body(module):
        a = module.first({}, len(x), False)
        return jnp.stack([module.log_prob_in_order(x, a, o) for o in jnp.asarray(ORDERS)])

    return np.asarray(jax.jit(lambda: module.apply(variables, method=body))(), np.float64)


@pytest.mark.parametrize("classes", [2, 3])
def test_eonade_sums_to_one_in_every_order_and_averages_probabilities(classes):
    likelihood = {} if classes == 2 else {"likelihood": Categorical(num_classes=3)}
    module = EoNADE(hidden=(6, 5), num_orders=4, shape=(3,), **likelihood)
    x = bits(3) if classes == 2 else jnp.asarray(list(itertools.product(range(3), repeat=3)), jnp.int32)
    model = functional(module)
    variables = random_variables(model, {"x": x})
    log_p = in_every_order(module, variables, x)
    np.testing.assert_allclose(np.exp(log_p).sum(1), 1, atol=1e-5)
    assert np.ptp(log_p, 0).max() > 0.05, "orders differ"
    fixed = np.asarray(module.bind(variables).orders)
    chosen = [int(np.flatnonzero((ORDERS == order).all(1))[0]) for order in fixed]
    log_likelihood = jax.jit(model.evidence)(variables, {"x": x}, KEY)[0].log_likelihood[0]
    np.testing.assert_allclose(np.exp(log_likelihood), np.exp(log_p[chosen]).mean(0), rtol=1e-4)


def test_the_training_loss_of_eonade_has_the_mean_over_all_orders():
    module, x = EoNADE(hidden=(6,), shape=(3,)), bits(3)
    model = functional(module)
    variables = random_variables(model, {"x": x})
    expected = in_every_order(module, variables, x).mean(0)
    rows = {"x": jnp.tile(x, (NUM, 1))}
    evidence = jax.jit(model.evidence)(variables, rows, KEY, Query(train=True))[0]
    estimates = np.asarray(evidence.log_likelihood, np.float64).reshape(NUM, 8)
    error = estimates.std(0) / NUM**0.5
    assert (np.abs(estimates.mean(0) - expected) < 4.5 * error).all() and error.max() < 0.05


def test_rnade_is_the_recursion_of_its_paper():
    model, random = functional(RNADE(hidden=4, likelihood=MixtureOfNormals(2), shape=(3,))), np.random.default_rng(1)
    x = random.normal(size=(6, 3)).astype(np.float32)
    variables = random_variables(model, {"x": x})
    W, V, b, c, rho = (np.asarray(variables["params"][name], np.float64) for name in ("W", "V", "b", "c", "rho"))
    total = 0.0
    for d in range(3):
        h = np.maximum(rho[d] * (c + x[:, :d] @ W[:d, 0]), 0)
        logits, locs, scales = np.split(h @ V[d] + b[d], 3, 1)
        alpha = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        mu = locs + np.sqrt(0.75) * np.array([-1, 1])
        sigma = np.logaddexp(0, scales + np.log(np.expm1(0.5)))
        total = total + np.log((alpha * stats.norm.pdf(x[:, d : d + 1], mu, sigma)).sum(1))
    log_p = jax.jit(model.evidence)(variables, {"x": x}, KEY)[0].log_likelihood[0]
    np.testing.assert_allclose(log_p, total, rtol=1e-4, atol=1e-5)


def test_a_mixture_density_network_is_bishops_mixture_and_marginalises_missing_elements():
    model = functional(MixtureDensityNetwork(components=3, context=MLP((5,)), shape=(2,)))
    random = np.random.default_rng(1)
    rows = {"x": random.normal(size=(6, 2)), "context": random.normal(size=(6, 4))}
    rows = {name: leaf.astype(np.float32) for name, leaf in rows.items()}
    variables = random_variables(model, rows)
    mask = np.array([[True, False]] * 6)
    log_p = jax.jit(model.evidence)(variables, rows, KEY)[0].log_likelihood[0]
    hidden = {**rows, "x": np.where(mask, rows["x"], np.nan).astype(np.float32), "mask": mask}
    of_first = jax.jit(model.evidence)(variables, hidden, KEY)[0].log_likelihood[0]
    grid = np.linspace(-25, 25, 2001, dtype=np.float32)
    for i in range(2):
        points = {
            "x": np.stack([np.full_like(grid, rows["x"][i, 0]), grid], 1),
            "context": np.repeat(rows["context"][i : i + 1], len(grid), 0),
        }
        p = np.exp(np.asarray(jax.jit(model.evidence)(variables, points, KEY)[0].log_likelihood[0], np.float64))
        assert np.log(p.sum() * (grid[1] - grid[0])) == pytest.approx(float(of_first[i]), abs=1e-3)
    alpha, mu, sigma = model_mixture(model, variables, rows)
    expected = np.log((alpha * stats.norm.pdf(rows["x"][None], mu, sigma).prod(-1)).sum(0))
    np.testing.assert_allclose(log_p, expected, rtol=1e-4, atol=1e-4)


def model_mixture(model, variables, rows):
    """Weights `[C, B]`, means and scales `[C, B, D]`, computed from the parameters."""
    params = jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), variables["params"])
    layer = params["context"]["Dense_0"]
    features = np.tanh(rows["context"] @ layer["kernel"] + layer["bias"])
    outputs = features @ params["head"]["kernel"] + params["bias"]
    logits, mu, sigma = outputs[:, :3], outputs[:, 3:9].reshape(6, 3, 2), outputs[:, 9:].reshape(6, 3, 2)
    alpha = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    scale = np.logaddexp(0, sigma + np.log(np.expm1(1.0)))
    return alpha.T, params["start"][:, None] + mu.swapaxes(0, 1), scale.swapaxes(0, 1)


def test_missing_elements_are_refused():
    rows = {"x": jnp.zeros((3, 2)), "mask": jnp.ones((3, 2), bool)}
    for module in (NADE(shape=(2,)), EoNADE(shape=(2,)), RNADE(shape=(2,))):
        with pytest.raises(ValueError, match="expected x without a mask, got one"):
            jax.eval_shape(functional(module).init, KEY, rows)
