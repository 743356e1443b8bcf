"""Estimators with rectified normals: unbiased ones, and the bias of a sampled ratio from its jump at zero."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.reparam.distributions import RectifiedNormal
from tests.support.noise_quadrature import expected_gradient, gradient_of_expectation, noise_rule, product_rule

kl_divergence = dist.kl_divergence

# One observation and one latent unit: x ~ N(1.3 z - 0.2, 0.7^2). Parameters of the posterior, then of the prior.
PARAMS = np.array([0.2, -0.3, -0.1, 0.2])


def posterior_and_prior(params):
    return RectifiedNormal(params[0], jnp.exp(params[1])), RectifiedNormal(params[2], jnp.exp(params[3]))


def log_likelihood(z):
    return -(((0.9 - (1.3 * z - 0.2)) / 0.7) ** 2) / 2


def rectified_sample(params, noise):
    """The sample max(0, y) for given noise."""
    return jnp.maximum(params[0] + jnp.exp(params[1]) * noise, 0)


def closed_bound(params, noise):
    """Bound with the closed divergence."""
    q, p = posterior_and_prior(params)
    return log_likelihood(rectified_sample(params, noise)) - kl_divergence(q, p)


def log_weight(params, noise):
    """Bound with the sampled log-ratio of the rectified normals."""
    q, p = posterior_and_prior(params)
    z = rectified_sample(params, noise)
    return log_likelihood(z) + p.log_prob(z) - q.log_prob(z)


def log_weight_of_normal(params, noise):
    """Bound with the sampled log-ratio of the normals, with y as the latent."""
    q, p = (dist.Normal(d.loc, d.scale) for d in posterior_and_prior(params))
    y = params[0] + jnp.exp(params[1]) * noise
    return log_likelihood(jnp.maximum(y, 0)) + p.log_prob(y) - q.log_prob(y)


def importance_weighted(log_weight):
    """Importance-weighted objective of several samples."""
    return lambda params, noise: jax.nn.logsumexp(jax.vmap(log_weight, (None, 0))(params, noise))


def gradients(objective, num_samples=1):
    """Expected gradient of the estimator and gradient of its expectation, by quadrature split at y = 0."""

    def rule(params):
        x, w = noise_rule([-params[0] / np.exp(params[1])])
        return (x, w) if num_samples == 1 else product_rule(x, w)

    values = jax.jit(jax.vmap(objective, (None, 0)))

    def expectation(params):
        x, w = rule(params)
        return jnp.dot(w, values(params, x))

    return expected_gradient(objective, PARAMS, *rule(PARAMS)), gradient_of_expectation(expectation, PARAMS)


@pytest.mark.parametrize(
    "objective, num_samples",
    [(closed_bound, 1), (log_weight_of_normal, 1), (importance_weighted(log_weight_of_normal), 2)],
)
def test_the_closed_divergence_and_the_normal_as_latent_are_unbiased(objective, num_samples, x64):
    np.testing.assert_allclose(*gradients(objective, num_samples), atol=1e-8)


@pytest.mark.thorough
def test_a_sampled_ratio_is_biased_by_its_jump_at_zero(x64):
    expected, exact = gradients(log_weight)
    # The gradient lacks [g(0+) - g(0)] dP(z > 0)/dtheta, because log q and log p jump at z = 0.
    q, _ = posterior_and_prior(PARAMS)
    jump = log_weight(PARAMS, 1e-9 - q.loc / q.scale) - log_weight(PARAMS, -9.0)
    missing = jump * jax.grad(lambda params: jax.scipy.stats.norm.cdf(params[0] / jnp.exp(params[1])))(
        jnp.asarray(PARAMS)
    )
    np.testing.assert_allclose(expected + np.asarray(missing), exact, atol=1e-7)
    assert np.abs(missing[:2]).min() > 0.05
    expected, exact = gradients(importance_weighted(log_weight), 2)
    assert np.abs(expected - exact).max() > 0.02
