"""The horseshoe: density, slab, CDF, samples, the augmented divergence, and which estimators are unbiased."""

import itertools
import time

import jax
import jax.numpy as jnp
import mpmath as mp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from dgmzoo.reparam.distributions import (
    Horseshoe,
    augmented_horseshoe_kl,
    half_cauchy_kl,
    horseshoe_log_prob_surrogate,
    log_regularized_scale,
    log_slab_mass,
)
from dgmzoo.reparam.distributions.slab import shrunk_scale, shrunk_scale_second_moment, slab_ratio
from tests.support.noise_quadrature import noise_rule

RATIOS = np.array([0, 1e-6, 0.1, 0.7, 0.948, 0.949, 0.9999, 1.0, 1.0001, 1.048, 1.049, 3.0, 100.0])
# The trapezoid rule in log lambda, whose density sech / pi it integrates to rounding.
LOG_LOCAL = np.arange(-60, 60, 0.05)
LOCAL, LOCAL_WEIGHT = np.exp(LOG_LOCAL), 0.05 / np.pi / np.cosh(LOG_LOCAL)


def test_density_over_the_whole_range(x64):
    log_u = np.concatenate([np.linspace(-690, -5, 40), np.linspace(-5, 6, 60), [20, 100, 690]])
    for scale in (1e-3, 1.0, 40.0):
        z = scale * np.sqrt(2) * np.exp(log_u / 2)
        want = [float(mp.log(scaled_e1(u))) - np.log(scale) - 0.5 * np.log(2 * np.pi**3) for u in np.exp(log_u)]
        got = np.asarray(Horseshoe(scale).log_prob(jnp.array([z, -z])))
        np.testing.assert_allclose(
            got / np.maximum(1, np.abs(want)), [want / np.maximum(1, np.abs(want))] * 2, atol=1e-11
        )


def scaled_e1(u):
    with mp.workdps(40):
        u = mp.mpf(float(u))
        return mp.exp(u) * mp.e1(u) if u < 500 else mp.hyp2f0(1, 1, -1 / u) / u


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (2.0, 2.0), (30.0, 0.5), (1e-3, 2.0)])
def test_density_is_the_mixture_and_integrates_to_one(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.array([1e-6, 0.01, 0.3, 1.0, 4.0]) * min(1, slab)
    ratio = scale / slab
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (ratio * LOCAL) ** 2)
    spread = scale / np.sqrt(LOCAL**-2 + ratio**2)
    want = (tilt * stats.norm.pdf(z[:, None], scale=spread)).sum(-1) / tilt.sum()
    np.testing.assert_allclose(jnp.exp(d.log_prob(z)), want, rtol=1e-12)
    log_z = np.arange(-700, 80, 0.02) + np.log(scale)
    mass = 2 * 0.02 * np.sum(np.exp(np.asarray(d.log_prob(np.exp(log_z))) + log_z))
    assert mass == pytest.approx(1, abs=1e-10)


def test_slab_mass_and_second_moment(x64):
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (RATIOS[:, None] * LOCAL) ** 2)
    np.testing.assert_allclose(log_slab_mass(RATIOS), np.log(tilt.sum(-1)), atol=1e-13)
    square = (tilt / (LOCAL**-2 + RATIOS[:, None] ** 2)).sum(-1) / tilt.sum(-1)
    np.testing.assert_allclose(shrunk_scale_second_moment(RATIOS[1:]), square[1:], rtol=1e-11)
    slope = jax.vmap(jax.grad(log_slab_mass))(jnp.asarray(RATIOS))
    want = -(tilt * RATIOS[:, None] * LOCAL**2 / (1 + (RATIOS[:, None] * LOCAL) ** 2)).sum(-1) / tilt.sum(-1)
    np.testing.assert_allclose(slope[1:], want[1:], rtol=1e-10)  # at r = 0 the slope is -2/pi, not the mean of 0


@pytest.mark.parametrize("ratio", RATIOS)
def test_shrunk_scale_has_the_slab_density(ratio, x64):
    local = jnp.asarray(np.logspace(-8, 8, 33))
    ratios = jnp.full(local.shape, ratio)
    shrunk, slope = jax.vmap(jax.value_and_grad(shrunk_scale))(local, ratios)
    # Change of variables: half-Cauchy density of local = density of t times dt / dlocal.
    log_density = -np.log1p((1 - ratio) * (1 + ratio) * np.asarray(shrunk) ** 2) - np.log(np.pi / 2)
    log_density -= float(log_slab_mass(ratio))
    inner = np.asarray(local) < 1e4  # beyond, 1 + (1 - r^2) t^2 itself cancels in this check
    np.testing.assert_allclose(
        (log_density + np.log(slope))[inner], (np.log(2 / np.pi) - np.log1p(local**2))[inner], atol=1e-6
    )
    assert np.all(np.diff(shrunk) >= 0) and np.all(np.asarray(shrunk) * ratio <= 1 + 1e-15)


def test_pathwise_gradient_of_the_second_moment(x64):
    """d/dr E t^2 through the sampling map, by quadrature over its uniform draw."""
    share, weight = np.polynomial.legendre.leggauss(400)
    local, weight = jnp.asarray(np.tan(np.pi / 4 * (share + 1))), weight / 2
    for ratio in (0.3, 0.99, 1.5):
        slope = jax.vmap(jax.grad(lambda r, x: shrunk_scale(x, r) ** 2), (None, 0))(ratio, local)
        assert float(weight @ slope) == pytest.approx(float(jax.grad(shrunk_scale_second_moment)(ratio)), rel=1e-8)


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (5.0, 1.0)])
def test_cdf_and_inverse(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.array([-1e8, -30, -2, -0.1, -1e-5, 0, 1e-9, 1e-3, 0.5, 3.0, 1e4])
    ratio = scale / slab
    tilt = LOCAL_WEIGHT / np.sqrt(1 + (ratio * LOCAL) ** 2)
    want = (tilt * special.ndtr(z[:, None] * np.sqrt(LOCAL**-2 + ratio**2) / scale)).sum(-1) / tilt.sum()
    np.testing.assert_allclose(d.cdf(z), want, atol=1e-11)
    q = jnp.array([1e-9, 0.01, 0.3, 0.5, 0.500001, 0.9, 1 - 1e-6])
    np.testing.assert_allclose(d.cdf(d.icdf(q)), q, rtol=1e-10)
    np.testing.assert_array_equal(d.icdf(jnp.array([0.0, 1.0])), [-np.inf, np.inf])
    slope = jax.grad(lambda q: d.icdf(q))(0.8)
    assert float(slope * jnp.exp(d.log_prob(d.icdf(0.8)))) == pytest.approx(1, rel=1e-9)


def test_power_series_of_the_cdf(x64):
    """The plain horseshoe's CDF by the power series of E1, term by term, and its median."""
    z, n = np.array([1e-6, 0.1, 1.0, 2.0]), np.arange(40)
    a, u = z[:, None] / np.sqrt(2), z[:, None] ** 2 / 2
    harmonic = special.digamma(n + 1) - np.log(u) + 2 / (2 * n + 1)
    terms = np.exp(n * np.log(u) - special.gammaln(n + 1)) / (2 * n + 1) * harmonic
    inside = 2 * np.pi**-1.5 * (a * terms).sum(-1)
    np.testing.assert_allclose(2 * Horseshoe(1.0).cdf(z) - 1, inside, atol=1e-11)
    assert float(Horseshoe(2.0).icdf(0.75)) == pytest.approx(2 * 0.5867509838, rel=1e-9)


def test_moments(x64):
    plain, slab = Horseshoe(0.7), Horseshoe(0.7, 2.0)
    assert np.isnan(plain.mean) and np.isposinf(plain.variance) and float(slab.mean) == 0
    square = integrate.quad(lambda z: 2 * z**2 * float(jnp.exp(slab.log_prob(z))), 0, 30, epsabs=1e-10)[0]
    assert float(slab.variance) == pytest.approx(square, rel=1e-8)


@pytest.mark.parametrize("scale, slab", [(1.0, np.inf), (0.7, 2.0), (3.0, 0.5)])
def test_a_million_samples(scale, slab, x64):
    d = Horseshoe(scale, slab)
    z = np.asarray(jax.jit(lambda key: d.sample(key, (1_000_000,)))(jax.random.key(3)))
    grid = scale * np.sinh(np.linspace(-25, 25, 20_001))  # the CDF between these is linear to 1e-6
    cdf = np.asarray(d.cdf(grid))
    assert stats.kstest(z, lambda v: np.interp(v, grid, cdf)).pvalue > 1e-3


def everything(params, z):
    """Values [4] a layer asks for, at (scale, slab, loc, sd, local_loc, local_scale) [6]."""
    scale, slab, loc, sd, local_loc, local_scale = params
    augmented = augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab)
    surrogate = horseshoe_log_prob_surrogate(z, loc, sd, scale, slab)
    return jnp.stack([Horseshoe(scale, slab).log_prob(z), log_slab_mass(slab_ratio(scale, slab)), augmented, surrogate])


def draws(scales, locs, points, num=3000):
    one = np.random.default_rng(1)
    scale, slab, sd = one.choice(scales, (3, num))
    slab = np.where(one.random(num) < 0.3, np.inf, slab)
    # The head of log lambda is bounded where it is made: |log lambda| <= 5, sd <= 2.
    params = [scale, slab, one.choice(locs, num), sd, one.uniform(-5, 5, num), one.uniform(0.01, 2, num)]
    return np.stack(params, -1).astype(np.float32), one.choice(points, num).astype(np.float32)


def test_single_precision_is_finite_at_the_extremes():
    params, z = draws([1e-6, 1e-3, 1.0, 1e4], [-1e4, 0, 1e-3, 1e4], [-1e4, -1e-6, 1e-30, 0, 1.0, 1e4])
    assert np.isfinite(jax.jit(jax.vmap(everything))(params, z)).all()
    assert all(np.isfinite(j).all() for j in jax.jit(jax.vmap(jax.jacrev(everything, (0, 1))))(params, z))
    finite = params[np.isfinite(params[:, 1])]
    variance = jax.vmap(jax.value_and_grad(lambda p: Horseshoe(p[0], p[1]).variance))
    assert all(np.isfinite(v).all() for v in jax.jit(variance)(finite))
    keys = jax.random.split(jax.random.key(0), len(params))
    drawn = jax.jit(jax.vmap(jax.value_and_grad(lambda p, k: Horseshoe(p[0], p[1]).sample(k))))(params, keys)
    assert all(np.isfinite(v).all() for v in drawn)


def test_single_precision_is_close_to_double():
    params, z = draws([1e-3, 0.1, 1.0, 1e3], [-3.0, 0, 0.2], [-2.0, 1e-4, 0.3, 50.0])
    single = np.asarray(jax.jit(jax.vmap(everything))(params, z), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(everything))(params.astype(float), z.astype(float)))
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    assert error.max() < 1e-4


def test_half_cauchy_divergence_equals_quadrature(x64):
    loc, scale = (a.ravel() for a in np.meshgrid([-9.0, -2, -0.3, 0, 1.2, 25], [0.01, 0.3, 0.49, 0.5, 0.52, 1, 4, 30]))

    def expected(m, s):
        def f(n):
            return stats.norm.pdf(n) * np.logaddexp(0, 2 * (m + s * n))

        cuts = sorted({-14, 14, 0, *(c for c in (-m / s - 2 / s, -m / s, -m / s + 2 / s) if -14 < c < 14)})
        return sum(integrate.quad(f, a, b, epsabs=1e-13, limit=300)[0] for a, b in itertools.pairwise(cuts))

    want = np.array([expected(m, s) for m, s in zip(loc, scale, strict=True)])
    want = want - loc - np.log(scale) - 0.5 * np.log(2 * np.pi * np.e) - np.log(2 / np.pi)
    np.testing.assert_allclose(half_cauchy_kl(loc, scale), want, rtol=1e-12, atol=1e-12)
    wide = dist.kl_divergence(dist.LogNormal(loc + np.log(3), scale), dist.HalfCauchy(3.0))
    np.testing.assert_allclose(wide, want, rtol=1e-11, atol=1e-11)
    single = np.asarray(half_cauchy_kl(*(jnp.asarray(a, jnp.float32) for a in (loc, scale))), float)
    np.testing.assert_allclose(single / np.maximum(1, want), want / np.maximum(1, want), atol=2e-6)


@pytest.mark.parametrize("slab", [np.inf, 2.0])
def test_augmented_divergence(slab, x64):
    loc, sd, local_loc, local_scale, scale = 0.4, 0.3, -0.5, 0.6, 0.8
    n, w = (np.asarray(a) for a in noise_rule())
    z, log_local = loc + sd * n[:, None], local_loc + local_scale * n[None]
    log_q = stats.norm.logpdf(z, loc, sd) + stats.norm.logpdf(log_local, local_loc, local_scale)
    log_p = np.log(2 / np.pi) - np.log1p(np.exp(2 * log_local)) + log_local
    log_p = log_p + stats.norm.logpdf(z, 0, scale * np.exp(log_local)) - (z / slab) ** 2 / 2
    want = w @ (log_q - log_p) @ w + float(log_slab_mass(scale / slab))
    got = float(augmented_horseshoe_kl(loc, sd, local_loc, local_scale, scale, slab))
    assert got == pytest.approx(want, abs=1e-10)
    x, w = noise_rule([-loc / sd, *(-loc / sd + s * 10.0**-k for k in range(1, 9) for s in (-1, 1))])
    marginal = w @ (stats.norm.logpdf(loc + sd * x, loc, sd) - Horseshoe(scale, slab).log_prob(loc + sd * x))
    assert got > float(marginal) > 0  # it bounds the divergence from the horseshoe itself


def test_capped_scale(x64):
    scale = np.array([1e-3, 1.0, 1e5])
    want = np.log(scale / np.sqrt(1 + (scale / 2) ** 2))
    np.testing.assert_allclose(log_regularized_scale(np.log(scale), 2.0), want, atol=1e-14)


@pytest.mark.parametrize("slab", [np.inf, 1.5])
def test_surrogate_is_unbiased_and_the_plain_gradient_has_no_variance(slab, x64):
    """Against E[log p(z) d log q(z)] for the posterior and E[d log p(z)] for the prior, by quadrature."""
    params = jnp.array([0.2, -0.5, -0.3])  # location, log sd, log scale
    loc, sd = params[0], jnp.exp(params[1])
    zero = float(-loc / sd)
    x, w = noise_rule([zero, *(zero + s * 10.0 ** (-k / 2) for k in range(1, 33) for s in (-1, 1))])

    def surrogate(params, noise):
        loc, sd, scale = params[0], jnp.exp(params[1]), jnp.exp(params[2])
        return horseshoe_log_prob_surrogate(loc + sd * noise, loc, sd, scale, slab)

    def plain(params, noise):
        return Horseshoe(jnp.exp(params[2]), slab).log_prob(params[0] + jnp.exp(params[1]) * noise)

    def score(params, noise):
        z = jax.lax.stop_gradient(loc + sd * noise)
        log_q = dist.Normal(params[0], jnp.exp(params[1])).log_prob(z)
        log_p = Horseshoe(jnp.exp(params[2]), slab).log_prob(z)
        return jax.lax.stop_gradient(log_p) * log_q + log_p

    def per_draw(f):
        return jax.jit(jax.vmap(jax.grad(f), (None, 0)))(params, x)

    values = jax.vmap(surrogate, (None, 0))(params, x)
    np.testing.assert_allclose(values, jax.vmap(plain, (None, 0))(params, x), rtol=1e-12)
    np.testing.assert_allclose(w @ per_draw(surrogate), w @ per_draw(score), atol=1e-6)

    # The plain gradient's second moment grows without limit towards z = 0, the surrogate's does not.
    def second_moment(f, cut):
        return np.asarray(jnp.where(jnp.abs(x - zero) > cut, w, 0) @ per_draw(f)[:, :2] ** 2)

    assert (second_moment(plain, 1e-6) > 20 * second_moment(plain, 1e-4)).all()
    np.testing.assert_allclose(second_moment(surrogate, 1e-6), second_moment(surrogate, 1e-4), rtol=0.02)


def test_shapes_and_transformations():
    d = Horseshoe(jnp.ones((3, 1)), jnp.full(2, 2.0))
    assert d.batch_shape == (3, 2)
    drawn = jax.eval_shape(lambda: d.sample(jax.random.key(0), (4,)))
    rest = jax.eval_shape(lambda: (d.log_prob(0.1), d.cdf(0.1), d.mean, d.variance))
    assert drawn.shape == (4, 3, 2) and {each.shape for each in rest} == {(3, 2)}
    keys = jax.random.split(jax.random.key(0), 3)
    one = jax.jit(lambda s, key: Horseshoe(s, 2.0).sample(key))
    values = jax.jit(jax.vmap(one))(jnp.arange(1.0, 4.0), keys)
    np.testing.assert_allclose(values, [one(jnp.float32(i + 1), keys[i]) for i in range(3)], rtol=1e-5)
    value, slope = jax.jit(jax.value_and_grad(Horseshoe(1.0).log_prob))(0.0)
    assert np.isfinite(value) and slope == 0


def test_refusals():
    for arguments, name in (((0.0,), "scale"), ((1.0, -2.0), "slab")):
        with pytest.raises(ValueError, match=f"expected a positive {name}"):
            Horseshoe(*arguments)


def test_compiles_quickly(compiled_anew):
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
