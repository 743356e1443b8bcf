"""Likelihoods against SciPy: densities, masks, samples, refusals, and heads that start at the mean of the first rows."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special, stats

import dgmzoo
from dgmzoo.layers.likelihoods.base import log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.likelihoods.discretized import DiscretizedLogistic
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import PointWeights, VariationalWeights
from dgmzoo.zoo.vae.vae import VAE

SHAPE = (2, 3)
RANDOM = np.random.default_rng(0)
FEATURES = jnp.asarray(RANDOM.normal(size=(4, 5, 7)), jnp.float32)  # [K, B, H]


def applied(likelihood):
    """p(x | features) of a head with initial parameters."""
    return likelihood.init_with_output(jax.random.key(0), FEATURES, SHAPE)[0]


def test_bernoulli_log_likelihood_equals_scipy():
    p, x = applied(Bernoulli()), RANDOM.integers(0, 2, (5, *SHAPE))
    probability = special.expit(np.asarray(parameters(p)["logits"], np.float64))
    expected = stats.bernoulli.logpmf(x, probability).reshape(4, 5, -1).sum(-1)
    np.testing.assert_allclose(log_likelihood(p, jnp.asarray(x, jnp.float32)), expected, rtol=1e-5)
    np.testing.assert_allclose(parameters(p)["mean"], probability, rtol=1e-5)


def test_normal_log_likelihood_equals_scipy():
    p, x = applied(Normal()), RANDOM.normal(size=(5, *SHAPE)).astype(np.float32)
    of_p = parameters(p)
    assert (np.asarray(of_p["scale"]) > 0).all()
    expected = stats.norm.logpdf(x, of_p["loc"], of_p["scale"]).reshape(4, 5, -1).sum(-1)
    np.testing.assert_allclose(log_likelihood(p, jnp.asarray(x)), expected, rtol=1e-4)
    np.testing.assert_array_equal(of_p["mean"], of_p["loc"])


def test_categorical_log_likelihood_equals_scipy():
    p, x = applied(Categorical(num_classes=5)), RANDOM.integers(0, 5, (5, *SHAPE)).astype(np.int32)
    log_p = special.log_softmax(np.asarray(parameters(p)["logits"], np.float64), -1)
    expected = np.take_along_axis(log_p, x[None, ..., None], -1)[..., 0].reshape(4, 5, -1).sum(-1)
    np.testing.assert_allclose(log_likelihood(p, jnp.asarray(x)), expected, rtol=1e-5)
    np.testing.assert_array_equal(parameters(p)["mean"], log_p.argmax(-1))


@pytest.mark.parametrize(
    "likelihood", [Bernoulli(), Normal(), Categorical(num_classes=5)], ids=lambda o: type(o).__name__
)
def test_missing_elements_do_not_count(likelihood):
    p = applied(likelihood)
    x = sample(likelihood.distribution(jnp.zeros((1, 5, *SHAPE, likelihood.size))), jax.random.key(1)).x
    x, mask = np.asarray(x), RANDOM.integers(0, 2, (5, *SHAPE)).astype(bool)
    other = np.where(mask, x, 1 - x)
    observed, missing = np.asarray(log_likelihood(p, x, mask)), np.asarray(log_likelihood(p, x, ~mask))
    np.testing.assert_array_equal(observed, log_likelihood(p, other, mask))
    np.testing.assert_allclose(observed + missing, log_likelihood(p, x), rtol=1e-5)
    np.testing.assert_array_equal(log_likelihood(p, x, np.zeros_like(mask)), 0)


@pytest.mark.parametrize("likelihood", [Bernoulli(), Normal()], ids=lambda o: type(o).__name__)
def test_missing_elements_may_be_nan(likelihood):
    x = np.full((5, *SHAPE), np.nan, np.float32)
    x[:, 0] = 1.0

    @jax.jit
    @jax.value_and_grad
    def value_and_gradient(unconstrained):
        return log_likelihood(likelihood.distribution(unconstrained), x, np.isfinite(x)).sum()

    value, gradient = value_and_gradient(jnp.zeros((1, 5, *SHAPE, likelihood.size)))
    assert np.isfinite(value) and np.isfinite(gradient).all()


@pytest.mark.parametrize(
    "likelihood, x",
    [
        (Bernoulli(), np.array([0.0, 0.5, 1.0])),
        (Categorical(num_classes=3), np.array([0, 3])),
        (Categorical(num_classes=3), np.array([0.0, 1.0])),
        (Categorical(num_classes=3), np.array([-1, 2])),
    ],
)
def test_x_outside_the_support_is_refused(likelihood, x):
    with pytest.raises(ValueError, match=r"expected .* got"):
        likelihood.check_support(x)
    likelihood.check_support(np.zeros(3, np.int32))


def test_bad_shapes_and_sizes_are_refused():
    p = applied(Bernoulli())
    with pytest.raises(ValueError, match=r"expected x of shape \(2, 3\) an example, got \(3, 2\)"):
        log_likelihood(p, jnp.zeros((5, 3, 2)))
    with pytest.raises(ValueError, match="expected num_classes >= 2, got 1"):
        Categorical(num_classes=1)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_densities_are_single_precision_at_least(dtype):
    unconstrained = jnp.zeros((1, 5, *SHAPE, 2), dtype)
    assert Normal().distribution(unconstrained).loc.dtype == jnp.float32
    assert Categorical(num_classes=2).distribution(unconstrained).logits.dtype == jnp.float32


def test_samples_follow_the_distribution():
    logits = jnp.asarray([[-2.0, 0.0, 1.0]])
    many = dist.BernoulliLogits(jnp.broadcast_to(logits[None], (1, 4000, 3)))
    draw = sample(many, jax.random.key(0))
    assert draw.x.dtype == jnp.float32 and set(np.unique(draw.x)) == {0.0, 1.0}
    probability = special.expit(np.asarray(logits[0]))
    error = np.sqrt(probability * (1 - probability) / 4000)
    assert (np.abs(draw.x.mean(0) - probability) < 4 * error).all()
    np.testing.assert_allclose(draw.mean[0], probability, rtol=1e-6)


@functools.partial(jax.jit, static_argnums=0)
def initial_parameters(likelihood, first):
    """Parameters of p(x | 0) after the head was initialized with the first rows."""
    variables = likelihood.init(jax.random.key(0), FEATURES, SHAPE, first)
    return parameters(likelihood.apply(variables, jnp.zeros((1, 2, 7)), SHAPE))


@pytest.mark.parametrize("weights", [PointWeights(), VariationalWeights()], ids=lambda kind: type(kind).__name__)
def test_heads_start_at_the_mean_of_the_first_rows(weights):
    """The mean is that of observed elements. With features of zero the parameters are those of the biases alone."""
    x = RANDOM.integers(0, 2, (5, *SHAPE)).astype(np.float32)
    mask = RANDOM.integers(0, 2, x.shape).astype(bool)
    mask[:, 0, 0] = False
    first = {"x": jnp.asarray(np.where(mask, x, np.nan)), "mask": jnp.asarray(mask)}
    seen, total = mask.sum(0), np.where(mask, x, 0).sum(0)
    expected = {
        Bernoulli(weights=weights): (total + 0.5) / (seen + 1),
        Normal(weights=weights): total / np.maximum(seen, 1),
        Normal(homoscedastic=True, weights=weights): total / np.maximum(seen, 1),
        DiscretizedLogistic(weights=weights): (total + 0.5) / (seen + 1),
    }
    for likelihood, mean in expected.items():
        of_p = jax.device_get(initial_parameters(likelihood, first))
        initial = of_p["mean" if isinstance(likelihood, Bernoulli) else "loc"]
        np.testing.assert_allclose(initial[0, 0], mean, rtol=1e-5, atol=1e-6, err_msg=type(likelihood).__name__)
        if "scale" in of_p:
            np.testing.assert_allclose(of_p["scale"] / of_p["scale"].max(), 1, rtol=1e-6)
    categorical = Categorical(num_classes=3, weights=weights)
    variables = jax.jit(lambda first: categorical.init(jax.random.key(0), FEATURES, SHAPE, first))(first)
    assert not any(np.asarray(leaf["bias"]).any() for leaf in variables["params"].values())


def test_the_head_of_an_image_starts_at_the_means_of_its_channels():
    x = RANDOM.normal(size=(5, 4, 4, 2)).astype(np.float32)
    features = jnp.zeros((1, 5, 4, 4, 7))
    p, _ = Normal().init_with_output(jax.random.key(0), features, x.shape[1:], {"x": jnp.asarray(x)})
    np.testing.assert_allclose(parameters(p)["loc"][0, 0, 0, 0], x.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)


def test_training_starts_at_the_mean_of_the_training_rows():
    x = (RANDOM.random((2000, 4)) < np.array([0.02, 0.3, 0.5, 0.9])).astype(np.float32)
    x = x[x[:, 0].argsort(kind="stable")]  # sorted rows: the first ones are similar to each other
    exp = dgmzoo.Experiment(
        model=VAE(2, encoder=MLP((3,)), decoder=MLP((3,))),
        data=dgmzoo.from_arrays(x, x[:10], x[:10]),
        training=dgmzoo.Training(steps=1, learning_rate=1e-12, batch_size=10),
        evaluation=dgmzoo.Evaluation(num_samples=1),
    )
    bias = dgmzoo.train(exp, progress=False).variables["params"]["likelihood"]["Dense_0"]["bias"]
    np.testing.assert_allclose(special.expit(bias), x.mean(0), atol=0.06)
    assert special.expit(bias)[0] > 0.005
