"""The power spherical distribution: density, samples, divergence and gradients, by quadrature over the sphere."""

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
    unconstrained = np.random.default_rng(seed).normal(size=dimension)
    return unconstrained / np.linalg.norm(unconstrained)


def over_angle(f, dimension):
    """The integral over the sphere of a function of t = x . direction: area of the circles of latitude times f."""
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
def test_density_integrates_to_one_and_divergence_is_that_of_the_densities(dimension, concentration, x64):
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


def test_density_is_that_of_the_paper(x64):
    """Equation 6, term by term."""
    for dimension, concentration in ((2, 0.5), (7, 3.0), (8, 90.0)):
        d = PowerSpherical(direction(dimension), concentration)
        x = direction(dimension, seed=3)
        alpha, beta = (dimension - 1) / 2 + concentration, (dimension - 1) / 2
        log_norm = (alpha + beta) * np.log(2) + beta * np.log(np.pi)
        log_norm += special.gammaln(alpha) - special.gammaln(alpha + beta)
        want = concentration * np.log1p(float(x @ d.direction)) - log_norm
        assert float(d.log_prob(x)) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("double, tolerance", [(True, 2e-14), (False, 1e-6)])
def test_ratio_of_gammas(double, tolerance):
    with jax.enable_x64(double), mp.workdps(50):
        alpha = np.logspace(-1, 6, 30).astype(np.float64 if double else np.float32)
        for twice_beta in (0, 1, 2, 19, 40):
            want = [mp.loggamma(mp.mpf(float(a)) + mp.mpf(twice_beta) / 2) - mp.loggamma(float(a)) for a in alpha]
            slope = [mp.digamma(mp.mpf(float(a)) + mp.mpf(twice_beta) / 2) - mp.digamma(float(a)) for a in alpha]
            ratio = jax.jit(jax.vmap(jax.value_and_grad(lambda a: log_gamma_ratio(a, twice_beta))))  # noqa: B023
            value, grad = ratio(jnp.asarray(alpha))
            for got, exact in ((value, want), (grad, slope)):
                exact = np.array([float(v) for v in exact])
                np.testing.assert_allclose(
                    got / np.maximum(1, np.abs(exact)), exact / np.maximum(1, np.abs(exact)), atol=tolerance
                )


@pytest.mark.parametrize("dimension, concentration", [(2, 3.0), (3, 0.5), (6, 50.0)])
def test_samples(dimension, concentration, x64):
    """Cosines are 2 Beta - 1; what is left of x is uniform around the direction."""
    d = PowerSpherical(direction(dimension), concentration)
    x = np.asarray(jax.jit(lambda key: d.sample(key, (50_000,)))(jax.random.key(0)))
    np.testing.assert_allclose(np.linalg.norm(x, axis=-1), 1, atol=1e-12)
    cosine = x @ np.asarray(d.direction)
    beta = (dimension - 1) / 2
    assert stats.kstest((cosine + 1) / 2, stats.beta(beta + concentration, beta).cdf).pvalue > 1e-3
    rest = x - cosine[:, None] * np.asarray(d.direction)
    rest /= np.linalg.norm(rest, axis=-1, keepdims=True)
    want = (np.eye(dimension) - np.outer(d.direction, d.direction)) / (dimension - 1)
    np.testing.assert_allclose(rest.T @ rest / len(rest), want, atol=0.01)
    np.testing.assert_allclose(x.mean(0), d.mean, atol=4 / np.sqrt(len(x)))
    first = PowerSpherical(np.eye(dimension)[0], concentration).sample(jax.random.key(0), (50,))  # nothing to turn
    assert np.isfinite(first).all() and np.mean(first[:, 0]) == pytest.approx(cosine[:50].mean(), abs=0.3)


def test_gradient_runs_along_the_path(x64):
    """d/dparameters of E f(x) over draws, against quadrature over the circle's angle."""

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
    draws = jax.jit(jax.vmap(jax.grad(lambda p, key: f(build(p).sample(key))), (None, 0)))
    each = draws(params, jax.random.split(jax.random.key(0), 40_000))
    wanted, error = jax.jit(jax.grad(expectation))(params), each.std(0) / 200
    assert (jnp.abs(each.mean(0) - wanted) < 4 * error).all() and (jnp.abs(wanted) > 20 * error).all()


def everything(params, x):
    d = PowerSpherical(params[1:] / jnp.linalg.norm(params[1:]), params[0])
    return jnp.stack([d.log_prob(x), dist.kl_divergence(d, UniformSphere(x.shape[-1])), d.mean[0]])


def test_single_precision_is_close_to_double_and_finite():
    random = np.random.default_rng(0)
    params, x = random.normal(size=(400, 21)), random.normal(size=(400, 20))
    x[::2] = params[::2, 1:] + 0.03 * x[::2]  # where samples of a narrow distribution lie
    x[1::8] = -params[1::8, 1:]  # and the far end, where the density is 0
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    params[:, 0] = random.choice([1e-6, 1e-3, 1, 30, 1e3, 1e4], 400)
    params, x = params.astype(np.float32), x.astype(np.float32)
    single = jax.jit(jax.vmap(everything))(params, x)
    assert np.isfinite(single).all()
    assert all(np.isfinite(j).all() for j in jax.jit(jax.vmap(jax.jacrev(everything, (0, 1))))(params, x))
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(everything))(params.astype(float), x.astype(float)))
    error = np.abs(np.asarray(single, float) - double) / np.maximum(1, np.abs(double))
    inner = (params[:, 0] <= 1e3) & (np.arange(400) % 8 != 1)
    assert error[inner].max() < 1e-4
    draw = jax.vmap(jax.value_and_grad(lambda p, key: (everything_drawn(p, key) * jnp.arange(20.0)).sum()))
    assert all(np.isfinite(v).all() for v in jax.jit(draw)(params, jax.random.split(jax.random.key(0), 400)))


def everything_drawn(params, key):
    return PowerSpherical(params[1:] / jnp.linalg.norm(params[1:]), params[0]).sample(key)


def test_shapes_and_refusals():
    d = PowerSpherical(jnp.broadcast_to(jnp.array([0.0, 1.0, 0.0]), (4, 1, 3)), jnp.ones((1, 2)))
    drawn = jax.eval_shape(lambda: d.sample(jax.random.key(0), (5,)))
    assert d.batch_shape == (4, 2) and d.event_shape == (3,) and drawn.shape == (5, 4, 2, 3)
    kl, mean = jax.eval_shape(lambda: (dist.kl_divergence(d, UniformSphere(3)), d.mean))
    assert kl.shape == (4, 2) and mean.shape == (4, 2, 3)
    with pytest.raises(ValueError, match="2 or more"):
        PowerSpherical(jnp.ones(1), 1.0)
    with pytest.raises(ValueError, match="positive concentration"):
        PowerSpherical(jnp.array([1.0, 0.0]), -1.0)
    with pytest.raises(ValueError, match="at least 2"):
        UniformSphere(1)


def test_compiles_quickly(compiled_anew):
    @jax.jit
    def layer(unconstrained, concentration, key):
        def loss(unconstrained, concentration):
            d = PowerSpherical(unconstrained / jnp.linalg.norm(unconstrained, axis=-1, keepdims=True), concentration)
            return (d.sample(key)[..., 0] + dist.kl_divergence(d, UniformSphere(20)) + d.log_prob(unconstrained)).sum()

        return jax.grad(loss, (0, 1))(unconstrained, concentration)

    start = time.process_time()
    layer.lower(jnp.ones((100, 20)), jnp.ones(100), jax.random.key(0)).compile()
    assert time.process_time() - start < 10
