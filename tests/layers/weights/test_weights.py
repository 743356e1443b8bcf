"""Weights with a posterior and a prior: their KL by quadrature, and the moments of their noise."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, stats

from dgmzoo.layers.weights.base import PiecewiseWeights, RectifiedWeights, VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.layers.weights.linear import VariationalConv, VariationalDense
from dgmzoo.model.random_weights import weights_drawn
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PiecewiseNormal
from tests.support.unconstrained_weights import KEY, unconstrained_of


def softplus(unconstrained):
    return np.logaddexp(0, unconstrained + np.log(np.expm1(1)))


# KL


def normal_kl(loc, scale, other_loc=0.0, other_scale=1.0):
    q, p = stats.norm(loc, scale), stats.norm(other_loc, other_scale)
    return integrate.quad(lambda w: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), loc - 12 * scale, loc + 12 * scale)[0]


@pytest.mark.parametrize("learned_prior", [True, pytest.param(False, marks=pytest.mark.thorough)])
def test_kl_of_normal_weights_is_that_of_quadrature(x64, learned_prior):
    kind = VariationalWeights(learned_prior=learned_prior)
    unconstrained = unconstrained_of(kind, (2, 3))
    kernel = np.asarray(unconstrained["kernel"]).reshape(-1, 2)
    prior = np.asarray(unconstrained["prior"]).ravel() if learned_prior else (0.0, 0.0)
    expected = sum(normal_kl(loc, softplus(scale), prior[0], softplus(prior[1])) for loc, scale in kernel)
    np.testing.assert_allclose(jax.jit(kind.kl)(unconstrained, KEY), expected, rtol=1e-8)


def test_kl_of_rectified_weights_counts_the_point_mass(x64):
    kind = RectifiedWeights()
    unconstrained = unconstrained_of(kind, (2, 2))
    (m, s), expected = (
        (np.asarray(unconstrained["prior"]).ravel()[0], softplus(np.asarray(unconstrained["prior"]).ravel()[1])),
        0.0,
    )
    for loc, scale in np.asarray(unconstrained["kernel"]).reshape(-1, 2):
        q, p = stats.norm(loc, softplus(scale)), stats.norm(m, s)
        above = integrate.quad(lambda w, q=q, p=p: q.pdf(w) * (q.logpdf(w) - p.logpdf(w)), 0, 12, epsabs=1e-11)[0]
        expected += q.cdf(0) * (q.logcdf(0) - p.logcdf(0)) + above
    np.testing.assert_allclose(jax.jit(kind.kl)(unconstrained, KEY), expected, rtol=1e-8)


@pytest.mark.thorough
@pytest.mark.parametrize("prior", [PiecewiseNormal, pytest.param(dist.Normal, marks=pytest.mark.thorough)])
def test_kl_of_piecewise_weights_is_that_of_quadrature(x64, prior):
    kind = PiecewiseWeights(prior=prior, pieces=3)
    unconstrained = unconstrained_of(kind, (1, 2))
    expected = 0.0
    for row in np.asarray(unconstrained["kernel"]).reshape(-1, 4):
        q = PiecewiseNormal(row[0], softplus(row[1:]))
        start = np.asarray(unconstrained["prior"]).ravel()
        p = dist.Normal(start[0], softplus(start[1])) if prior is dist.Normal else None
        p = p or PiecewiseNormal(start[0], softplus(start[1:]))
        noise, width = np.linspace(-9, 9, 200_001, retstep=True)
        w = q.transform(jnp.asarray(noise))
        expected += float((stats.norm.pdf(noise) * (q.log_prob(w) - p.log_prob(w))).sum() * width)
    np.testing.assert_allclose(
        jax.jit(kind.kl)(unconstrained, KEY), expected, rtol=1e-4
    )  # the density jumps between two nodes


def test_kl_of_horseshoe_weights_is_that_of_each_of_its_variables(x64):
    kind = HorseshoeWeights(tau=0.3)
    unconstrained = unconstrained_of(kind, (2, 3))
    unit, local, tau = (np.asarray(unconstrained[name]).reshape(-1, 2) for name in ("kernel", "local", "tau"))

    def log_scale_kl(loc, scale, width):  # of y = log s against s ~ half-Cauchy(width)
        q = stats.norm(loc, scale)

        def term(y):
            p = stats.halfcauchy(scale=width).logpdf(np.exp(y)) + y
            return q.pdf(y) * (q.logpdf(y) - p)

        return integrate.quad(term, loc - 12 * scale, loc + 12 * scale, epsabs=1e-11)[0]

    expected = sum(normal_kl(loc, softplus(scale)) for loc, scale in unit)
    expected += sum(log_scale_kl(loc, softplus(scale), 1.0) for loc, scale in local)
    expected += sum(log_scale_kl(loc, softplus(scale), 0.3) for loc, scale in tau)
    np.testing.assert_allclose(jax.jit(kind.kl)(unconstrained, KEY), expected, rtol=1e-8)


def test_kl_without_closed_form_is_right_on_average():
    kind = VariationalWeights(dist.Laplace, dist.StudentT)
    unconstrained = {name: leaf.astype(jnp.float32) for name, leaf in unconstrained_of(kind, (2, 2)).items()}
    prior = families.from_unconstrained(dist.StudentT, unconstrained["prior"])
    p, expected = stats.t(*(float(getattr(prior, name).item()) for name in ("df", "loc", "scale"))), 0.0
    for m, s in np.asarray(unconstrained["kernel"]).reshape(-1, 2):
        q = stats.laplace(m, softplus(s))
        term = lambda w, q=q: q.pdf(w) * (q.logpdf(w) - p.logpdf(w))  # noqa: E731
        expected += integrate.quad(term, -40, m)[0] + integrate.quad(term, m, 40)[0]
    estimates = np.asarray(jax.jit(jax.vmap(lambda key: kind.kl(unconstrained, key)))(jax.random.split(KEY, 20_000)))
    assert abs(estimates.mean() - expected) < 4 * estimates.std() / np.sqrt(len(estimates))


# Noise


def outputs(layer, variables, x, own, num=20_000):
    """Outputs `[num, B, ...]` of a layer under many keys; `own`: each example may have weights of its own."""

    def output(key):
        with weights_drawn(key, len(x) if own else None):
            return layer.apply(variables, x)

    return np.asarray(jax.jit(jax.vmap(output))(jax.random.split(jax.random.key(8), num)))


def assert_within_error(estimate, expected, error):
    assert (np.abs(estimate - expected) < 4.5 * error).all(), (estimate, expected, error)


@pytest.mark.parametrize(
    "kind, estimator",
    [
        (VariationalWeights, "flipout"),
        (HorseshoeWeights, "local"),
        pytest.param(VariationalWeights, "local", marks=pytest.mark.thorough),
        pytest.param(VariationalWeights, "shared", marks=pytest.mark.thorough),
        pytest.param(HorseshoeWeights, "flipout", marks=pytest.mark.thorough),
        pytest.param(HorseshoeWeights, "shared", marks=pytest.mark.thorough),
    ],
)
def test_every_estimator_has_the_mean_and_variance_of_drawn_weights(kind, estimator):
    kind = kind(estimator=estimator)
    layer, x = VariationalDense(2, kind), jnp.asarray([[0.5, -1.0, 2.0], [1.0, 0.3, -0.2]])
    unconstrained = {name: leaf.astype(jnp.float32) for name, leaf in unconstrained_of(kind, (3, 2)).items()}
    out = outputs(layer, {"params": {**unconstrained, "bias": jnp.asarray([0.2, -0.1])}}, x, own=True)
    keys = jax.random.split(jax.random.key(1), 100_000)
    mean, second = kind.mean(unconstrained), 0.0
    if isinstance(kind, VariationalWeights):
        second = jnp.square(kind.posterior_given(unconstrained, KEY).scale)
        variance = jnp.square(x) @ second
    else:  # scales are shared: the variance of a sum over inputs has their covariance in it
        draw = jax.jit(jax.vmap(lambda pair: kind.posterior_given(unconstrained, pair[0]).sample(pair[1])))
        drawn = draw(jax.vmap(jax.random.split)(keys))
        variance = jnp.einsum("bi,kij->kbj", x, drawn).var(0)
    num = len(out)
    assert_within_error(out.mean(0), x @ mean + jnp.asarray([[0.2, -0.1]]), out.std(0) / np.sqrt(num))
    spread = np.square(out - out.mean(0)).std(0) / np.sqrt(num)
    assert_within_error(out.var(0), variance, spread * np.sqrt(1 + num / len(keys)))
    covariance = np.mean((out[:, 0, 0] - out[:, 0, 0].mean()) * (out[:, 1, 0] - out[:, 1, 0].mean()))
    if estimator == "shared" and isinstance(kind, VariationalWeights):
        assert abs(covariance - float((x[0] * x[1] * second[:, 0]).sum())) < 0.1
    elif isinstance(kind, VariationalWeights):  # of two examples
        assert abs(covariance) < 4.5 * np.sqrt(variance[0, 0] * variance[1, 0] / num)


def applied(layer, params, x, key):
    """The output of a layer with the weights of a key, or with their means."""

    @jax.jit
    def apply(params, key):
        with weights_drawn(key):
            return layer.apply({"params": params}, x)

    return apply(params, key)


@pytest.mark.parametrize(
    "kind",
    [
        VariationalWeights(),
        pytest.param(HorseshoeWeights(), marks=pytest.mark.thorough),
        pytest.param(PiecewiseWeights(), marks=pytest.mark.thorough),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_a_convolution_with_a_window_of_one_is_a_dense_layer_at_every_place(kind):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 4)), jnp.float32)
    conv, dense = VariationalConv(5, kind, kernel_size=(1, 1)), VariationalDense(5, kind)
    params = jax.jit(dense.init)(KEY, x)["params"]
    stretched = {**params, "kernel": params["kernel"][None, None]}
    if "prior" in params:
        stretched["prior"] = params["prior"][None, None]
    for key in (None, jax.random.key(5)):
        np.testing.assert_allclose(applied(conv, stretched, x, key), applied(dense, params, x, key), atol=1e-5)
    kl = jax.jit(kind.kl)
    np.testing.assert_allclose(kl(stretched, KEY), kl(params, KEY), rtol=1e-5)


def test_a_window_as_large_as_the_image_is_a_dense_layer():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 4, 3)), jnp.float32)
    conv, dense = VariationalConv(2, kernel_size=(2, 4), padding="VALID"), VariationalDense(2)
    params = jax.jit(conv.init)(KEY, x)["params"]
    flat = {**params, "kernel": params["kernel"].reshape(24, 2, 2), "prior": params["prior"][0, 0]}
    of_conv = applied(conv, params, x, jax.random.key(5))
    of_dense = applied(dense, flat, x.reshape(3, 24), jax.random.key(5))
    assert of_conv.shape == (3, 1, 1, 2)
    np.testing.assert_allclose(of_conv[:, 0, 0], of_dense, atol=1e-5)


def test_flipout_gives_a_convolution_other_signs_for_each_example():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 3, 3, 2)), jnp.float32)
    layer = VariationalConv(2, kernel_size=(2, 2))
    unconstrained = {
        name: leaf.astype(jnp.float32) for name, leaf in unconstrained_of(layer.weights, (2, 2, 2, 2)).items()
    }
    variables = {"params": {**unconstrained, "bias": jnp.zeros(2)}}
    own, shared = (outputs(layer, variables, x, own=own, num=10_000) for own in (True, False))
    scale = np.sqrt(shared.var(0) / len(own))
    assert_within_error(own.mean(0), shared.mean(0), np.sqrt(2) * scale)
    np.testing.assert_allclose(own.var(0), shared.var(0), rtol=0.1)

    def across(out, a, b):
        return np.corrcoef(out[:, *a], out[:, *b])[0, 1]

    neighbours = ((0, 0, 0, 0), (0, 0, 1, 0))  # places of one example share their weights, and so their noise
    assert abs(across(own, *neighbours) - across(shared, *neighbours)) < 0.06
    examples = ((0, 0, 0, 0), (1, 0, 0, 0))
    assert abs(across(own, *examples)) < 0.05 < abs(across(shared, *examples))
    with pytest.raises(ValueError, match="flipout, shared or auto"):
        outputs(layer.clone(weights=VariationalWeights(estimator="local")), variables, x, own=True, num=1)


def test_horseshoe_scales_belong_to_inputs_and_stay_below_the_slab():
    kind = HorseshoeWeights(tau=5.0, slab=0.7)
    unconstrained = kind.parameters((4, 3), nn.initializers.ones)
    unconstrained = {name: init(KEY) for name, init in unconstrained.items()}
    unconstrained["local"] = jnp.stack([jnp.linspace(-4, 4, 4), jnp.full(4, -2.0)], -1)
    locs = jax.jit(jax.vmap(lambda key: kind.posterior_given(unconstrained, key).loc))
    drawn = locs(jax.random.split(KEY, 50_000))  # [S, 4, 3]
    np.testing.assert_array_equal(drawn, np.repeat(drawn[..., :1], 3, -1))
    assert (drawn.max() <= 0.7 + 1e-5) and (np.diff(drawn.mean(0)[:, 0]) > 0).all() and drawn[:, -1].mean() > 0.65
    assert_within_error(
        drawn.mean(0)[:, 0], kind.mean_scales(unconstrained), drawn.std(0)[:, 0] / np.sqrt(50_000) + 1e-6
    )
    assert np.corrcoef(np.log(drawn[:, 0, 0]), np.log(drawn[:, 1, 0]))[0, 1] > 0.5, "tau is shared"
    unbounded = HorseshoeWeights(tau=5.0, slab=None)
    log_scale = unconstrained["local"][:, 0] + unconstrained["tau"][0]
    variance = softplus(np.asarray(unconstrained["local"][:, 1])) ** 2 + softplus(float(unconstrained["tau"][1])) ** 2
    np.testing.assert_allclose(unbounded.mean_scales(unconstrained), np.exp(log_scale + variance / 2), rtol=1e-4)
