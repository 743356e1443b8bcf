import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import special

from dgmzoo.layers.outputs import log_likelihood

LOGITS = np.concatenate([np.linspace(-40, 40, 801), [-1e4, -200.0, 200.0, 1e4]])


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_against_scipy(x64, x):
    exact = special.log_expit(LOGITS if x else -LOGITS)
    rows = np.full((len(LOGITS), 1), x)
    found = log_likelihood(dist.BernoulliLogits(LOGITS[None, :, None]), rows)[0]
    np.testing.assert_allclose(found, exact, rtol=1e-12, atol=1e-13)
    single = dist.BernoulliLogits(jnp.float32(LOGITS)[None, :, None])
    np.testing.assert_allclose(log_likelihood(single, jnp.float32(rows))[0], exact, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("x", [0.0, 1.0])
def test_bernoulli_gradient(x64, x):
    """`x - sigmoid(l)`, at a logit of 0 and far out too."""

    def total(logits):
        return log_likelihood(dist.BernoulliLogits(logits[None, :, None]), np.full((len(LOGITS), 1), x)).sum()

    np.testing.assert_allclose(jax.grad(total)(jnp.asarray(LOGITS)), x - special.expit(LOGITS), atol=1e-14)
