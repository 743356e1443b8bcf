"""Mixtures of normals, spike and slab: density, moments, samples and their gradients."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.reparam.distributions import NormalMixture, SpikeAndSlab
from tests.support.noise_quadrature import noise_rule

CASES = {
    "mixture": (NormalMixture, np.array([0.4, -0.3, 1.0]), np.array([-2.0, 0.3, 2.5]), np.array([0.2, 1.0, 0.6])),
    "spike and slab": (SpikeAndSlab, 0.7, 0.05, 1.4),
}


@pytest.fixture(params=CASES)
def subject(request, x64):
    family, *arguments = CASES[request.param]
    if family is NormalMixture:
        weight, loc, scale = np.exp(arguments[0]) / np.exp(arguments[0]).sum(), *arguments[1:]
    else:
        weight, loc, scale = np.array([0.7, 0.3]), np.zeros(2), np.array([0.05, 1.4])

    def density(z):
        return (weight * stats.norm.pdf(np.asarray(z)[..., None], loc, scale)).sum(-1)

    def cdf(z):
        return (weight * stats.norm.cdf(np.asarray(z)[..., None], loc, scale)).sum(-1)

    return family(*map(jnp.asarray, arguments)), density, cdf


def test_density_and_moments(subject):
    d, density, _ = subject
    z = np.array([-9.0, -2.0, -0.04, 0.0, 0.3, 2.4, 7.0])
    np.testing.assert_allclose(jnp.exp(d.log_prob(z)), density(z), rtol=1e-12)
    cuts = [-20, -3, -0.5, 0, 0.5, 3, 20]

    def moment(n):
        return sum(integrate.quad(lambda t: t**n * density(t), a, b, epsabs=1e-12)[0] for a, b in itertools.pairwise(cuts))  # fmt: skip

    assert moment(0) == pytest.approx(1, abs=1e-10)
    assert float(d.mean) == pytest.approx(moment(1), abs=1e-9)
    assert float(d.variance) == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-9)


def test_samples_have_the_cdf_of_the_mixture(subject):
    d, _, cdf = subject
    z = np.asarray(jax.jit(lambda key: d.sample(key, (200_000,)))(jax.random.key(0)))
    assert stats.kstest(z, cdf).pvalue > 1e-3


def mixture_cdf(d, z):
    """CDF of a mixture at z, differentiable in its parameters."""
    if isinstance(d, SpikeAndSlab):
        weight, loc = jnp.stack([d.share, 1 - d.share], -1), 0.0
        scale = jnp.stack([d.spike, d.slab], -1)
    else:
        weight, loc, scale = jax.nn.softmax(d.logits), d.locs, d.scales
    return (weight * jax.scipy.special.ndtr((z[..., None] - loc) / scale)).sum(-1)


def test_the_gradient_of_a_sample_keeps_its_quantile(subject):
    """d F(z(t); t) / dt = 0 for every parameter t, which defines the implicit reparameterization."""
    d, _, _ = subject
    values = [getattr(d, name) for name in d.arg_constraints]

    def quantile(values, key):
        z = type(d)(*values).sample(key)
        return mixture_cdf(type(d)(*values), z)

    keys = jax.random.split(jax.random.key(1), 500)
    slopes = jax.jit(jax.vmap(jax.grad(quantile), (None, 0)))(values, keys)
    assert all(np.abs(slope).max() < 1e-9 for slope in slopes)
    gradients = jax.jit(jax.vmap(jax.grad(lambda values, key: type(d)(*values).sample(key)), (None, 0)))(values, keys)
    assert all(np.abs(gradient).mean() > 0.01 for gradient in gradients)


def test_the_mean_gradient_of_samples_is_that_of_the_expectation(subject):
    d, _, _ = subject
    values = [getattr(d, name) for name in d.arg_constraints]

    def expectation(values):
        z = jnp.linspace(-14, 14, 20_001)
        return (jnp.exp(type(d)(*values).log_prob(z)) * jnp.sin(1.5 * z + 0.4)).sum() * (z[1] - z[0])

    draw = jax.vmap(jax.grad(lambda values, key: jnp.sin(1.5 * type(d)(*values).sample(key) + 0.4)), (None, 0))
    gradients = jax.jit(draw)(values, jax.random.split(jax.random.key(2), 50_000))
    for gradient, exact in zip(gradients, jax.jit(jax.grad(expectation))(values), strict=True):
        assert (jnp.abs(gradient.mean(0) - exact) < 4 * gradient.std(0) / np.sqrt(5e4) + 1e-9).all()


def random_parameters(name, locs, scales, num=2000):
    """Parameters of `num` mixtures in single precision, with locations and scales from the given lists."""
    random = np.random.default_rng(0)
    loc, scale = random.choice(locs, (num, 3)), random.choice(scales, (num, 3))
    if name == "mixture":
        values = [random.uniform(-5, 5, (num, 3)), loc, scale]
    else:
        values = [random.choice([0.0, 1e-6, 0.3, 1.0], num), scale[:, 0], scale[:, 1]]
    return [jnp.asarray(value, jnp.float32) for value in values]


def random_points(points, num=2000):
    return jnp.asarray(np.random.default_rng(1).choice(points, num), jnp.float32)


def log_prob_and_moments(family):
    def evaluate(values, z):
        d = family(*values)
        return jnp.stack([d.log_prob(z), d.mean, d.variance])

    return evaluate


def all_finite(arrays):
    return all(np.isfinite(array).all() for array in jax.tree.leaves(arrays))


@pytest.mark.parametrize("name", CASES)
def test_single_precision_is_finite_at_the_extremes(name):
    family = CASES[name][0]
    values = random_parameters(name, [-1e4, 0.0, 1.0, 1e4], [1e-6, 1e-3, 1, 1e4])
    z = random_points([-1e4, 0, 1e-6, 1, 1e4])
    evaluate = log_prob_and_moments(family)
    assert all_finite(jax.jit(jax.vmap(evaluate))(values, z))
    assert all_finite(jax.jit(jax.vmap(jax.jacrev(evaluate, (0, 1))))(values, z))
    sample = jax.vmap(jax.value_and_grad(lambda values, key: family(*values).sample(key)))
    assert all_finite(jax.jit(sample)(values, jax.random.split(jax.random.key(0), len(z))))


@pytest.mark.parametrize("name", CASES)
def test_single_precision_is_close_to_double(name):
    values, z = random_parameters(name, [-3.0, 0.0, 2.0], [1e-3, 0.1, 1, 1e3]), random_points([-2, 0, 0.3, 50])
    evaluate = log_prob_and_moments(CASES[name][0])
    single = np.asarray(jax.jit(jax.vmap(evaluate))(values, z), float)
    with jax.enable_x64(True):
        arguments = [jnp.asarray(value, float) for value in values], jnp.asarray(z, float)
        double = np.asarray(jax.jit(jax.vmap(evaluate))(*arguments))
    assert (np.abs(single - double) / np.maximum(1, np.abs(double))).max() < 1e-4


def test_shapes():
    d = NormalMixture(jnp.zeros(3), jnp.zeros((4, 1, 3)), jnp.ones((2, 3)))
    sample = jax.eval_shape(lambda: d.sample(jax.random.key(0), (5,)))
    outputs = jax.eval_shape(lambda: (d.log_prob(0.0), d.mean, d.variance))
    assert d.batch_shape == (4, 2) and sample.shape == (5, 4, 2) and {output.shape for output in outputs} == {(4, 2)}


def test_refusals():
    for parameters in ((0.0, 0.0, 1.0), (jnp.zeros(2), jnp.zeros(2), jnp.zeros(2))):
        with pytest.raises(ValueError, match=r"expected .* got"):
            NormalMixture(*parameters)
    for name in ("spike", "slab"):
        with pytest.raises(ValueError, match=f"positive {name}"):
            SpikeAndSlab(**{name: -1.0})


def test_the_expected_log_ratio_of_a_normal_to_a_mixture_is_their_divergence(x64):
    """There is no closed form, so layers use the sampled log-ratio."""
    n, w = noise_rule()
    for p in (SpikeAndSlab(0.3, 0.2, 1.5), NormalMixture(jnp.zeros(2), jnp.array([-1.0, 2.0]), jnp.ones(2))):
        q = dist.Normal(0.4, 0.7)
        with pytest.raises(NotImplementedError):
            dist.kl_divergence(q, p)

        log_ratio = jax.jit(lambda z, q=q, p=p: q.log_prob(z) - p.log_prob(z))

        def integrand(z, log_ratio=log_ratio):
            return stats.norm.pdf(z, 0.4, 0.7) * float(log_ratio(z))

        divergence = integrate.quad(integrand, -7, 8, epsabs=1e-9, limit=60)[0]
        assert float(w @ log_ratio(0.4 + 0.7 * n)) == pytest.approx(divergence, abs=1e-7)
