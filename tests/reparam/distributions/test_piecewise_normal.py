"""The piecewise normal: density, moments, divergences, samples and single precision."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.reparam.distributions import PiecewiseNormal
from tests.support.noise_quadrature import gradient_of_expectation, noise_rule

kl_divergence = dist.kl_divergence
RNG = np.random.default_rng(0)


def random_distribution(pieces, batch=()):
    return PiecewiseNormal(RNG.normal(size=batch), np.exp(RNG.normal(size=(*batch, pieces))))


def log_density_and_cdf(loc, scales, value):
    """Log-density and CDF by SciPy: piece k is part of a normal N(mean_k, scale_k^2), with means from the centre outwards."""
    edges = stats.norm.ppf(np.arange(len(scales) + 1) / len(scales))
    centre = np.searchsorted(edges, 0, side="right") - 1
    means = {centre: loc}
    for k in range(centre + 1, len(scales)):
        means[k] = means[k - 1] + (scales[k - 1] - scales[k]) * edges[k]
    for k in range(centre - 1, -1, -1):
        means[k] = means[k + 1] + (scales[k + 1] - scales[k]) * edges[k + 1]
    for k, scale in enumerate(scales):
        if value < means[k] + scale * edges[k + 1]:
            return stats.norm(means[k], scale).logpdf(value), stats.norm(means[k], scale).cdf(value)


@pytest.mark.parametrize("pieces", [1, 2, 4, 5])
def test_density_and_cdf_equal_scipy_and_icdf_inverts(pieces, x64):
    d = random_distribution(pieces)
    z = np.concatenate([np.linspace(-8, 8, 81), [-300.0, 300.0]])
    log_density, cdf = np.array([log_density_and_cdf(float(d.loc), np.asarray(d.scales), v) for v in z]).T
    np.testing.assert_allclose(jax.jit(d.log_prob)(z), log_density, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(jax.jit(d.cdf)(z), cdf, atol=1e-15)
    q = np.linspace(1e-6, 1 - 1e-6, 101)
    np.testing.assert_allclose(jax.jit(lambda q: d.cdf(d.icdf(q)))(q), q, atol=1e-15)
    np.testing.assert_array_equal(d.icdf(jnp.array([0.0, 1.0])), [-np.inf, np.inf])
    slope = jax.jit(jax.vmap(jax.grad(d.cdf)))(jnp.asarray(z))
    np.testing.assert_allclose(slope, np.exp(log_density), rtol=1e-10)


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_mass_mean_and_variance_equal_quadrature(pieces, x64):
    d = random_distribution(pieces)
    cuts = [-np.inf, *np.asarray(d.breakpoints), np.inf]
    density = jax.jit(lambda z: jnp.exp(d.log_prob(z)))

    def moment(n):
        return sum(
            integrate.quad(lambda z: z**n * float(density(z)), a, b, epsabs=1e-13)[0]
            for a, b in itertools.pairwise(cuts)
        )

    assert moment(0) == pytest.approx(1, abs=1e-12)
    assert float(d.mean) == pytest.approx(moment(1), abs=1e-10)
    assert float(d.variance) == pytest.approx(moment(2) - moment(1) ** 2, rel=1e-9)


NUM_NODES = 2000  # the same for every quadrature, so that one compiled program serves all


@jax.jit
def log_ratio(p, q, x):
    """log p/q at samples of p with noise `x` [N]."""
    z = p.transform(x)
    return p.log_prob(z) - q.log_prob(z)


@jax.jit
def closed_divergences(p, q, normal):
    return [kl_divergence(*pair) for pair in ((p, q), (p, normal), (normal, p), (p, p))]


def divergence(p, q):
    """E log p/q by quadrature over p's noise, split where one of the densities jumps; for a single q."""
    splits = [0.0, *np.asarray(p.edges)]
    if isinstance(q, PiecewiseNormal):
        splits += [*np.asarray(p.inverse(q.breakpoints))]
    x, w = (np.asarray(array) for array in noise_rule(splits, reach=12))
    x = np.pad(x, (0, NUM_NODES - len(x)))
    return float(w @ np.asarray(log_ratio(p, q, x))[: len(w)])


@pytest.mark.parametrize("pieces, others", [(5, 5), (5, 1), (1, 5), (4, 3), (2, 2)])
def test_divergences_equal_quadrature(pieces, others, x64):
    for _ in range(5):
        p, q, normal = (
            random_distribution(pieces),
            random_distribution(others),
            dist.Normal(RNG.normal(), np.exp(RNG.normal())),
        )
        as_pieces = PiecewiseNormal(normal.loc, np.array([normal.scale]))
        to_q, to_normal, from_normal, to_itself = closed_divergences(p, q, normal)
        assert float(to_q) == pytest.approx(divergence(p, q), abs=1e-10)
        assert float(to_normal) == pytest.approx(divergence(p, normal), abs=1e-10)
        assert float(from_normal) == pytest.approx(divergence(as_pieces, p), abs=1e-10)
        assert float(to_itself) == pytest.approx(0, abs=1e-14)


def test_divergence_gradients_equal_finite_differences(x64):
    def divergence_of(params):
        p = PiecewiseNormal(params[0], jnp.exp(params[1:5]))
        return kl_divergence(p, PiecewiseNormal(params[5], jnp.exp(params[6:])))

    value, gradient = jax.jit(divergence_of), jax.jit(jax.grad(divergence_of))
    for _ in range(3):
        params = RNG.normal(size=9)
        differences = gradient_of_expectation(value, params)
        np.testing.assert_allclose(gradient(jnp.asarray(params)), differences, rtol=1e-7, atol=1e-7)


def test_equal_scales_give_a_normal(x64):
    d, normal = PiecewiseNormal(0.3, np.full(5, 1.7)), dist.Normal(0.3, 1.7)
    z = jnp.linspace(-9, 9, 50)
    np.testing.assert_allclose(d.log_prob(z), normal.log_prob(z), atol=1e-13)
    assert float(d.mean) == pytest.approx(0.3) and float(d.variance) == pytest.approx(1.7**2)


def test_samples_have_the_cdf(x64):
    d = PiecewiseNormal(-0.4, np.array([2.0, 0.1, 0.5, 3.0, 0.7]))
    z = np.asarray(jax.jit(lambda key: d.sample(key, (1_000_000,)))(jax.random.key(0)))
    assert stats.kstest(z, lambda v: np.asarray(jax.jit(d.cdf)(v))).pvalue > 1e-3


def layer_values(params, z):
    """All values that a layer computes, as one vector, from two piecewise normals and a normal."""
    p = PiecewiseNormal(params[0], params[1:4])
    q, normal = PiecewiseNormal(params[4], params[5:]), dist.Normal(params[4], params[5])
    values = [
        kl_divergence(p, q),
        kl_divergence(p, normal),
        kl_divergence(normal, p),
        p.log_prob(z),
        p.cdf(z),
    ]
    return jnp.stack([*values, p.mean, p.variance, p.transform(jnp.ones_like(z))])


def random_parameters(locs, scales, points, num=4000):
    """Parameters [num, 8] and values [num] in single precision, chosen from the given lists."""
    random = np.random.default_rng(1)
    loc, scale = random.choice(locs, (num, 2)), random.choice(scales, (num, 6))
    params = np.concatenate([loc[:, :1], scale[:, :3], loc[:, 1:], scale[:, 3:]], -1)
    return params.astype(np.float32), random.choice(points, num).astype(np.float32)


@pytest.mark.thorough
def test_single_precision_is_finite_at_the_extremes():
    params, z = random_parameters([-1e4, -1.0, 0, 1e-3, 1e4], [1e-6, 1e-3, 1, 1e4], [-1e4, -1e-6, 0, 1.0, 1e4])
    assert np.isfinite(jax.jit(jax.vmap(layer_values))(params, z)).all()
    jacobians = jax.jit(jax.vmap(jax.jacrev(layer_values, (0, 1))))(params, z)
    assert all(np.isfinite(j).all() for j in jacobians)


def test_single_precision_is_close_to_double():
    params, z = random_parameters([-3.0, -0.1, 0, 0.5, 2.0], [1e-3, 0.1, 1, 1e3], [-2.0, 0.3, 50.0])
    single = np.asarray(jax.jit(jax.vmap(layer_values))(params, z), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(layer_values))(params.astype(float), z.astype(float)))
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    assert error.max() < 1e-4


def test_parameters_broadcast_and_transformations_apply():
    d = PiecewiseNormal(jnp.zeros((3, 1)), jnp.ones((2, 5)))
    assert d.batch_shape == (3, 2)
    sample = jax.eval_shape(lambda: d.sample(jax.random.key(0), (4,)))
    other = PiecewiseNormal(0.0, jnp.ones(3))
    outputs = jax.eval_shape(lambda: (d.log_prob(0.0), d.mean, d.variance, kl_divergence(d, other)))
    assert sample.shape == (4, 3, 2) and {output.shape for output in outputs} == {(3, 2)}
    keys = jax.random.split(jax.random.key(0), 3)
    sample_log_prob = jax.jit(lambda d, key: d.log_prob(d.sample(key)))
    stacked = PiecewiseNormal(jnp.arange(3.0), jnp.exp(jax.random.normal(keys[0], (3, 5))))
    values = jax.jit(jax.vmap(sample_log_prob))(stacked, keys)
    singles = [PiecewiseNormal(stacked.loc[i], stacked.scales[i]) for i in range(3)]
    expected = [sample_log_prob(d, key) for d, key in zip(singles, keys, strict=True)]
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_scales_without_axis_or_not_positive_are_refused():
    with pytest.raises(ValueError, match=r"expected scales of shape .* got shape \(\)"):
        PiecewiseNormal(0.0, 1.0)
    with pytest.raises(ValueError, match="expected a positive scales"):
        PiecewiseNormal(0.0, jnp.array([1.0, 0.0]))


def test_a_layer_compiles_in_ten_seconds(compiled_anew):
    @jax.jit
    def layer(loc, scales, key):
        def loss(loc, scales):
            p, q = PiecewiseNormal(loc, scales), PiecewiseNormal(loc[0], scales[0])
            return (p.sample(key) ** 2 + kl_divergence(p, dist.Normal(0.0, 1.0)) + kl_divergence(p, q)).sum()

        return jax.grad(loss, (0, 1))(loc, scales)

    start = time.process_time()
    layer.lower(jnp.ones((100, 20)), jnp.ones((100, 20, 5)), jax.random.key(0)).compile()
    assert time.process_time() - start < 10
