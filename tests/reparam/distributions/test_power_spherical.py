"""The power spherical distribution: density, divergence, samples and gradients against quadrature over the sphere."""

import time

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from dgmzoo.reparam.distributions import PowerSpherical, UniformSphere
from dgmzoo.reparam.distributions.power_spherical import log_gamma_ratio, log_sphere_area


def direction(dimension, seed=0):
    """A random unit vector [dimension]."""
    vector = np.random.default_rng(seed).normal(size=dimension)
    return vector / np.linalg.norm(vector)


def over_angle(f, dimension):
    """Integral over the sphere of a function of t = x . direction: f times the area of the circles of latitude."""
    exponent = (dimension - 3) / 2
    area = np.exp(log_sphere_area(dimension - 1)) if dimension > 2 else 2.0
    return area * integrate.quad(lambda a: f(np.cos(a)) * np.sin(a) ** (2 * exponent + 1), 0, np.pi, epsabs=1e-13)[0]


def at_angle(d, t):
    """A unit vector with x . direction = t."""
    base = np.asarray(d.direction)
    other = np.random.default_rng(5).normal(size=base.shape)
    other -= base * (base @ other)
    return t * base + np.sqrt(max(0.0, 1 - t * t)) * other / np.linalg.norm(other)


@pytest.mark.parametrize("dimension, concentration", [(2, 0.3), (2, 40.0), (3, 1.0), (5, 7.0), (20, 0.01), (20, 300.0)])
def test_density_integrates_to_one_and_divergence_and_mean_equal_quadrature(dimension, concentration, x64):
    d, uniform = PowerSpherical(direction(dimension), concentration), UniformSphere(dimension, dtype=jnp.float64)
    log_prob = jax.jit(d.log_prob)

    def at(t):
        return float(log_prob(at_angle(d, t)))

    assert over_angle(lambda t: np.exp(at(t)), dimension) == pytest.approx(1, abs=1e-10)
    base = -log_sphere_area(dimension)
    assert float(uniform.log_prob(d.direction)) == pytest.approx(base)
    assert over_angle(lambda t: np.exp(base), dimension) == pytest.approx(1, abs=1e-10)
    divergence = over_angle(lambda t: np.exp(at(t)) * (at(t) - base), dimension)
    assert float(dist.kl_divergence(d, uniform)) == pytest.approx(divergence, abs=1e-9)
    mean = over_angle(lambda t: np.exp(at(t)) * t, dimension)
    np.testing.assert_allclose(d.mean, mean * np.asarray(d.direction), atol=1e-10)


def test_density_equals_equation_6_of_the_paper(x64):
    for dimension, concentration in ((2, 0.5), (7, 3.0), (8, 90.0)):
        d = PowerSpherical(direction(dimension), concentration)
        x = direction(dimension, seed=3)
        alpha, beta = (dimension - 1) / 2 + concentration, (dimension - 1) / 2
        log_norm = (alpha + beta) * np.log(2) + beta * np.log(np.pi)
        log_norm += special.gammaln(alpha) - special.gammaln(alpha + beta)
        exact = concentration * np.log1p(float(x @ d.direction)) - log_norm
        assert float(d.log_prob(x)) == pytest.approx(exact, rel=1e-12)


@pytest.mark.parametrize("double, tolerance", [(True, 2e-14), (False, 1e-6)])
def test_log_gamma_ratio_and_its_slope_equal_mpmath(double, tolerance):
    with jax.enable_x64(double), mp.workdps(50):
        alpha = np.logspace(-1, 6, 30).astype(np.float64 if double else np.float32)
        for twice_beta in (0, 1, 2, 19, 40):
            exact_value = [
                mp.loggamma(mp.mpf(float(a)) + mp.mpf(twice_beta) / 2) - mp.loggamma(float(a)) for a in alpha
            ]
            exact_slope = [mp.digamma(mp.mpf(float(a)) + mp.mpf(twice_beta) / 2) - mp.digamma(float(a)) for a in alpha]
            ratio = jax.jit(jax.vmap(jax.value_and_grad(lambda a: log_gamma_ratio(a, twice_beta))))  # noqa: B023
            value, grad = ratio(jnp.asarray(alpha))
            for result, exact in ((value, exact_value), (grad, exact_slope)):
                exact = np.array([float(v) for v in exact])
                size = np.maximum(1, np.abs(exact))
                np.testing.assert_allclose(result / size, exact / size, atol=tolerance)


@pytest.mark.thorough
@pytest.mark.parametrize("dimension, concentration", [(2, 3.0), (3, 0.5), (6, 50.0)])
def test_samples_have_beta_cosines_and_uniform_tangents(dimension, concentration, x64):
    d = PowerSpherical(direction(dimension), concentration)
    x = np.asarray(jax.jit(lambda key: d.sample(key, (50_000,)))(jax.random.key(0)))
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-12)
    cosine = x @ np.asarray(d.direction)
    beta = (dimension - 1) / 2
    assert stats.kstest((cosine + 1) / 2, stats.beta(beta + concentration, beta).cdf).pvalue > 1e-3
    tangent = x - cosine[:, None] * np.asarray(d.direction)
    tangent /= np.linalg.norm(tangent, axis=-1, keepdims=True)
    covariance = (np.eye(dimension) - np.outer(d.direction, d.direction)) / (dimension - 1)
    np.testing.assert_allclose(tangent.T @ tangent / len(tangent), covariance, atol=0.01)
    np.testing.assert_allclose(x.mean(0), d.mean, atol=4 / np.sqrt(len(x)))
    unreflected = PowerSpherical(np.eye(dimension)[0], concentration).sample(jax.random.key(0), (50,))
    assert np.isfinite(unreflected).all() and np.mean(unreflected[:, 0]) == pytest.approx(cosine[:50].mean(), abs=0.3)


@pytest.mark.thorough
def test_the_mean_gradient_of_samples_is_that_of_the_expectation(x64):
    """Against quadrature over the angle of a circle."""

    def f(x):
        return jnp.exp(1.3 * x[..., 0]) + x[..., 1]

    def build(params):
        return PowerSpherical(jnp.stack([jnp.cos(params[0]), jnp.sin(params[0])]), jnp.exp(params[1]))

    def expectation(params):
        angle = jnp.linspace(-jnp.pi, jnp.pi, 4000, endpoint=False)
        x = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        d = build(params)
        log_prob = jax.vmap(d.log_prob)(x)
        return (jnp.exp(log_prob) * f(x)).mean() * 2 * jnp.pi

    params = jnp.array([0.8, 0.9])
    sample_gradient = jax.jit(jax.vmap(jax.grad(lambda p, key: f(build(p).sample(key))), (None, 0)))
    gradients = sample_gradient(params, jax.random.split(jax.random.key(0), 40_000))
    exact, error = jax.jit(jax.grad(expectation))(params), gradients.std(0) / 200
    assert (jnp.abs(gradients.mean(0) - exact) < 4 * error).all() and (jnp.abs(exact) > 20 * error).all()


def layer_values(params, x):
    d = PowerSpherical(params[1:] / jnp.linalg.norm(params[1:]), params[0])
    return jnp.stack([d.log_prob(x), dist.kl_divergence(d, UniformSphere(x.shape[-1])), d.mean[0]])


def sample(params, key):
    return PowerSpherical(params[1:] / jnp.linalg.norm(params[1:]), params[0]).sample(key)


@pytest.fixture(scope="module")
def extreme():
    """Parameters [400, 21] and unit vectors [400, 20] in single precision, near the direction and opposite to it."""
    random = np.random.default_rng(0)
    params, x = random.normal(size=(400, 21)), random.normal(size=(400, 20))
    x[::2] = params[::2, 1:] + 0.03 * x[::2]  # where samples of a narrow distribution lie
    x[1::8] = -params[1::8, 1:]  # the opposite point, where the density is 0
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    params[:, 0] = random.choice([1e-6, 1e-3, 1, 30, 1e3, 1e4], 400)
    return params.astype(np.float32), x.astype(np.float32)


def test_single_precision_is_close_to_double(extreme):
    params, x = extreme
    single = np.asarray(jax.jit(jax.vmap(layer_values))(params, x), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(layer_values))(params.astype(float), x.astype(float)))
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    inner = (params[:, 0] <= 1e3) & (np.arange(400) % 8 != 1)
    assert error[inner].max() < 1e-4


@pytest.mark.thorough
def test_single_precision_is_finite_at_the_extremes(extreme):
    params, x = extreme
    assert np.isfinite(jax.jit(jax.vmap(layer_values))(params, x)).all()
    assert all(np.isfinite(j).all() for j in jax.jit(jax.vmap(jax.jacrev(layer_values, (0, 1))))(params, x))
    weighted = jax.vmap(jax.value_and_grad(lambda p, key: (sample(p, key) * jnp.arange(20.0)).sum()))
    keys = jax.random.split(jax.random.key(0), 400)
    assert all(np.isfinite(value).all() for value in jax.jit(weighted)(params, keys))


def test_shapes():
    d = PowerSpherical(jnp.broadcast_to(jnp.array([0.0, 1.0, 0.0]), (4, 1, 3)), jnp.ones((1, 2)))
    samples = jax.eval_shape(lambda: d.sample(jax.random.key(0), (5,)))
    assert d.batch_shape == (4, 2) and d.event_shape == (3,) and samples.shape == (5, 4, 2, 3)
    kl, mean = jax.eval_shape(lambda: (dist.kl_divergence(d, UniformSphere(3)), d.mean))
    assert kl.shape == (4, 2) and mean.shape == (4, 2, 3)


def test_refusals():
    with pytest.raises(ValueError, match="2 or more"):
        PowerSpherical(jnp.ones(1), 1.0)
    with pytest.raises(ValueError, match="positive concentration"):
        PowerSpherical(jnp.array([1.0, 0.0]), -1.0)
    with pytest.raises(ValueError, match="at least 2"):
        UniformSphere(1)


def test_a_layer_compiles_in_ten_seconds(compiled_anew):
    @jax.jit
    def layer(unconstrained, concentration, key):
        def loss(unconstrained, concentration):
            d = PowerSpherical(unconstrained / jnp.linalg.norm(unconstrained, axis=-1, keepdims=True), concentration)
            return (d.sample(key)[..., 0] + dist.kl_divergence(d, UniformSphere(20)) + d.log_prob(unconstrained)).sum()

        return jax.grad(loss, (0, 1))(unconstrained, concentration)

    start = time.process_time()
    layer.lower(jnp.ones((100, 20)), jnp.ones(100), jax.random.key(0)).compile()
    assert time.process_time() - start < 10
