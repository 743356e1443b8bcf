"""Posteriors under a horseshoe prior: augmented divergence, capped scale, and the unbiased surrogate gradient."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.reparam.distributions import (
    Horseshoe,
    augmented_horseshoe_kl,
    half_cauchy_kl,
    horseshoe_log_prob_surrogate,
    log_regularized_scale,
    log_slab_mass,
)
from tests.support.noise_quadrature import noise_rule


def test_half_cauchy_divergence_equals_quadrature(x64):
    loc, scale = (a.ravel() for a in np.meshgrid([-9.0, -2, -0.3, 0, 1.2, 25], [0.01, 0.3, 0.49, 0.5, 0.52, 1, 4, 30]))

    def expected_softplus(m, s):
        def f(n):
            return stats.norm.pdf(n) * np.logaddexp(0, 2 * (m + s * n))

        cuts = sorted({-14, 14, 0, *(c for c in (-m / s - 2 / s, -m / s, -m / s + 2 / s) if -14 < c < 14)})
        return sum(integrate.quad(f, a, b, epsabs=1e-13, limit=300)[0] for a, b in itertools.pairwise(cuts))

    exact = np.array([expected_softplus(m, s) for m, s in zip(loc, scale, strict=True)])
    exact = exact - loc - np.log(scale) - 0.5 * np.log(2 * np.pi * np.e) - np.log(2 / np.pi)
    np.testing.assert_allclose(jax.jit(half_cauchy_kl)(loc, scale), exact, rtol=1e-12, atol=1e-12)
    registered = dist.kl_divergence(dist.LogNormal(loc + np.log(3), scale), dist.HalfCauchy(3.0))
    np.testing.assert_allclose(registered, exact, rtol=1e-11, atol=1e-11)
    single = np.asarray(jax.jit(half_cauchy_kl)(*(jnp.asarray(a, jnp.float32) for a in (loc, scale))), float)
    np.testing.assert_allclose(single / np.maximum(1, exact), exact / np.maximum(1, exact), atol=2e-6)


@pytest.mark.parametrize("slab", [np.inf, 2.0])
def test_augmented_divergence_equals_quadrature_and_bounds_the_marginal_one(slab, x64):
    loc, sd, local_loc, local_scale, scale = 0.4, 0.3, -0.5, 0.6, 0.8
    n, w = (np.asarray(a) for a in noise_rule())
    z, log_local = loc + sd * n[:, None], local_loc + local_scale * n[None]
    log_q = stats.norm.logpdf(z, loc, sd) + stats.norm.logpdf(log_local, local_loc, local_scale)
    log_p = np.log(2 / np.pi) - np.log1p(np.exp(2 * log_local)) + log_local
    log_p = log_p + stats.norm.logpdf(z, 0, scale * np.exp(log_local)) - (z / slab) ** 2 / 2
    exact = w @ (log_q - log_p) @ w + float(log_slab_mass(scale / slab))
    divergence = float(jax.jit(augmented_horseshoe_kl)(loc, sd, local_loc, local_scale, scale, slab))
    assert divergence == pytest.approx(exact, abs=1e-10)
    x, w = noise_rule([-loc / sd, *(-loc / sd + s * 10.0**-k for k in range(1, 9) for s in (-1, 1))])
    marginal = w @ (stats.norm.logpdf(loc + sd * x, loc, sd) - jax.jit(Horseshoe(scale, slab).log_prob)(loc + sd * x))
    assert divergence > float(marginal) > 0


def test_regularized_scale_is_capped_by_the_slab(x64):
    scale = np.array([1e-3, 1.0, 1e5])
    exact = np.log(scale / np.sqrt(1 + (scale / 2) ** 2))
    np.testing.assert_allclose(log_regularized_scale(np.log(scale), 2.0), exact, atol=1e-14)


@pytest.mark.thorough
@pytest.mark.parametrize("slab", [np.inf, 1.5])
def test_the_surrogate_gradient_is_unbiased_and_has_a_variance_unlike_the_pathwise_one(slab, x64):
    """Against E[log p(z) d log q(z)] for the posterior and E[d log p(z)] for the prior, by quadrature."""
    params = jnp.array([0.2, -0.5, -0.3])  # location, log sd, log scale
    loc, sd = params[0], jnp.exp(params[1])
    zero = float(-loc / sd)
    x, w = noise_rule([zero, *(zero + s * 10.0 ** (-k / 2) for k in range(1, 33) for s in (-1, 1))])

    def surrogate(params, noise):
        loc, sd, scale = params[0], jnp.exp(params[1]), jnp.exp(params[2])
        return horseshoe_log_prob_surrogate(loc + sd * noise, loc, sd, scale, slab)

    def pathwise(params, noise):
        return Horseshoe(jnp.exp(params[2]), slab).log_prob(params[0] + jnp.exp(params[1]) * noise)

    def score(params, noise):
        z = jax.lax.stop_gradient(loc + sd * noise)
        log_q = dist.Normal(params[0], jnp.exp(params[1])).log_prob(z)
        log_p = Horseshoe(jnp.exp(params[2]), slab).log_prob(z)
        return jax.lax.stop_gradient(log_p) * log_q + log_p

    def per_sample(f):
        return jax.jit(jax.vmap(jax.grad(f), (None, 0)))(params, x)

    values, exact_values = (jax.jit(jax.vmap(f, (None, 0)))(params, x) for f in (surrogate, pathwise))
    np.testing.assert_allclose(values, exact_values, rtol=1e-12)
    np.testing.assert_allclose(w @ per_sample(surrogate), w @ per_sample(score), atol=1e-6)

    # Towards z = 0 the second moment of the pathwise gradient diverges, that of the surrogate converges.
    gradients = {f: per_sample(f)[:, :2] for f in (pathwise, surrogate)}

    def second_moment(f, cut):
        return np.asarray(jnp.where(jnp.abs(x - zero) > cut, w, 0) @ gradients[f] ** 2)

    assert (second_moment(pathwise, 1e-6) > 20 * second_moment(pathwise, 1e-4)).all()
    np.testing.assert_allclose(second_moment(surrogate, 1e-6), second_moment(surrogate, 1e-4), rtol=0.02)
