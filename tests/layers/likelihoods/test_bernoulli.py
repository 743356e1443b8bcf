"""The Bernoulli likelihood with logits of any size: values, gradients and curvature against SciPy."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special

from dgmzoo.layers.likelihoods.base import log_likelihood

LOGITS = np.concatenate([np.linspace(-40, 40, 801), [-1e4, -200.0, 200.0, 1e4]])


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_log_likelihood_equals_scipy(x64, x):
    exact = special.log_expit(LOGITS if x else -LOGITS)
    rows = np.full((len(LOGITS), 1), x)
    double = log_likelihood(dist.BernoulliLogits(LOGITS[None, :, None]), rows)[0]
    np.testing.assert_allclose(double, exact, rtol=1e-12, atol=1e-13)
    single = dist.BernoulliLogits(jnp.float32(LOGITS)[None, :, None])
    np.testing.assert_allclose(log_likelihood(single, jnp.float32(rows))[0], exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_gradient_is_x_less_the_probability(x64, x):
    """At a logit of 0 and at very large ones, and in every nesting of derivatives; the value beside it stays the same."""

    def total(logits, x):
        per_row = log_likelihood(dist.BernoulliLogits(logits[None, :, None]), x[:, None])[0]
        return per_row.sum(), per_row

    logits, rows = jnp.asarray(LOGITS), jnp.full(len(LOGITS), x)
    (of_logits, of_x), per_row = jax.grad(total, (0, 1), has_aux=True)(logits, rows)
    np.testing.assert_allclose(of_logits, x - special.expit(LOGITS), atol=1e-14)
    np.testing.assert_allclose(of_x, LOGITS, rtol=1e-14)
    np.testing.assert_allclose(per_row, special.log_expit(LOGITS if x else -LOGITS), rtol=1e-12, atol=1e-13)
    of_value = jax.grad(lambda logits: jax.value_and_grad(total, has_aux=True)(logits, rows)[0][0])(logits)
    np.testing.assert_allclose(of_value, of_logits, atol=1e-14)
    curvature = jax.grad(lambda logits: jax.grad(lambda inner: total(inner, rows)[0])(logits).sum())(logits)
    np.testing.assert_allclose(curvature, -special.expit(LOGITS) * special.expit(-LOGITS), atol=1e-14)


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int32])
def test_whole_numbers_are_scored_like_floats(kind):
    p, x = dist.BernoulliLogits(jnp.linspace(-3, 3, 4)[None, :, None]), np.array([[0], [1], [0], [1]])
    expected = log_likelihood(p, np.float32(x))
    np.testing.assert_array_equal(log_likelihood(p, x.astype(kind)), expected)
    gradient = jax.grad(lambda logits: log_likelihood(dist.BernoulliLogits(logits), x.astype(kind)).sum())(p.logits)
    np.testing.assert_allclose(gradient[0, :, 0], x[:, 0] - special.expit(p.logits[0, :, 0]), atol=1e-6)
