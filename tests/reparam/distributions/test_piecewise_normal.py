"""The piecewise normal: density, moments, divergences, samples, and which of its estimators are unbiased."""

import itertools
import time

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, optimize, stats

from dgmzoo.reparam.distributions import PiecewiseNormal
from tests.support.noise_quadrature import expected_gradient, gradient_of_expectation, noise_rule, product_rule

kl_divergence = dist.kl_divergence
RNG = np.random.default_rng(0)


def random(pieces, batch=()):
    return PiecewiseNormal(RNG.normal(size=batch), np.exp(RNG.normal(size=(*batch, pieces))))


def by_hand(loc, scales, value):
    """(log-density, CDF) piece by piece, outwards from 0, each a normal N(mean_k, scale_k^2)."""
    edges = stats.norm.ppf(np.arange(len(scales) + 1) / len(scales))
    home = np.searchsorted(edges, 0, side="right") - 1
    means = {home: loc}
    for k in range(home + 1, len(scales)):
        means[k] = means[k - 1] + (scales[k - 1] - scales[k]) * edges[k]
    for k in range(home - 1, -1, -1):
        means[k] = means[k + 1] + (scales[k + 1] - scales[k]) * edges[k + 1]
    for k, scale in enumerate(scales):
        if value < means[k] + scale * edges[k + 1]:
            return stats.norm(means[k], scale).logpdf(value), stats.norm(means[k], scale).cdf(value)


@pytest.mark.parametrize("pieces", [1, 2, 4, 5])
def test_density_cdf_and_inverse(pieces, x64):
    d = random(pieces)
    z = np.concatenate([np.linspace(-8, 8, 81), [-300.0, 300.0]])
    want = np.array([by_hand(float(d.loc), np.asarray(d.scales), v) for v in z]).T
    np.testing.assert_allclose(d.log_prob(z), want[0], rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(d.cdf(z), want[1], atol=1e-15)
    q = np.linspace(1e-6, 1 - 1e-6, 101)
    np.testing.assert_allclose(d.cdf(d.icdf(q)), q, atol=1e-15)
    np.testing.assert_array_equal(d.icdf(jnp.array([0.0, 1.0])), [-np.inf, np.inf])
    slope = jax.vmap(jax.grad(d.cdf))(jnp.asarray(z))
    np.testing.assert_allclose(slope, np.exp(want[0]), rtol=1e-10)


@pytest.mark.parametrize("pieces", [1, 2, 5])
def test_mass_mean_and_variance_equal_quadrature(pieces, x64):
    d = random(pieces)
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


NUM_NODES = 2000  # of each quadrature, so that one program serves all


@jax.jit
def log_ratio(p, q, x):
    """log p/q at p's samples by noise `x` `[N]`."""
    z = p.transform(x)
    return p.log_prob(z) - q.log_prob(z)


@jax.jit
def closed(p, q, normal):
    return [kl_divergence(*pair) for pair in ((p, q), (p, normal), (normal, p), (p, p))]


def divergence(p, q):
    """E over p's noise of the log-ratio, split wherever either density jumps; at most q's batch of ()."""
    splits = [0.0, *np.asarray(p.edges)]
    if isinstance(q, PiecewiseNormal):
        splits += [*np.asarray(p.inverse(q.breakpoints))]
    x, w = (np.asarray(each) for each in noise_rule(splits, reach=12))
    x = np.pad(x, (0, NUM_NODES - len(x)))
    return float(w @ np.asarray(log_ratio(p, q, x))[: len(w)])


@pytest.mark.parametrize("pieces, others", [(5, 5), (5, 1), (1, 5), (4, 3), (2, 2)])
def test_divergences_equal_quadrature(pieces, others, x64):
    for _ in range(5):
        p, q, normal = random(pieces), random(others), dist.Normal(RNG.normal(), np.exp(RNG.normal()))
        as_pieces = PiecewiseNormal(normal.loc, np.array([normal.scale]))
        to_q, to_normal, from_normal, to_itself = closed(p, q, normal)
        assert float(to_q) == pytest.approx(divergence(p, q), abs=1e-10)
        assert float(to_normal) == pytest.approx(divergence(p, normal), abs=1e-10)
        assert float(from_normal) == pytest.approx(divergence(as_pieces, p), abs=1e-10)
        assert float(to_itself) == pytest.approx(0, abs=1e-14)


def test_divergence_gradients_equal_differences(x64):
    def value(params):
        p = PiecewiseNormal(params[0], jnp.exp(params[1:5]))
        return kl_divergence(p, PiecewiseNormal(params[5], jnp.exp(params[6:])))

    for _ in range(3):
        params = RNG.normal(size=9)
        grad = jax.jit(jax.grad(value))(jnp.asarray(params))
        np.testing.assert_allclose(grad, gradient_of_expectation(jax.jit(value), params), rtol=1e-7, atol=1e-7)


def test_equal_scales_are_a_normal(x64):
    d, normal = PiecewiseNormal(0.3, np.full(5, 1.7)), dist.Normal(0.3, 1.7)
    z = jnp.linspace(-9, 9, 50)
    np.testing.assert_allclose(d.log_prob(z), normal.log_prob(z), atol=1e-13)
    assert float(d.mean) == pytest.approx(0.3) and float(d.variance) == pytest.approx(1.7**2)


def test_a_million_samples(x64):
    d = PiecewiseNormal(-0.4, np.array([2.0, 0.1, 0.5, 3.0, 0.7]))
    z = np.asarray(jax.jit(lambda key: d.sample(key, (1_000_000,)))(jax.random.key(0)))
    assert stats.kstest(z, lambda v: np.asarray(d.cdf(v))).pvalue > 1e-3


def everything(params, z):
    """Every value a layer asks for, as one vector, at two piecewise normals and a normal."""
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


def draws(locs, scales, points, num=4000):
    """Combinations of float32 parameters [num, 8] and values [num], drawn from the given lists."""
    one = np.random.default_rng(1)
    loc, scale = one.choice(locs, (num, 2)), one.choice(scales, (num, 6))
    params = np.concatenate([loc[:, :1], scale[:, :3], loc[:, 1:], scale[:, 3:]], -1)
    return params.astype(np.float32), one.choice(points, num).astype(np.float32)


def test_single_precision_is_finite_at_the_extremes():
    params, z = draws([-1e4, -1.0, 0, 1e-3, 1e4], [1e-6, 1e-3, 1, 1e4], [-1e4, -1e-6, 0, 1.0, 1e4])
    assert np.isfinite(jax.jit(jax.vmap(everything))(params, z)).all()
    jacobians = jax.jit(jax.vmap(jax.jacrev(everything, (0, 1))))(params, z)
    assert all(np.isfinite(j).all() for j in jacobians)


def test_single_precision_is_close_to_double():
    params, z = draws([-3.0, -0.1, 0, 0.5, 2.0], [1e-3, 0.1, 1, 1e3], [-2.0, 0.3, 50.0])
    single = np.asarray(jax.jit(jax.vmap(everything))(params, z), float)
    with jax.enable_x64(True):
        double = np.asarray(jax.jit(jax.vmap(everything))(params.astype(float), z.astype(float)))
    error = np.abs(single - double) / np.maximum(1, np.abs(double))
    print(error.max(0))
    assert error.max() < 1e-4


def test_shapes_and_transformations():
    d = PiecewiseNormal(jnp.zeros((3, 1)), jnp.ones((2, 5)))
    assert d.batch_shape == (3, 2)
    drawn = jax.eval_shape(lambda: d.sample(jax.random.key(0), (4,)))
    other = PiecewiseNormal(0.0, jnp.ones(3))
    rest = jax.eval_shape(lambda: (d.log_prob(0.0), d.mean, d.variance, kl_divergence(d, other)))
    assert drawn.shape == (4, 3, 2) and {each.shape for each in rest} == {(3, 2)}
    keys = jax.random.split(jax.random.key(0), 3)
    one = jax.jit(lambda d, key: d.log_prob(d.sample(key)))
    stacked = PiecewiseNormal(jnp.arange(3.0), jnp.exp(jax.random.normal(keys[0], (3, 5))))
    values = jax.jit(jax.vmap(one))(stacked, keys)
    singles = [PiecewiseNormal(stacked.loc[i], stacked.scales[i]) for i in range(3)]
    np.testing.assert_allclose(values, [one(d, key) for d, key in zip(singles, keys, strict=True)], rtol=1e-5)


def test_refusals():
    with pytest.raises(ValueError, match=r"expected scales of shape .* got shape \(\)"):
        PiecewiseNormal(0.0, 1.0)
    with pytest.raises(ValueError, match="expected a positive scales"):
        PiecewiseNormal(0.0, jnp.array([1.0, 0.0]))


def test_compiles_quickly(compiled_anew):
    @jax.jit
    def layer(loc, scales, key):
        def loss(loc, scales):
            p, q = PiecewiseNormal(loc, scales), PiecewiseNormal(loc[0], scales[0])
            return (p.sample(key) ** 2 + kl_divergence(p, dist.Normal(0.0, 1.0)) + kl_divergence(p, q)).sum()

        return jax.grad(loss, (0, 1))(loc, scales)

    start = time.process_time()
    layer.lower(jnp.ones((100, 20)), jnp.ones((100, 20, 5)), jax.random.key(0)).compile()
    assert time.process_time() - start < 10


# One observation, one unit: x ~ N(1.3 z - 0.2, 0.7^2). Parameters [10]: the posterior's, then the prior's.
PARAMS = np.array([0.2, -0.3, -0.8, 0.1, -0.5, 0.1, 0.3, 0.0, -0.4, 0.5])


def pair(params):
    return PiecewiseNormal(params[0], jnp.exp(params[1:5])), PiecewiseNormal(params[5], jnp.exp(params[6:]))


def decoder(z):
    return -(((0.9 - (1.3 * z - 0.2)) / 0.7) ** 2) / 2


def piecewise_posterior(params, noise):
    q, z = pair(params)[0], pair(params)[0].transform(noise)
    return decoder(z) + dist.Normal(params[5], jnp.exp(params[6])).log_prob(z) - q.log_prob(z)


def centred_prior(params, noise):
    q, p = dist.Normal(params[0], jnp.exp(params[1])), pair(params)[1]
    z = q.loc + q.scale * noise
    return decoder(z) + p.log_prob(z) - q.log_prob(z)


def centred_prior_closed(params, noise):
    q, p = dist.Normal(params[0], jnp.exp(params[1])), pair(params)[1]
    return decoder(q.loc + q.scale * noise) - kl_divergence(q, p)


def centred_both_closed(params, noise):
    q, p = pair(params)
    return decoder(q.transform(noise)) - kl_divergence(q, p)


def transported_prior(params, noise):
    """The prior's noise is the latent, with a normal posterior; its map is the decoder's first step."""
    q, p = dist.Normal(params[0], jnp.exp(params[1])), pair(params)[1]
    latent = q.loc + q.scale * noise
    return decoder(p.transform(latent)) + dist.Normal(0.0, 1.0).log_prob(latent) - q.log_prob(latent)


def gradients(objective, draws=1):
    def rule(params):
        q, p = pair(jnp.asarray(params))
        loc, scale = params[0], np.exp(params[1])
        jumps = {
            centred_prior: (p.breakpoints - loc) / scale,
            centred_prior_closed: (p.breakpoints - loc) / scale,
            transported_prior: (p.edges - loc) / scale,
        }
        x, w = noise_rule([*np.asarray(jumps.get(objective, q.edges))])
        return (x, w) if draws == 1 else product_rule(x, w)

    def weights(params, noise):
        return jax.nn.logsumexp(jax.vmap(objective, (None, 0))(params, noise))

    estimate = objective if draws == 1 else weights
    values = jax.jit(jax.vmap(estimate, (None, 0)))

    def expectation(params):
        x, w = rule(params)
        return jnp.dot(w, values(params, x))

    return expected_gradient(estimate, PARAMS, *rule(PARAMS)), gradient_of_expectation(expectation, PARAMS)


@pytest.mark.parametrize(
    "objective, draws",
    [
        (piecewise_posterior, 1),
        (piecewise_posterior, 2),
        (centred_prior_closed, 1),
        (centred_both_closed, 1),
        (transported_prior, 1),
        (transported_prior, 2),
    ],
)
def test_unbiased_estimators(objective, draws, x64):
    np.testing.assert_allclose(*gradients(objective, draws), atol=1e-8)


@pytest.mark.parametrize("draws", [1, 2])
def test_jumps_of_a_centred_prior_bias_a_sampled_ratio(draws, x64):
    follows, exact = gradients(centred_prior, draws)
    assert np.abs(follows - exact).max() > 0.02


def test_fits_two_bumps_better_than_a_normal(x64):
    bumps = dist.MixtureSameFamily(dist.Categorical(np.ones(2) / 2), dist.Normal(np.array([-1.5, 1.5]), 0.5))

    def best(pieces):
        edges = PiecewiseNormal(0.0, np.ones(pieces)).edges
        x, w = noise_rule(np.asarray(edges), reach=8)

        def divergence(params):
            d = PiecewiseNormal(params[0], jnp.exp(params[1:]))
            z = d.transform(x)
            with jax.numpy_rank_promotion("allow"):
                return jnp.dot(w, d.log_prob(z) - bumps.log_prob(z))

        fun = jax.jit(jax.value_and_grad(divergence))
        starts = [[loc, *np.full(pieces, s)] for loc, s in ((0.0, 0.4), (1.5, -0.7), (0.0, -0.3))]
        return min(optimize.minimize(fun, start, jac=True, method="BFGS").fun for start in starts)

    normal, piecewise = best(1), best(5)
    print(normal, piecewise)
    assert piecewise < normal - 0.3
