"""Every registered divergence against quadrature or summation of SciPy's densities."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

import dgmzoo.reparam.distributions  # noqa: F401  (registers the divergences)
from dgmzoo.reparam.ops import relaxed_promotion

# family -> (NumPyro's class, SciPy's, parameters to try)
FAMILIES = {
    "normal": (dist.Normal, lambda m, s: stats.norm(m, s), [(0.3, 0.5), (-1.0, 2.0)]),
    "laplace": (dist.Laplace, lambda m, s: stats.laplace(m, s), [(0.2, 0.7), (1.5, 1.1)]),
    "cauchy": (dist.Cauchy, lambda m, s: stats.cauchy(m, s), [(0.0, 1.0), (2.0, 0.4)]),
    "half cauchy": (dist.HalfCauchy, lambda s: stats.halfcauchy(scale=s), [(0.6,), (2.0,)]),
    "gumbel": (dist.Gumbel, lambda m, s: stats.gumbel_r(m, s), [(0.0, 1.0), (1.0, 1.6)]),
    "gamma": (dist.Gamma, lambda a, b: stats.gamma(a, scale=1 / b), [(2.5, 1.5), (1.2, 3.0)]),
    "inverse gamma": (dist.InverseGamma, lambda a, b: stats.invgamma(a, scale=b), [(2.5, 1.5), (3.0, 0.7)]),
    "exponential": (dist.Exponential, lambda b: stats.expon(scale=1 / b), [(0.6,), (2.0,)]),
    "half normal": (dist.HalfNormal, lambda s: stats.halfnorm(scale=s), [(0.6,), (2.0,)]),
    "log normal": (dist.LogNormal, lambda m, s: stats.lognorm(s, scale=np.exp(m)), [(0.1, 0.5), (-0.4, 0.9)]),
    "von mises": (dist.VonMises, lambda m, k: stats.vonmises(k, m), [(0.5, 2.0), (-1.0, 0.3)]),
    "beta": (dist.Beta, stats.beta, [(2.0, 3.0), (1.5, 1.2)]),
    "student t": (dist.StudentT, stats.t, [(3.5, 0.2, 0.7), (9.0, -1.0, 1.4), (100.0, 0.0, 1.0)]),
    "logistic": (dist.Logistic, lambda m, s: stats.logistic(m, s), [(0.2, 0.4), (-1.0, 1.1)]),
    "weibull": (dist.Weibull, lambda s, k: stats.weibull_min(k, scale=s), [(1.2, 1.8)]),
}
SUPPORT = {"von mises": (-np.pi, np.pi), "beta": (0, 1)} | dict.fromkeys(
    ("half cauchy", "gamma", "inverse gamma", "exponential", "half normal", "log normal", "weibull"), (0, np.inf)
)
OURS = [(name, name) for name in ("laplace", "cauchy", "gumbel", "inverse gamma", "exponential")]
OURS += [(name, name) for name in ("half cauchy", "half normal", "log normal", "von mises")]
OURS += [("laplace", "normal"), ("normal", "laplace"), ("exponential", "gamma")]
OURS += [("gamma", "exponential"), ("log normal", "gamma"), ("log normal", "inverse gamma")]
OURS += [("student t", "normal"), ("logistic", "normal"), ("gumbel", "normal"), ("log normal", "exponential")]
OURS += [(name, "half normal") for name in ("exponential", "gamma", "log normal")] + [("half normal", "exponential")]
NUMPYRO = [("normal", "normal"), ("gamma", "gamma"), ("beta", "beta"), ("weibull", "gamma")]


def divergence(p, q, low, high):
    """E_p log p/q by quadrature, split at the medians, where a density may have a kink or most of its mass."""
    edges = [low, *sorted(m for m in {p.median(), q.median()} if low < m < high), high]

    def integrand(z):
        ratio = p.logpdf(z) - q.logpdf(z)
        return p.pdf(z) * ratio if np.isfinite(ratio) else 0.0  # SciPy's logarithm of an underflow

    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        terms = [integrate.quad(integrand, *piece, epsabs=1e-11, limit=200)[0] for piece in itertools.pairwise(edges)]
    return sum(terms)


@pytest.mark.parametrize("pair", OURS + NUMPYRO, ids=" || ".join)
def test_continuous_pairs_equal_quadrature(pair, x64):
    (p_class, p_scipy, p_params), (q_class, q_scipy, q_params) = (FAMILIES[name] for name in pair)
    for a, b in itertools.product(p_params, q_params):
        p, q = p_scipy(*a), q_scipy(*b)
        with relaxed_promotion():
            value = float(dist.kl_divergence(p_class(*a), q_class(*b)))
        exact = divergence(p, q, *SUPPORT.get(pair[0], (-np.inf, np.inf)))
        assert value == pytest.approx(exact, abs=1e-8), (pair, a, b)


def test_the_divergence_of_a_student_t_without_a_variance_is_infinite(x64):
    def kl(df):
        return dist.kl_divergence(dist.StudentT(df, 0.0, 1.0), dist.Normal(0.0, 1.0))

    value, gradient = jax.vmap(jax.value_and_grad(kl))(jnp.array([1.0, 2.0, 2.001]))
    assert np.isinf(value[:2]).all() and value[2] > 500 and np.isfinite(gradient).all()


def test_the_divergence_of_a_student_t_vanishes_for_many_degrees_of_freedom():
    """It is 7 / (4 df^2) in the limit, far below the rounding of the log-gamma functions in single precision."""
    for df in (1e3, 1e4, 1e5):
        value = dist.kl_divergence(dist.StudentT(jnp.float32(df), 0.0, 1.0), dist.Normal(0.0, 1.0))
        assert value == pytest.approx(1.75 / df**2, abs=1e-6)
        with jax.enable_x64(True):
            value = dist.kl_divergence(dist.StudentT(df, 0.0, 1.0), dist.Normal(0.0, 1.0))
            assert value == pytest.approx(1.75 / df**2, rel=4 / df, abs=1e-13)


def bernoulli(kind, probs):
    return dist.Bernoulli(**{kind: probs if kind == "probs" else jnp.log(probs / (1 - probs))})


@pytest.mark.parametrize("kinds", [*itertools.product(("probs", "logits"), repeat=2)], ids="-".join)
def test_bernoulli_divergence_equals_the_sum(kinds, x64):
    p, q = np.array([0.1, 0.5, 0.93, 0.5]), np.array([0.2, 0.99, 0.4, 0.5])
    value = dist.kl_divergence(bernoulli(kinds[0], p), bernoulli(kinds[1], q))
    np.testing.assert_allclose(value, p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q)), atol=1e-14)


def test_poisson_divergence_equals_the_sum(x64):
    k = np.arange(200)
    p, q = stats.poisson(3.5), stats.poisson(6.0)
    exact = (p.pmf(k) * (p.logpmf(k) - q.logpmf(k))).sum()
    assert float(dist.kl_divergence(dist.Poisson(3.5), dist.Poisson(6.0))) == pytest.approx(exact, abs=1e-12)
    assert float(dist.kl_divergence(dist.Poisson(0.0), dist.Poisson(6.0))) == 6.0


@pytest.mark.parametrize("logits", [100.0, -100.0, 1e4, -1e4])
def test_large_logits_have_finite_divergences_and_gradients(logits):
    def kl(a, b):
        return dist.kl_divergence(dist.BernoulliLogits(a), dist.BernoulliLogits(b))

    for other in (logits, -logits, 0.0):
        value, grads = jax.value_and_grad(kl, argnums=(0, 1))(jnp.float32(logits), jnp.float32(other))
        assert np.isfinite([value, *grads]).all()
    assert float(kl(jnp.float32(logits), jnp.float32(-logits))) == pytest.approx(abs(logits), rel=1e-6)
    assert float(kl(jnp.float32(logits), jnp.float32(logits))) == 0.0


def test_the_divergence_from_an_impossible_outcome_is_infinite():
    certain, impossible = dist.BernoulliProbs(1.0), dist.BernoulliProbs(0.0)
    assert dist.kl_divergence(certain, impossible) == jnp.inf
    assert dist.kl_divergence(certain, certain) == 0
    grad = jax.grad(lambda p: dist.kl_divergence(dist.BernoulliProbs(p), dist.BernoulliProbs(0.5)))
    assert np.isfinite(grad(0.0)) and np.isfinite(grad(1.0))


def test_batches_broadcast_and_independent_events_are_summed():
    p, q = dist.Laplace(jnp.zeros((4, 1)), 1.0), dist.Laplace(0.0, jnp.ones(3))
    assert dist.kl_divergence(p, q).shape == (4, 3)
    p, q = dist.Laplace(jnp.ones(3), 1.0).to_event(1), dist.Laplace(jnp.zeros(3), 1.0).to_event(1)
    assert float(dist.kl_divergence(p, q)) == pytest.approx(3 * np.exp(-1), rel=1e-6)
