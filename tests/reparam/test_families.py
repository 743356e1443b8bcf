"""Families: default distributions, unconstrained parameters, and pairs with an infinite divergence."""

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.reparam import families, pairs
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal, SpikeAndSlab


def test_unconstrained_zeros_give_the_default_parameters(x64):
    for family, expected in (
        (dist.StudentT, {"df": 3.0, "loc": 0.0, "scale": 1.0}),
        (SpikeAndSlab, {"share": 0.5, "spike": 0.1, "slab": 1.0}),
        (NormalMixture, {"logits": np.zeros(5), "scales": np.full(5, 0.5)}),
        (dist.Laplace, {"loc": 0.0, "scale": 1.0}),
    ):
        unconstrained = jnp.zeros((2, families.num_unconstrained(family)))
        for d in (families.from_unconstrained(family, unconstrained), families.default(family, (2,), jnp.float64)):
            for name, value in expected.items():
                parameter = np.asarray(getattr(d, name))
                np.testing.assert_allclose(parameter, np.broadcast_to(value, parameter.shape), rtol=1e-12)
    mixture = families.default(NormalMixture, (), jnp.float64)
    assert float(mixture.mean) == pytest.approx(0, abs=1e-12) and float(mixture.variance) == pytest.approx(1)
    assert len(set(np.asarray(mixture.locs))) == 5, "equal components would have equal gradients"


@pytest.mark.parametrize(
    "q, p, infinite",
    [
        (dist.Normal, dist.Normal, False),
        (dist.Normal, NormalMixture, False),
        (dist.Normal, SpikeAndSlab, False),
        (dist.StudentT, dist.Normal, False),
        (dist.Cauchy, dist.Normal, True),
        (dist.Cauchy, dist.Laplace, True),
        (dist.Cauchy, dist.StudentT, False),
        (dist.Laplace, dist.Gumbel, True),
        (dist.Normal, dist.Gumbel, False),
        (dist.HalfCauchy, dist.Exponential, True),
        (dist.HalfCauchy, dist.LogNormal, False),
        (dist.Gamma, dist.InverseGamma, True),
        (dist.LogNormal, dist.InverseGamma, False),
        (dist.Chi2, dist.LogNormal, False),
        (dist.LogNormal, dist.Pareto, True),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else str(value),
)
def test_pairs_with_an_infinite_divergence_are_refused(q, p, infinite):
    """Finiteness follows from moments: a Cauchy has no mean, a Student t with 3 degrees of freedom has a variance."""
    if not infinite:
        pairs.check_pair(q, p)
        return
    with pytest.raises(ValueError, match="KL is infinite"):
        pairs.check_pair(q, p)


@pytest.mark.parametrize(
    "family", [dist.Normal, dist.Laplace, NormalMixture, PiecewiseNormal], ids=lambda f: f.__name__
)
def test_unconstrained_at_scales_and_moves_the_default_distribution(family, x64):
    loc = jnp.array([0.0, -1.5])
    d = families.from_unconstrained(family, families.unconstrained_at(family, loc, 0.2))
    default = families.default(family, (2,), jnp.float64)
    np.testing.assert_allclose(d.mean, loc + 0.2 * default.mean, atol=1e-12)
    np.testing.assert_allclose(d.variance, 0.04 * default.variance, rtol=1e-10)
    np.testing.assert_allclose(d.log_prob(loc + 0.1), default.log_prob(jnp.full(2, 0.5)) - np.log(0.2), rtol=1e-10)
