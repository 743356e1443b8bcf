"""Regression: the predictive density in closed form, and horseshoe weights that find the relevant inputs.

For a table over five data sets: `DGMZOO_TEST_SEEDS=5 python -m pytest -s -n0 -m thorough tests/zoo/test_regression.py`.
"""

import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dgmzoo
from dgmzoo.data.sets import toys
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.evaluation.predictive import average_over_networks, predictive_log_likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.ddnn.regression import Regression

pytestmark = pytest.mark.optimized

NUM_SEEDS = int(os.environ.get("DGMZOO_TEST_SEEDS", "2"))  # of data sets


@pytest.mark.thorough
def test_averaging_over_networks_gives_the_predictive_density():
    """A linear regression with normal weights has the predictive density N(x; c . loc + bias, s^2 + c^2 . scale^2)."""
    model = functional(Regression(likelihood=Normal(homoscedastic=True, weights=VariationalWeights()), shape=(1,)))
    random = np.random.default_rng(0)
    rows = {name: random.normal(size=(6, size)).astype(np.float32) for name, size in (("x", 1), ("context", 3))}
    variables = jax.jit(model.init)(jax.random.key(0), rows)
    head = variables["params"]["likelihood"]["VariationalDense_0"]
    head["kernel"] = jnp.asarray(random.normal(0, 0.4, head["kernel"].shape), jnp.float32)
    loc, unconstrained = np.asarray(head["kernel"])[:, 0].T
    scale = np.logaddexp(0, unconstrained + np.log(np.expm1(1)))
    mean, noise = rows["context"] @ loc + np.asarray(head["bias"]), rows["context"] ** 2 @ scale**2

    def density(variance):
        return stats.norm.logpdf(rows["x"][:, 0], mean, np.sqrt(variance))

    at_means = predictive_log_likelihood(model, variables, rows, jax.random.key(1), 1)
    np.testing.assert_allclose(at_means.per_example, density(1.0), rtol=1e-5)
    averaged = predictive_log_likelihood(model, variables, rows, jax.random.key(1), 1, weight_draws=600)
    error = np.sqrt(averaged.variance)
    assert (abs(averaged.per_example - density(1 + noise)) < 4 * error).all() and error.max() < 0.3
    assert (abs(averaged.per_example - at_means.per_example) > 6 * error).any(), "mean weights would give the same"
    with pytest.raises(ValueError, match="expected a context for each of 6 rows"):
        model.evidence(variables, {"x": rows["x"]}, jax.random.key(0))


def test_probabilities_are_averaged_not_their_logarithms():
    networks = [
        Estimate(np.log(p), np.zeros(2), np.log(p), {"z": np.full(1, p[0])}, {})
        for p in np.array([[0.2, 0.5], [0.4, 0.5], [0.9, 0.5]])
    ]
    average = average_over_networks(networks)
    np.testing.assert_allclose(average.per_example, np.log([0.5, 0.5]))
    variance = np.var([0.2, 0.4, 0.9], ddof=1) / 3 / 0.5**2  # of the mean, relative to its square
    np.testing.assert_allclose(average.variance, [variance, 0], atol=1e-12)
    np.testing.assert_allclose(average.kl["z"], 0.5)


def test_all_rows_and_samples_share_the_draw_of_a_network():
    model = functional(Regression(likelihood=Bernoulli(weights=VariationalWeights()), shape=(1,)))
    rows = {"x": np.ones((700, 1), np.float32), "context": np.ones((700, 2), np.float32)}
    variables = jax.jit(model.init)(jax.random.key(0), rows)
    estimate = predictive_log_likelihood(model, variables, rows, jax.random.key(1), 3, weight_draws=2)
    np.testing.assert_allclose(estimate.per_example, estimate.per_example[0], rtol=1e-6)
    one, _ = jax.jit(model.evidence)(variables, rows, jax.random.key(2), Query(3, weights=jax.random.key(3)))
    assert np.ptp(one.log_likelihood) < 1e-6


def f1(selected, relevant):
    return 2 * (selected & relevant).sum() / (selected.sum() + relevant.sum())


def regression(seed, weights):
    """Of a data set: F1 of the inputs whose weight is above a tenth of the largest, the best F1 of any threshold, RMSE."""
    changes = {"data.seed": seed} | ({"model.likelihood.weights": weights} if weights != "horseshoe" else {})
    run = dgmzoo.train(dgmzoo.experiment("ddnn/toy_sparse_linear_regression", changes), progress=False)
    (weight,) = run.weights().values()
    size = np.linalg.norm(weight, axis=1)
    relevant = toys.sparse_coefficients(seed) != 0
    assert relevant.sum() == 8 and run.record["bound"] == "predictive" and run.record["weight_draws"] == 0
    rows = run.dataset.evaluation_rows("test")
    error = np.sqrt(np.mean(np.square(run.reconstruct(rows) - rows["x"])))
    best = max(f1(size >= threshold, relevant) for threshold in size)
    return f1(size > 0.1 * size.max(), relevant), best, error


@pytest.mark.thorough
def test_horseshoe_weights_find_the_relevant_inputs():
    score, *_ = regression(0, "horseshoe")
    assert score >= 0.9


@pytest.mark.thorough
def test_horseshoe_weights_find_the_relevant_inputs_and_normal_weights_do_not():
    table = {
        weights: np.array([regression(seed, weights) for seed in range(NUM_SEEDS)])
        for weights in ("horseshoe", "normal")
    }
    for weights, rows in table.items():
        print(f"\n{weights}: mean F1 {rows[:, 0].mean():.3f}, with the best threshold {rows[:, 1].mean():.3f}, ")
        print(f"held-out RMSE {rows[:, 2].mean():.4f}; by data set (F1, best F1, RMSE):\n{rows.round(4)}")
    horseshoe, normal = (table[weights].mean(0) for weights in ("horseshoe", "normal"))
    assert horseshoe[0] >= 0.95 and horseshoe[2] <= 0.8 * normal[2]
    assert normal[0] < 0.5, "the threshold alone does not find the relevant inputs"
