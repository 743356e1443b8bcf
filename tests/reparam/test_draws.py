"""Draws in float32 near the ends of a support, and families whose draws or means cannot be used."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.reparam import families, pairs
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion

NUM = 50_000


def draws(family, unconstrained):
    """The distribution of one unit at unconstrained parameters, float32 draws, and their log-densities."""
    d = families.from_unconstrained(family, jnp.asarray(unconstrained, jnp.float32).reshape(1, 1, 1, -1))
    z = pathwise.sample(d, jax.random.key(0), NUM)
    with relaxed_promotion():
        return d, np.asarray(z, np.float64).ravel(), np.asarray(d.log_prob(z), np.float64).ravel()


@pytest.mark.thorough
@pytest.mark.parametrize("family", [dist.Beta, dist.Kumaraswamy], ids=lambda family: family.__name__)
def test_f20_draws_near_1_have_the_right_mean_log_density(family):
    """The unconstrained parameters of concentrations 1.3 and 0.1, were there no least value."""
    d, _, log_q = draws(family, [0.35, -2.8])
    a, b = float(d.concentration1[0, 0, 0]), float(d.concentration0[0, 0, 0])
    if family is dist.Beta:
        exact = -stats.beta(a, b).entropy()
    else:  # in u = 1 - z^a, where 1 - F(z) = u^b
        exact = integrate.quad(
            lambda t: np.log(a * b) + (1 - 1 / a) * np.log1p(-(t ** (1 / b))) + (1 - 1 / b) * np.log(t), 0, 1
        )[0]
    assert log_q.mean() == pytest.approx(exact, abs=4 * log_q.std() / np.sqrt(NUM))
    assert 0.7 < b < 0.75 and 1.0 < a < 1.4


@pytest.mark.parametrize(
    "family", [dist.Gamma, dist.InverseGamma, dist.Chi2, dist.Weibull, dist.Pareto], ids=lambda family: family.__name__
)
def test_f67_draws_of_small_concentrations_are_not_zero(family):
    _, z, log_q = draws(family, [-8.0] * families.num_unconstrained(family))
    assert (z > 1e-37).all() and np.isfinite(z).all() and np.isfinite(log_q).all()


@pytest.mark.parametrize("family", [dist.Gamma, dist.Beta, dist.Chi2, dist.Weibull], ids=lambda each: each.__name__)
def test_f67_concentrations_start_at_1_and_can_return_from_their_least_value(family):
    num = families.num_unconstrained(family)
    name = next(iter(families.from_unconstrained(family, jnp.zeros((1, num))).arg_constraints))

    def concentration(value):
        return getattr(families.from_unconstrained(family, jnp.full((1, num), value)), name)[0]

    assert float(concentration(jnp.float32(0))) == pytest.approx(1.0)
    least, slope = jax.value_and_grad(concentration)(jnp.float32(-4))
    assert 0 < float(least) < 0.75 and float(slope) > 1e-3


def test_f67_draws_on_the_end_of_the_support_move_inside():
    """A uniform number of 0 gives a Weibull draw of 0, once in 8 million."""

    class Zero(dist.Weibull):
        def sample(self, key, sample_shape=()):
            return jnp.zeros(sample_shape + self.batch_shape) * self.scale

    q = Zero(jnp.ones((1, 2, 3)), jnp.full((1, 2, 3), 1.5))
    z = pathwise.sample(q, jax.random.key(0), 2)
    assert (z > 0).all() and jnp.isfinite(q.log_prob(z)).all()


@pytest.mark.thorough
@pytest.mark.parametrize(
    "family, reason",
    [
        (dist.DoublyTruncatedPowerLaw, "expected a family"),
        (dist.LowerTruncatedPowerLaw, "mean NumPyro computes"),
        (dist.RelaxedBernoulliLogits, "mean NumPyro computes"),
        (dist.Dagum, "finite draws and log-densities in float32"),
        (dist.BetaProportion, "use Beta"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_f37_families_that_cannot_work_are_refused(family, reason):
    prior = dist.LogNormal if "PowerLaw" in family.__name__ else family
    with pytest.raises(ValueError, match=f"{reason}.*"):
        VariationalLayer(units=2, posterior=family, prior=prior)


def test_f37_families_of_the_table_work():
    for family in (dist.Beta, dist.Gamma, dist.Kumaraswamy, dist.Weibull, dist.Laplace):
        pairs.check_pair(family, family)
