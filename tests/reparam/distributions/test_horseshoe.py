"""The horseshoe: density, slab, CDF, moments, samples and single precision."""

import time

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy import integrate, special, stats

from dgmzoo.reparam.distributions import (
    Horseshoe,
    augmented_horseshoe_kl,
    horseshoe_log_prob_surrogate,
    log_slab_mass,
)
from dgmzoo.reparam.distributions.slab import shrunk_scale, shrunk_scale_second_moment, slab_ratio

RATIOS = np.array([0, 1e-6, 0.1, 0.7, 0.948, 0.949, 0.9999, 1.0, 1.0001, 1.048, 1.049, 3.0, 100.0])
# Trapezoid rule in log lambda, whose density is sech / pi.
LOG_LOCAL = np.arange(-60, 60, 0.05)
LOCAL, LOCAL_WEIGHT = np.exp(LOG_LOCAL), 0.05 / np.pi / np.cosh(LOG_LOCAL)


# Compiled once for all cases, since a distribution is a pytree of its parameters.
log_prob, cdf, icdf = (
    jax.jit(lambda d, value, name=name: getattr(d, name)(value)) for name in ("log_prob", "cdf", "icdf")
)


def test_density_is_accurate_over_the_whole_range(x64):
    log_u = np.concatenate([np.linspace(-690, -5, 40), np.linspace(-5, 6, 60), [20, 100, 690]])
    for scale in (1e-3, 1.0, 40.0):
        z = scale * np.sqrt(2) * np.exp(log_u / 2)
        exact = [float(mp.log(scaled_e1(u))) - np.log(scale) - 0.5 * np.log(2 * np.pi**3) for u in np.exp(log_u)]
        size = np.maximum(1, np.abs(exact))
        value = np.asarray(log_prob(Horseshoe(scale), jnp.array([z, -z])))
        np.testing.assert_allclose(value / size, [exact / size] * 2, atol=1e-11)


def scaled_e1(u):
    """exp(u) E1(u) by mpmath."""
    with mp.workdps(40):
        u = mp.mpf(float(u))
        return mp.exp(u) * mp.e1(u) if u < 500 else mp.hyp2f0(1, 1, -1 / u) / u


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (2.0, 2.0), (30.0, 0.5), (1e-3, 2.0)])
def test_density_equals_the_scale_mixture_and_integrates_to_one(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.array([1e-6, 0.01, 0.3, 1.0, 4.0]) * min(1, slab)
    ratio = scale / slab
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (ratio * LOCAL) ** 2)
    spread = scale / np.sqrt(LOCAL**-2 + ratio**2)
    exact = (tilt * stats.norm.pdf(z[:, None], scale=spread)).sum(-1) / tilt.sum()
    np.testing.assert_allclose(jnp.exp(log_prob(d, z)), exact, rtol=1e-12)
    log_z = np.arange(-700, 80, 0.02) + np.log(scale)
    mass = 2 * 0.02 * np.sum(np.exp(np.asarray(log_prob(d, np.exp(log_z))) + log_z))
    assert mass == pytest.approx(1, abs=1e-10)


def test_slab_mass_and_second_moment_equal_quadrature(x64):
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (RATIOS[:, None] * LOCAL) ** 2)
    np.testing.assert_allclose(jax.jit(log_slab_mass)(RATIOS), np.log(tilt.sum(-1)), atol=1e-13)
    square = (tilt / (LOCAL**-2 + RATIOS[:, None] ** 2)).sum(-1) / tilt.sum(-1)
    np.testing.assert_allclose(jax.jit(shrunk_scale_second_moment)(RATIOS[1:]), square[1:], rtol=1e-11)
    slope = jax.jit(jax.vmap(jax.grad(log_slab_mass)))(jnp.asarray(RATIOS))
    exact = -(tilt * RATIOS[:, None] * LOCAL**2 / (1 + (RATIOS[:, None] * LOCAL) ** 2)).sum(-1) / tilt.sum(-1)
    np.testing.assert_allclose(slope[1:], exact[1:], rtol=1e-10)  # at r = 0 the slope is -2/pi, but the mean is 0


shrunk_scale_and_slope = jax.jit(jax.vmap(jax.value_and_grad(shrunk_scale)))


@pytest.mark.parametrize("ratio", RATIOS)
def test_shrunk_scale_has_the_slab_density(ratio, x64):
    local = jnp.asarray(np.logspace(-8, 8, 33))
    ratios = jnp.full(local.shape, ratio)
    shrunk, slope = shrunk_scale_and_slope(local, ratios)
    # Change of variables: the half-Cauchy density of `local` is the density of t times dt / dlocal.
    log_density = -np.log1p((1 - ratio) * (1 + ratio) * np.asarray(shrunk) ** 2) - np.log(np.pi / 2)
    log_density -= float(log_slab_mass(ratio))
    inner = np.asarray(local) < 1e4  # above, 1 + (1 - r^2) t^2 cancels in this formula
    np.testing.assert_allclose(
        (log_density + np.log(slope))[inner], (np.log(2 / np.pi) - np.log1p(local**2))[inner], atol=1e-6
    )
    assert np.all(np.diff(shrunk) >= 0) and np.all(np.asarray(shrunk) * ratio <= 1 + 1e-15)


def test_pathwise_gradient_of_the_second_moment_is_exact(x64):
    """d/dr E t^2 through the sampling map, by quadrature over its uniform noise."""
    share, weight = np.polynomial.legendre.leggauss(400)
    local, weight = jnp.asarray(np.tan(np.pi / 4 * (share + 1))), weight / 2
    slopes = jax.jit(jax.vmap(jax.grad(lambda r, x: shrunk_scale(x, r) ** 2), (None, 0)))
    exact_slope = jax.jit(jax.grad(shrunk_scale_second_moment))
    for ratio in (0.3, 0.99, 1.5):
        assert float(weight @ slopes(ratio, local)) == pytest.approx(float(exact_slope(ratio)), rel=1e-8)


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (5.0, 1.0)])
def test_cdf_equals_quadrature_and_icdf_inverts_it(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.array([-1e8, -30, -2, -0.1, -1e-5, 0, 1e-9, 1e-3, 0.5, 3.0, 1e4])
    ratio = scale / slab
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (ratio * LOCAL) ** 2)
    exact = (tilt * special.ndtr(z[:, None] * np.sqrt(LOCAL**-2 + ratio**2) / scale)).sum(-1) / tilt.sum()
    np.testing.assert_allclose(cdf(d, z), exact, atol=1e-11)
    q = jnp.array([1e-9, 0.01, 0.3, 0.5, 0.500001, 0.9, 1 - 1e-6])
    np.testing.assert_allclose(cdf(d, icdf(d, q)), q, rtol=1e-10)
    np.testing.assert_array_equal(icdf(d, jnp.array([0.0, 1.0])), [-np.inf, np.inf])
    z, slope = jax.jit(jax.value_and_grad(d.icdf))(0.8)
    assert float(slope * jnp.exp(log_prob(d, z))) == pytest.approx(1, rel=1e-9)


def test_cdf_equals_the_power_series_of_e1(x64):
    """CDF without a slab by the power series of E1, and the median of |z|."""
    z, n = np.array([1e-6, 0.1, 1.0, 2.0]), np.arange(40)
    a, u = z[:, None] / np.sqrt(2), z[:, None] ** 2 / 2
    harmonic = special.digamma(n + 1) - np.log(u) + 2 / (2 * n + 1)
    terms = np.exp(n * np.log(u) - special.gammaln(n + 1)) / (2 * n + 1) * harmonic
    central_mass = 2 * np.pi**-1.5 * (a * terms).sum(-1)
    np.testing.assert_allclose(2 * cdf(Horseshoe(1.0), z) - 1, central_mass, atol=1e-11)
    assert float(icdf(Horseshoe(2.0), 0.75)) == pytest.approx(2 * 0.5867509838, rel=1e-9)


def test_mean_and_variance_equal_quadrature(x64):
    without_slab, slab = Horseshoe(0.7), Horseshoe(0.7, 2.0)
    assert np.isnan(without_slab.mean) and np.isposinf(without_slab.variance) and float(slab.mean) == 0
    density = jax.jit(lambda z: jnp.exp(slab.log_prob(z)))
    square = integrate.quad(lambda z: 2 * z**2 * float(density(z)), 0, 30, epsabs=1e-10)[0]
    assert float(slab.variance) == pytest.approx(square, rel=1e-8)


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (3.0, 0.5)])
def test_samples_have_the_cdf(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.asarray(jax.jit(lambda key: d.sample(key, (1_000_000,)))(jax.random.key(3)))
    grid = scale * np.sinh(np.linspace(-25, 25, 20_001))  # between these points the CDF is linear to 1e-6
    grid_cdf = np.asarray(cdf(d, grid))
    assert stats.kstest(z, lambda v: np.interp(v, grid, grid_cdf)).pvalue > 1e-3


def layer_values(params, z):
    """Values [4] that a layer computes, at (scale, slab, loc, sd, local_loc, local_scale) [6]."""
    scale, slab, loc, sd, local_loc, local_scale = params
    augmented = augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab)
    surrogate = horseshoe_log_prob_surrogate(z, loc, sd, scale, slab)
    return jnp.stack([Horseshoe(scale, slab).log_prob(z), log_slab_mass(slab_ratio(scale, slab)), augmented, surrogate])


def random_parameters(scales, locs, points, num=3000):
    """Parameters [num, 6] and values [num] in single precision, chosen from the given lists."""
    random = np.random.default_rng(1)
    scale, slab, sd = random.choice(scales, (3, num))
    slab = np.where(random.random(num) < 0.3, np.inf, slab)
    # Layers bound the posterior of log lambda: location within 5, scale at most 2.
    params = [scale, slab, random.choice(locs, num), sd, random.uniform(-5, 5, num), random.uniform(0.01, 2, num)]
    return np.stack(params, -1).astype(np.float32), random.choice(points, num).astype(np.float32)


@pytest.mark.thorough
def test_single_precision_is_finite_at_the_extremes():
    params, z = random_parameters([1e-6, 1e-3, 1.0, 1e4], [-1e4, 0, 1e-3, 1e4], [-1e4, -1e-6, 1e-30, 0, 1.0, 1e4])
    assert np.isfinite(jax.jit(jax.vmap(layer_values))(params, z)).all()
    assert all(np.isfinite(j).all() for j in jax.jit(jax.vmap(jax.jacrev(layer_values, (0, 1))))(params, z))
    finite = params[np.isfinite(params[:, 1])]
    variance = jax.vmap(jax.value_and_grad(lambda p: Horseshoe(p[0], p[1]).variance))
    assert all(np.isfinite(v).all() for v in jax.jit(variance)(finite))
    keys = jax.random.split(jax.random.key(0), len(params))
    samples = jax.jit(jax.vmap(jax.value_and_grad(lambda p, k: Horseshoe(p[0], p[1]).sample(k))))(params, keys)
    assert all(np.isfinite(v).all() for v in samples)


def test_single_precision_is_close_to_double():
    params, z = random_parameters([1e-3, 0.1, 1.0, 1e3], [-3.0, 0, 0.2], [-2.0, 1e-4, 0.3, 50.0])
    single = np.asarray(jax.jit(jax.vmap(layer_values))(params, z), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(layer_values))(params.astype(float), z.astype(float)))
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    assert error.max() < 1e-4


def test_parameters_broadcast_and_transformations_apply():
    d = Horseshoe(jnp.ones((3, 1)), jnp.full(2, 2.0))
    assert d.batch_shape == (3, 2)
    sample = jax.eval_shape(lambda: d.sample(jax.random.key(0), (4,)))
    outputs = jax.eval_shape(lambda: (d.log_prob(0.1), d.cdf(0.1), d.mean, d.variance))
    assert sample.shape == (4, 3, 2) and {output.shape for output in outputs} == {(3, 2)}
    keys = jax.random.split(jax.random.key(0), 3)
    draw = jax.jit(lambda s, key: Horseshoe(s, 2.0).sample(key))
    samples = jax.jit(jax.vmap(draw))(jnp.arange(1.0, 4.0), keys)
    np.testing.assert_allclose(samples, [draw(jnp.float32(i + 1), keys[i]) for i in range(3)], rtol=1e-5)
    value, slope = jax.jit(jax.value_and_grad(Horseshoe(1.0).log_prob))(0.0)
    assert np.isfinite(value) and slope == 0


def test_parameters_that_are_not_positive_are_refused():
    for arguments, name in (((0.0,), "scale"), ((1.0, -2.0), "slab")):
        with pytest.raises(ValueError, match=f"expected a positive {name}"):
            Horseshoe(*arguments)


def test_a_layer_compiles_in_ten_seconds(compiled_anew):
    @jax.jit
    def layer(params, key):
        def loss(params):
            d = Horseshoe(params[0], 2.0)
            closed = augmented_horseshoe_kl(params[1], params[2], params[3], params[4], params[0], 2.0)
            return (closed + d.log_prob(params[1]) + d.sample(key)).sum()

        return jax.grad(loss)(params)

    start = time.process_time()
    layer.lower(jnp.ones((5, 100, 20)), jax.random.key(0)).compile()
    assert time.process_time() - start < 10
