"""Discretized logistics against mpmath and SciPy: masses, sums, gradients, samples, means, gray levels and colours."""

import functools

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from dgmzoo.layers.likelihoods.base import log_likelihood, parameters, sample
from dgmzoo.layers.likelihoods.discretized import DiscretizedLogistic, DiscretizedLogisticMixture
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.reparam.distributions.logistic_on_grid import LogisticOnGrid
from dgmzoo.reparam.ops import relaxed_promotion
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.vae.vae import VAE

LEVELS = 256
GRID = (np.arange(LEVELS) / 255).astype(np.float32)
# In units of the range of x: locations up to ten ranges away, scales from 1/600 of a level to 3000 ranges.
LOCS = np.concatenate([np.linspace(-10, 10, 41), np.linspace(-0.02, 1.02, 53), GRID[:3], (GRID[:3] + GRID[1:4]) / 2])
SCALES = np.exp(np.linspace(-12, 8, 81))


def exact(level, loc, scale, levels=LEVELS):
    """log P(level), computed with fifty digits."""
    with mpmath.workdps(50):
        loc, scale = mpmath.mpf(float(loc)), mpmath.mpf(float(scale))

        def below(k):  # P(x <= k)
            return 1 / (1 + mpmath.exp(-((k + mpmath.mpf(1) / 2) / (levels - 1) - loc) / scale))

        def above(k):  # P(x >= k); the difference of the two small probabilities keeps its digits
            return 1 / (1 + mpmath.exp((((k - mpmath.mpf(1) / 2) / (levels - 1)) - loc) / scale))

        if level == 0:
            return float(mpmath.log(below(0)))
        if level == levels - 1:
            return float(mpmath.log(above(level)))
        return float(
            mpmath.log(below(level) - below(level - 1) if below(level) < 0.5 else above(level) - above(level + 1))
        )


def test_masses_equal_mpmath():
    cases = [
        (level, loc, scale)
        for level in (0, 1, 2, 100, 128, 253, 254, 255)
        for loc in (-2.0, -0.1, 0.0, 0.39, 0.5, 1.0, 3.0)
        for scale in (6e-5, 1e-3, 0.05, 1.0, 100.0, 3000.0)
    ]
    level, loc, scale = (np.array(column, np.float32) for column in zip(*cases, strict=True))
    log_prob = jax.jit(lambda loc, scale, x: LogisticOnGrid(loc, scale).log_prob(x))(
        loc, scale, level / np.float32(255)
    )
    expected = [exact(int(k), m, s) for k, m, s in zip(level, loc, scale, strict=True)]
    np.testing.assert_allclose(log_prob, expected, rtol=2e-5, atol=2e-6)  # k - m has 24 bits, divided by a small scale


def test_masses_equal_mpmath_in_double_precision(x64):
    cases = [(0, 0.02, 0.01), (7, 0.03, 0.004), (254, 1.0, 1e-3), (255, 0.9, 0.2), (9, -4.0, 0.05)]
    level, loc, scale = np.array(cases).T
    log_prob = jax.jit(lambda: LogisticOnGrid(loc, scale).log_prob(level / 255))()
    np.testing.assert_allclose(log_prob, [exact(int(k), m, s) for k, m, s in cases], rtol=1e-12)


def test_probabilities_sum_to_one_over_the_whole_range():
    loc, scale = np.meshgrid(LOCS.astype(np.float32), SCALES.astype(np.float32))
    log_prob = jax.jit(lambda x: LogisticOnGrid(loc[..., None], scale[..., None]).log_prob(x))(GRID[None, None])
    assert np.isfinite(log_prob).all()
    total = np.exp(np.asarray(log_prob), dtype=np.float64).sum(-1)
    assert np.abs(total - 1).max() < 1e-6


def test_gradients_are_finite_over_the_whole_range():
    loc, scale = np.meshgrid(LOCS.astype(np.float32), SCALES.astype(np.float32))
    gradient = jax.jit(jax.grad(lambda loc, scale, x: LogisticOnGrid(loc, scale).log_prob(x).sum(), (0, 1)))
    for x in (GRID[0], GRID[1], GRID[100], GRID[254], GRID[255]):
        assert all(np.isfinite(slope).all() for slope in gradient(loc, scale, x))


def test_gradients_equal_differences(x64):
    log_prob = jax.jit(jax.value_and_grad(lambda at, x: LogisticOnGrid(*at).log_prob(x)))
    for x in (0.0, 3 / 255, 1.0):
        for at in ((0.01, 0.02), (0.9, 0.003), (0.4, 2.0)):
            _, gradient = log_prob(at, x)
            for i, step in ((0, 1e-7), (1, 1e-7)):
                moved = [[v + sign * step * (i == j) for j, v in enumerate(at)] for sign in (1, -1)]
                high, low = (float(log_prob(tuple(point), x)[0]) for point in moved)
                assert float(gradient[i]) == pytest.approx((high - low) / (2 * step), rel=1e-5)


@pytest.mark.parametrize("likelihood", [DiscretizedLogistic(), DiscretizedLogisticMixture()], ids=["one", "mixture"])
def test_any_unconstrained_parameters_give_a_distribution(likelihood):
    key = jax.random.key(0)
    unconstrained = jnp.concatenate(
        [amp * jax.random.normal(key, (500, likelihood.size)) for amp in (0.0, 0.3, 3.0, 30.0, 300.0)]
    )

    @jax.jit
    def masses(unconstrained, x):
        with relaxed_promotion():
            return likelihood.distribution(unconstrained[:, None]).log_prob(x[None])

    log_prob = masses(unconstrained, GRID)
    np.testing.assert_allclose(np.exp(np.asarray(log_prob), dtype=np.float64).sum(-1), 1, atol=1e-6)
    gradient = jax.jit(jax.grad(lambda unconstrained, x: masses(unconstrained, x).sum()))
    for level in (0, 77, 255):
        assert np.isfinite(gradient(unconstrained, GRID[level : level + 1])).all()


@functools.partial(jax.jit, static_argnums=0)
def log_prob_and_mean(likelihood, unconstrained, x):
    with relaxed_promotion():
        p = likelihood.distribution(unconstrained)
        return p.log_prob(x), p.mean


@pytest.mark.parametrize("likelihood", [DiscretizedLogistic(), DiscretizedLogisticMixture()], ids=["one", "mixture"])
def test_unconstrained_zeros_reach_every_level(likelihood):
    log_prob, mean = log_prob_and_mean(likelihood, jnp.zeros(likelihood.size), GRID)
    assert float(log_prob.min()) > -9
    assert float(mean) == pytest.approx(0.5, abs=1e-5)


def test_a_mixture_is_the_weighted_sum_of_its_components(x64):
    likelihood, levels = DiscretizedLogisticMixture(levels=16, components=3), np.array([5, 0])
    unconstrained = np.random.default_rng(0).normal(size=(2, 9))
    log_prob, _ = log_prob_and_mean(likelihood, jnp.asarray(unconstrained), levels / 15)
    for row, level, value in zip(unconstrained.reshape(2, 3, 3), levels.tolist(), log_prob, strict=True):
        weight = np.exp(row[:, 0]) / np.exp(row[:, 0]).sum()
        places = np.array([1 / 6, 1 / 2, 5 / 6]) + row[:, 1]
        scale = np.log1p(np.exp(row[:, 2] + np.log(np.expm1(1)))) / 4
        components = [np.exp(exact(level, m, s, 16)) for m, s in zip(places, scale, strict=True)]
        assert float(value) == pytest.approx(np.log(weight @ components), rel=1e-10)


def chi_square(x, log_prob, levels):
    """The p-value of samples on a grid against log-probabilities `[levels]`, with rare levels counted together."""
    counts = np.bincount(np.round(np.asarray(x) * (levels - 1)).astype(int), minlength=levels)
    expected = np.exp(np.asarray(log_prob, np.float64)) * len(x)
    rare = expected < 5
    counts, expected = (np.append(v[~rare], v[rare].sum()) for v in (counts, expected))
    counts, expected = (v[expected > 0] for v in (counts, expected))
    return stats.chisquare(counts, expected * counts.sum() / expected.sum()).pvalue


def test_samples_follow_the_masses():
    cases = [
        LogisticOnGrid(np.float32(m), np.float32(s), 16) for m, s in ((0.4, 0.05), (0.02, 0.1), (1.3, 0.3), (0.5, 9.0))
    ]
    mixture = DiscretizedLogisticMixture(levels=16, components=3).distribution(
        jnp.asarray([0.5, 0, -2, -1.0, 0.1, -3, 0.2, 0.3, 1])
    )

    @jax.jit
    def samples_masses_and_mean(p):
        with relaxed_promotion():
            return p.sample(jax.random.key(1), (50_000,)), p.log_prob(jnp.arange(16) / 15), p.mean

    for p in (*cases, mixture):
        x, log_prob, mean = jax.device_get(samples_masses_and_mean(p))
        np.testing.assert_allclose(x, np.round(x * 15) / 15, atol=1e-7)
        assert chi_square(x, log_prob, 16) > 1e-3
        assert chi_square(np.abs(x - 1 / 15), log_prob, 16) < 1e-3, "a shift by one level would show"
        np.testing.assert_allclose(mean, x.mean(), atol=0.01)


def test_the_mean_is_the_sum_over_levels():
    loc, scale = np.array([[0.3, 0.001], [0.3, 0.2], [-1.0, 0.5], [0.9, 30.0]], np.float32).T[..., None]

    @jax.jit
    def masses_and_mean():
        p = LogisticOnGrid(loc, scale)
        return p.log_prob(GRID[None]), p.mean

    log_prob, mean = jax.device_get(masses_and_mean())
    np.testing.assert_allclose(mean[:, 0], (np.exp(log_prob, dtype=np.float64) * GRID).sum(-1), atol=2e-6)


@pytest.mark.parametrize(
    "likelihood, shape",
    [(DiscretizedLogistic(), (3, 2, 1)), (DiscretizedLogisticMixture(), (2, 2, 3))],
    ids=["gray", "colour"],
)
def test_an_image_is_scored_element_by_element_under_a_decoder(likelihood, shape):
    model = functional(VAE(latent_dim=2, encoder=MLP((4,)), decoder=MLP((4,)), likelihood=likelihood, shape=shape))
    x = jnp.asarray(GRID[np.random.default_rng(0).integers(0, 256, (5, *shape))])
    variables = jax.jit(model.init)(jax.random.key(0), {"x": x})

    @jax.jit
    def evidence(mask):
        query = Query(3, given={"z": jnp.ones((3, 5, 2))})
        return model.evidence(variables, {"x": x, "mask": mask}, jax.random.key(1), query)[0]

    mask = np.random.default_rng(1).random((5, *shape)) < 0.5
    whole, observed, missing = jax.device_get([evidence(seen) for seen in (mask | True, mask, ~mask)])
    assert whole.log_likelihood.shape == (3, 5) and whole.parameters["mean"].shape == (3, 5, *shape)
    assert (observed.log_likelihood > whole.log_likelihood).all()
    np.testing.assert_allclose(observed.log_likelihood + missing.log_likelihood, whole.log_likelihood, rtol=1e-5)
    draw = jax.jit(lambda key: model.generate(variables, key, 7))(jax.random.key(2))
    assert draw.x.shape == draw.mean.shape == (7, *shape)
    likelihood.check_support(np.asarray(draw.x))


def test_channels_depend_on_one_another_in_an_autoregressive_network():
    """With two channels of four levels, the probabilities of all 16 images sum to 1, and samples follow them."""
    likelihood = DiscretizedLogisticMixture(levels=4, components=2)
    model = functional(MADE(hidden=(16,), likelihood=likelihood, shape=(1, 1, 2)))
    x = jnp.asarray(np.stack(np.meshgrid(np.arange(4), np.arange(4)), -1).reshape(16, 1, 1, 2) / 3, jnp.float32)
    variables = jax.device_get(jax.jit(model.init)(jax.random.key(0), {"x": x}))
    variables = jax.tree.map(lambda leaf: 3 * leaf + np.float32(0.1), variables)
    log_p = np.asarray(
        jax.jit(lambda: model.evidence(variables, {"x": x}, jax.random.key(0))[0])().log_likelihood[0], np.float64
    )
    assert np.exp(log_p).sum() == pytest.approx(1, abs=1e-6)
    p = np.exp(log_p).reshape(4, 4)
    assert np.abs(p - p.sum(0, keepdims=True) * p.sum(1, keepdims=True)).max() > 0.01
    samples = jax.jit(lambda key: model.generate(variables, key, 20_000))(jax.random.key(1)).x.reshape(-1, 2)
    level = np.round(np.asarray(samples) * 3).astype(int)
    counts = np.bincount(level[:, 0] + 4 * level[:, 1], minlength=16)
    assert stats.chisquare(counts, np.exp(log_p) / np.exp(log_p).sum() * 20_000).pvalue > 1e-3


def test_sixteen_bit_features_are_scored_in_float32():
    for likelihood in (DiscretizedLogistic(), DiscretizedLogisticMixture()):

        def answers(unconstrained, key, likelihood=likelihood):
            p = likelihood.distribution(unconstrained)
            return log_likelihood(p, jnp.zeros((2, 3))), parameters(p)["mean"], sample(p, key).x

        unconstrained = jnp.zeros((1, 2, 3, likelihood.size), jnp.bfloat16)
        assert {answer.dtype for answer in jax.eval_shape(answers, unconstrained, jax.random.key(0))} == {
            jnp.dtype("float32")
        }


def test_a_distribution_passes_through_transformations():
    loc, scale = jnp.asarray([0.2, 0.7]), jnp.asarray([0.1, 0.3])
    whole = LogisticOnGrid(loc, scale, 8)
    apart = jax.vmap(lambda m, s: LogisticOnGrid(m, s, 8).log_prob(3 / 7))(loc, scale)
    np.testing.assert_allclose(whole.log_prob(3 / 7), apart, rtol=1e-6)
    again = jax.jit(lambda p: p)(whole)
    assert isinstance(again, LogisticOnGrid) and again.levels == 8 and again.is_discrete
    assert isinstance(dist.Independent(whole, 1).log_prob(jnp.zeros(2)), jax.Array)


def test_data_off_the_grid_are_refused():
    for likelihood in (DiscretizedLogistic(), DiscretizedLogisticMixture()):
        likelihood.check_support(GRID)
        likelihood.check_support(np.array([0.0, 1.0], np.float32))
        for x in (
            np.linspace(0, 1, 100, dtype=np.float32),
            np.float32([-1 / 255, 0]),
            np.float32([256 / 255]),
            np.arange(256),
        ):
            with pytest.raises(ValueError, match="expected x at the 256 levels 0, 1/255"):
                likelihood.check_support(x)
    DiscretizedLogistic(levels=17).check_support(np.arange(17) / np.float32(16))


def test_nan_is_refused():
    with pytest.raises(ValueError, match="expected x at the 256 levels"):
        DiscretizedLogistic().check_support(np.array([np.nan]))


@pytest.mark.parametrize("levels", [1, 0, 2.5, True])
def test_too_few_levels_are_refused(levels):
    for build in (DiscretizedLogistic, DiscretizedLogisticMixture, lambda levels: LogisticOnGrid(0.0, 1.0, levels)):
        with pytest.raises(ValueError, match="expected levels to be an integer >= 2"):
            build(levels=levels)
    with pytest.raises(ValueError, match="expected components to be an integer >= 1, got 0"):
        DiscretizedLogisticMixture(components=0)
    with pytest.raises(ValueError, match="expected a positive scale"):
        LogisticOnGrid(0.0, -1.0)
