"""The rectified normal: mass, density, moments, divergence, samples and single precision."""

import itertools
import time

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from dgmzoo.reparam.distributions import RectifiedNormal
from tests.support.noise_quadrature import noise_rule

kl_divergence = dist.kl_divergence


def test_density_mass_cdf_and_icdf_equal_scipy(x64):
    loc, scale, z = np.meshgrid([-30.0, -2.0, 0.0, 0.4, 25.0], [1e-3, 0.3, 1.0, 50.0], [1e-6, 0.1, 1.0, 30.0])
    d = RectifiedNormal(loc, scale)
    normal = stats.norm(loc, scale)
    for value, exact in (
        (d.log_prob(z), normal.logpdf(z)),
        (d.log_prob(0.0 * z), normal.logcdf(0)),
        (d.cdf(z), normal.cdf(z)),
        (d.cdf(0 * z), normal.cdf(0)),
    ):
        size = np.maximum(1, np.abs(exact))
        np.testing.assert_allclose(value / size, exact / size, atol=1e-12)
    with pytest.warns(UserWarning, match="Out-of-support"):
        assert (d.log_prob(-z) == -np.inf).all()
    np.testing.assert_array_equal(d.cdf(-z), 0)
    q = jnp.array([0.0, 0.2, 0.5, 0.9, 1.0])
    np.testing.assert_allclose(RectifiedNormal(0.3, 2.0).icdf(q), np.maximum(stats.norm(0.3, 2).ppf(q), 0), rtol=1e-13)


@pytest.mark.parametrize("a", [-8.0, -1.0, 0.0, 2.0])
def test_mass_at_zero_and_density_sum_to_one(a, x64):
    d = RectifiedNormal(a, 1.0)
    x, w = noise_rule([-a])
    inside = jnp.where(a + x > 0, a + x, 1.0)
    density = jnp.sum(jnp.where(a + x > 0, jnp.exp(d.log_prob(inside) + x**2 / 2) * np.sqrt(2 * np.pi) * w, 0))
    assert float(density + jnp.exp(d.log_prob(0.0))) == pytest.approx(1, abs=1e-12)


def moments(a):
    """Mean and variance of max(0, a + x), x ~ N(0, 1), by mpmath."""
    with mp.workdps(100):
        a = mp.mpf(a)
        above, density = mp.ncdf(a), mp.npdf(a)
        mean = a * above + density
        return float(mean), float((a**2 + 1) * above + a * density - mean**2)


def test_mean_and_variance_equal_mpmath():
    for double, tolerance in ((True, 1e-11), (False, 2e-5)):
        with jax.enable_x64(double):
            a = np.concatenate([-np.logspace(0.9, -3, 25), [0.0], np.logspace(-3, 2, 25)])
            a = a.astype(np.float64 if double else np.float32)
            d = RectifiedNormal(3 * a, jnp.full(a.shape, 3, a.dtype))
            exact = np.array([moments(float(v)) for v in a])
            np.testing.assert_allclose(d.mean, 3 * exact[:, 0], rtol=tolerance)
            np.testing.assert_allclose(d.variance, 9 * exact[:, 1], rtol=tolerance)


def divergence(loc, scale, other_loc, other_scale):
    """KL by mpmath: quadrature of the densities plus the term of the atoms."""
    with mp.workdps(30):
        m, s, n, t = (mp.mpf(float(v)) for v in (loc, scale, other_loc, other_scale))
        below = mp.ncdf(-m / s)

        def integrand(z):
            return mp.npdf(z, m, s) * (((z - n) / t) ** 2 / 2 - ((z - m) / s) ** 2 / 2 + mp.log(t / s))

        width = s / max(1, abs(m / s)) if m < 0 else s
        start = mp.mpf(0) if m < 0 else max(mp.mpf(0), m - 14 * s)
        cuts = [start + k * width for k in (0, 1, 3, 7, 14, 21, 28, 60)]
        return float(below * mp.log(below / mp.ncdf(-n / t)) + mp.quad(integrand, cuts))


@pytest.mark.thorough
def test_divergence_equals_quadrature(x64):
    cases = np.array([*itertools.product([-12.0, -0.1, 0.0, 0.5, 6.0], [0.2, 3.0], [-3.0, 1.5], [0.5, 2.0])])
    value = kl_divergence(RectifiedNormal(*cases.T[:2]), RectifiedNormal(*cases.T[2:]))
    exact = np.array([divergence(*case) for case in cases])
    np.testing.assert_allclose(value / np.maximum(1, exact), exact / np.maximum(1, exact), atol=1e-10)
    same = RectifiedNormal(*cases.T[:2])
    np.testing.assert_allclose(kl_divergence(same, same), 0, atol=1e-15)


def layer_values(params, z):
    """All values that a layer computes, as one vector."""
    p, q = RectifiedNormal(params[0], params[1]), RectifiedNormal(params[2], params[3])
    return jnp.stack([kl_divergence(p, q), p.log_prob(z), p.log_prob(jnp.zeros_like(z)), p.mean, p.variance, p.cdf(z)])


def grid(locs, scales, points):
    return np.array([*itertools.product(locs, scales, locs, scales, points)], np.float32).T


def test_single_precision_is_finite_at_the_extremes():
    *params, z = grid([-1e4, -1.0, -1e-3, 0, 1.0, 1e4], [1e-6, 1e-3, 1, 1e4], [1e-6, 1.0, 1e4])
    params = jnp.stack(params)
    assert np.isfinite(jax.jit(layer_values)(params, z)).all()
    jacobians = jax.jit(jax.vmap(jax.jacrev(layer_values, (0, 1)), (1, 0)))(params, jnp.asarray(z))
    assert all(np.isfinite(j).all() for j in jacobians)
    gradient = jax.jit(jax.grad(lambda p: RectifiedNormal(p[0], p[1]).sample(jax.random.key(0)).sum()))(params)
    assert np.isfinite(gradient).all()


def test_single_precision_is_close_to_double():
    *params, z = grid([-30.0, -1.0, 0, 0.1, 30.0], [1e-3, 0.1, 1, 1e3], [1e-3, 1.0, 100.0])
    single = np.asarray(jax.jit(layer_values)(jnp.stack(params), z), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(layer_values)(jnp.stack(params).astype(float), jnp.asarray(z, float)))
    size = np.maximum(1, np.abs(double))
    np.testing.assert_allclose(single / size, double / size, atol=1e-4)


def test_samples_have_the_mass_at_zero_and_the_cdf(x64):
    d, n = RectifiedNormal(-0.3, 0.8), 1_000_000
    z = np.asarray(jax.jit(lambda key: d.sample(key, (n,)))(jax.random.key(1)))
    zeros, mass = int((z == 0).sum()), stats.norm.cdf(0.3 / 0.8)
    assert stats.binomtest(zeros, n, mass).pvalue > 1e-3
    assert stats.kstest(z[z > 0], lambda v: (np.asarray(d.cdf(v)) - mass) / (1 - mass)).pvalue > 1e-3


def test_parameters_broadcast_and_transformations_apply():
    d = RectifiedNormal(jnp.zeros((3, 1)), jnp.ones(2))
    sample = jax.eval_shape(lambda: d.sample(jax.random.key(0), (5,)))
    outputs = jax.eval_shape(lambda: (d.log_prob(0.0), d.mean, d.variance))
    assert d.batch_shape == (3, 2) and sample.shape == (5, 3, 2) and {output.shape for output in outputs} == {(3, 2)}
    keys = jax.random.split(jax.random.key(0), 3)
    draw = jax.jit(lambda d, key: d.sample(key))
    samples = jax.jit(jax.vmap(draw))(RectifiedNormal(jnp.arange(3.0), 1.0), keys)
    expected = jnp.stack([draw(RectifiedNormal(float(i), 1.0), keys[i]) for i in range(3)])
    np.testing.assert_allclose(samples, expected, rtol=1e-6)


def test_a_negative_scale_and_divergences_from_continuous_distributions_are_refused():
    with pytest.raises(ValueError, match=r"expected a positive scale, got -1\.0"):
        RectifiedNormal(0.0, -1.0)
    for other in (dist.Normal(0.0, 1.0), dist.HalfNormal(1.0), dist.Laplace(0.0, 1.0)):
        with pytest.raises(ValueError, match="atom at 0, got RectifiedNormal"):
            kl_divergence(RectifiedNormal(0.0, 1.0), other)
        with pytest.raises(ValueError, match="whose KL is infinite"):
            kl_divergence(other, RectifiedNormal(0.0, 1.0))


def test_a_layer_compiles_in_ten_seconds(compiled_anew):
    @jax.jit
    def layer(params, key):
        p, q = RectifiedNormal(params[0], params[1]), RectifiedNormal(params[2], params[3])
        return jax.grad(lambda p: (p.sample(key) ** 2 + kl_divergence(p, q) + p.log_prob(1.0)).sum())(p)

    start = time.process_time()
    layer.lower(jnp.ones((4, 100, 20)), jax.random.key(0)).compile()
    assert time.process_time() - start < 10
