"""Estimators with piecewise normals: unbiased ones, the bias of a sampled ratio, and a fit to two modes."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import optimize

from dgmzoo.reparam.distributions import PiecewiseNormal
from tests.support.noise_quadrature import expected_gradient, gradient_of_expectation, noise_rule, product_rule

kl_divergence = dist.kl_divergence

# One observation and one latent unit: x ~ N(1.3 z - 0.2, 0.7^2). Parameters [10] of the posterior, then of the prior.
PARAMS = np.array([0.2, -0.3, -0.8, 0.1, -0.5, 0.1, 0.3, 0.0, -0.4, 0.5])


def posterior_and_prior(params):
    return PiecewiseNormal(params[0], jnp.exp(params[1:5])), PiecewiseNormal(params[5], jnp.exp(params[6:]))


def log_likelihood(z):
    return -(((0.9 - (1.3 * z - 0.2)) / 0.7) ** 2) / 2


def piecewise_posterior(params, noise):
    """Bound with a piecewise posterior, a normal prior and the sampled log-ratio."""
    q, z = posterior_and_prior(params)[0], posterior_and_prior(params)[0].transform(noise)
    return log_likelihood(z) + dist.Normal(params[5], jnp.exp(params[6])).log_prob(z) - q.log_prob(z)


def centred_prior(params, noise):
    """Bound with a normal posterior, a piecewise prior over z and the sampled log-ratio."""
    q, p = dist.Normal(params[0], jnp.exp(params[1])), posterior_and_prior(params)[1]
    z = q.loc + q.scale * noise
    return log_likelihood(z) + p.log_prob(z) - q.log_prob(z)


def centred_prior_closed(params, noise):
    """Bound with a normal posterior, a piecewise prior over z and the closed divergence."""
    q, p = dist.Normal(params[0], jnp.exp(params[1])), posterior_and_prior(params)[1]
    return log_likelihood(q.loc + q.scale * noise) - kl_divergence(q, p)


def centred_both_closed(params, noise):
    """Bound with a piecewise posterior, a piecewise prior over z and the closed divergence."""
    q, p = posterior_and_prior(params)
    return log_likelihood(q.transform(noise)) - kl_divergence(q, p)


def noncentred_prior(params, noise):
    """Bound with the prior's noise as the latent and a normal posterior; the map to z is part of the decoder."""
    q, p = dist.Normal(params[0], jnp.exp(params[1])), posterior_and_prior(params)[1]
    latent = q.loc + q.scale * noise
    return log_likelihood(p.transform(latent)) + dist.Normal(0.0, 1.0).log_prob(latent) - q.log_prob(latent)


def gradients(objective, num_samples=1):
    """Expected gradient of the estimator and gradient of its expectation, by quadrature split at jumps."""

    def rule(params):
        q, p = posterior_and_prior(jnp.asarray(params))
        loc, scale = params[0], np.exp(params[1])
        jumps = {
            centred_prior: (p.breakpoints - loc) / scale,
            centred_prior_closed: (p.breakpoints - loc) / scale,
            noncentred_prior: (p.edges - loc) / scale,
        }
        x, w = noise_rule([*np.asarray(jumps.get(objective, q.edges))])
        return (x, w) if num_samples == 1 else product_rule(x, w)

    def importance_weighted(params, noise):
        return jax.nn.logsumexp(jax.vmap(objective, (None, 0))(params, noise))

    estimate = objective if num_samples == 1 else importance_weighted
    values = jax.jit(jax.vmap(estimate, (None, 0)))

    def expectation(params):
        x, w = rule(params)
        return jnp.dot(w, values(params, x))

    return expected_gradient(estimate, PARAMS, *rule(PARAMS)), gradient_of_expectation(expectation, PARAMS)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "objective, num_samples",
    [
        (piecewise_posterior, 1),
        (piecewise_posterior, 2),
        (centred_prior_closed, 1),
        (centred_both_closed, 1),
        (noncentred_prior, 1),
        (noncentred_prior, 2),
    ],
)
def test_estimator_is_unbiased(objective, num_samples, x64):
    np.testing.assert_allclose(*gradients(objective, num_samples), atol=1e-8)


@pytest.mark.parametrize("num_samples", [1, 2])
def test_jumps_of_a_centred_prior_bias_a_sampled_ratio(num_samples, x64):
    expected, exact = gradients(centred_prior, num_samples)
    assert np.abs(expected - exact).max() > 0.02


def test_a_piecewise_normal_fits_two_modes_better_than_a_normal(x64):
    modes = dist.MixtureSameFamily(dist.Categorical(np.ones(2) / 2), dist.Normal(np.array([-1.5, 1.5]), 0.5))

    def smallest_divergence(pieces):
        edges = PiecewiseNormal(0.0, np.ones(pieces)).edges
        x, w = noise_rule(np.asarray(edges), reach=8)

        def divergence(params):
            d = PiecewiseNormal(params[0], jnp.exp(params[1:]))
            z = d.transform(x)
            with jax.numpy_rank_promotion("allow"):
                return jnp.dot(w, d.log_prob(z) - modes.log_prob(z))

        fun = jax.jit(jax.value_and_grad(divergence))
        starts = [[loc, *np.full(pieces, s)] for loc, s in ((0.0, 0.4), (1.5, -0.7), (0.0, -0.3))]
        return min(optimize.minimize(fun, start, jac=True, method="BFGS").fun for start in starts)

    assert smallest_divergence(5) < smallest_divergence(1) - 0.3
