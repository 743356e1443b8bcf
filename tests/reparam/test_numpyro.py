"""The distributions inside NumPyro: variational inference, NUTS where it is right, refusals where not."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.diagnostics import effective_sample_size, gelman_rubin
from numpyro.infer import MCMC, NUTS, SVI, Trace_ELBO, TraceMeanField_ELBO
from numpyro.infer.autoguide import AutoNormal
from scipy import stats

from dgmzoo.reparam.distributions import Horseshoe, HorseshoeReparam, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.special import scaled_e1_slope
from dgmzoo.reparam.ops import relaxed_promotion

pytestmark = pytest.mark.optimized


@pytest.fixture(autouse=True)
def rules():
    with relaxed_promotion():
        yield


def chains(model, *args, warmup=500, draws=1000, num=4, target=0.9):
    kernel = NUTS(model, target_accept_prob=target, max_tree_depth=8)
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=num,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), *args)
    return {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}


def mean_and_error(x):
    """Means over chains and draws [C, N, ...] and their Monte Carlo errors."""
    return x.mean((0, 1)), x.std((0, 1)) / np.sqrt(effective_sample_size(x))


def fit(model, guide, loss, steps=1500):
    svi = SVI(model, guide, optax.adam(optax.cosine_decay_schedule(0.05, steps)), loss)
    return svi, svi.run(jax.random.key(0), steps, progress_bar=False)


def test_rectified_normal_as_a_guide():
    """The closed divergence gives the bound of the best fit: the exact posterior when nothing is observed."""
    prior = RectifiedNormal(jnp.array([-0.5, 0.3]), jnp.array([1.0, 0.6]))

    def model():
        numpyro.sample("z", prior.to_event(1))

    def guide():
        loc = numpyro.param("loc", jnp.zeros(2))
        scale = numpyro.param("scale", jnp.ones(2), constraint=dist.constraints.positive)
        numpyro.sample("z", RectifiedNormal(loc, scale).to_event(1))

    svi, result = fit(model, guide, TraceMeanField_ELBO())
    np.testing.assert_allclose(result.params["loc"], prior.loc, atol=2e-3)
    np.testing.assert_allclose(result.params["scale"], prior.scale, atol=2e-3)
    assert float(svi.evaluate(result.state)) == pytest.approx(0, abs=1e-4)


def test_piecewise_normal_as_a_guide_finds_a_piecewise_target():
    target = PiecewiseNormal(jnp.float32(0.4), jnp.array([1.5, 0.4, 0.8, 0.4, 2.0]))

    def model():
        numpyro.sample("z", target)

    def guide():
        loc = numpyro.param("loc", 0.0)
        scales = numpyro.param("scales", jnp.ones(5), constraint=PiecewiseNormal.arg_constraints["scales"])
        numpyro.sample("z", PiecewiseNormal(loc, scales))

    def divergence(loss):
        _, result = fit(model, guide, loss)
        return float(dist.kl_divergence(PiecewiseNormal(result.params["loc"], result.params["scales"]), target))

    assert divergence(TraceMeanField_ELBO()) < 1e-4
    # The target's density jumps at points that the guide's samples move across: only the closed form sees it.
    assert divergence(Trace_ELBO(num_particles=100)) > 0.05


def test_horseshoe_as_a_prior_of_a_guide():
    def model(x):
        z = numpyro.sample("z", Horseshoe(jnp.full(3, 0.3), 2.0).to_event(1))
        numpyro.sample("x", dist.Normal(z, 0.2).to_event(1), obs=x)

    def guide(x):
        loc = numpyro.param("loc", jnp.full(3, 0.1))
        scale = numpyro.param("scale", jnp.full(3, 0.1), constraint=dist.constraints.positive)
        numpyro.sample("z", dist.Normal(loc, scale).to_event(1))

    svi = SVI(model, guide, optax.adam(0.01), Trace_ELBO(num_particles=50))
    result = svi.run(jax.random.key(0), 1000, jnp.array([0.05, 0.5, 2.0]), progress_bar=False)
    loc = np.asarray(result.params["loc"])
    assert np.isfinite(result.losses).all() and loc[2] > 1.7 and abs(loc[0]) < 0.05  # signal left alone, noise shrunk


def test_nuts_refuses_the_rectified_normal():
    def model():
        numpyro.sample("z", RectifiedNormal(jnp.zeros(2), 1.0).to_event(1))

    with pytest.raises(ValueError, match="point mass at 0; sample y ~ Normal"):
        chains(model, warmup=1, draws=1, num=1)


def test_the_horseshoes_spike_is_refused_where_it_would_be_explored():
    def model():
        numpyro.sample("z", Horseshoe(jnp.full(2, 0.5), 2.0).to_event(1))

    with pytest.raises(ValueError, match=r"expand it: .*HorseshoeReparam"):
        chains(model, warmup=1, draws=1, num=1)
    guide = AutoNormal(model)
    with pytest.raises(ValueError, match=r"expand it: .*HorseshoeReparam"):
        SVI(model, guide, optax.adam(0.01), Trace_ELBO()).init(jax.random.key(0))
    support = Horseshoe(1.0).support
    assert np.asarray(support(jnp.array([-1.0, 0.0, 1e30, jnp.nan, jnp.inf]))).tolist() == [
        True,
        True,
        True,
        False,
        False,
    ]


def test_they_are_components_of_mixtures():
    """As likelihoods, where nothing is explored: the density is the components' average."""
    for component, at in (
        (RectifiedNormal(jnp.array([-1.0, 2.0]), 1.0), 0.7),
        (Horseshoe(jnp.array([0.1, 2.0])), -0.7),
    ):
        mixture = dist.MixtureSameFamily(dist.Categorical(probs=jnp.array([0.25, 0.75])), component)
        expected = np.log(np.dot([0.25, 0.75], np.exp(component.log_prob(jnp.full(2, at)))))
        assert float(mixture.log_prob(jnp.float32(at))) == pytest.approx(expected, rel=1e-5)
    half = dist.Categorical(probs=jnp.full(2, 0.5))
    with pytest.raises(ValueError, match="same support"):
        dist.MixtureGeneral(half, [Horseshoe(1.0), RectifiedNormal(0.0, 1.0)])
    general = dist.MixtureGeneral(half, [Horseshoe(0.1), dist.Normal(0.0, 2.0)], support=dist.constraints.real)
    parts = [float(each.log_prob(jnp.float32(0.3))) for each in (Horseshoe(0.1), dist.Normal(0.0, 2.0))]
    assert float(general.log_prob(jnp.float32(0.3))) == pytest.approx(np.logaddexp(*parts) - np.log(2), rel=1e-5)


def test_nuts_on_the_piecewise_normal():
    d = PiecewiseNormal(jnp.float32(-0.4), jnp.array([1.5, 0.5, 0.6, 0.5, 2.0]))
    z = chains(lambda: numpyro.sample("z", d), draws=4000)["z"]  # many: it turns back at the density's jumps
    mean, error = mean_and_error(z)
    assert abs(mean - d.mean) < 4 * error
    assert gelman_rubin(z) < 1.01
    ranks = np.asarray(d.cdf(z[:, ::40].ravel()))
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("slab", [np.inf, 1.5])
def test_reparam_keeps_the_distribution(slab):
    d = Horseshoe(jnp.float32(0.7), slab)
    model = numpyro.handlers.reparam(
        lambda: numpyro.sample("z", d.expand([2]).to_event(1)), config={"z": HorseshoeReparam()}
    )
    drawn = jax.vmap(lambda key: numpyro.handlers.seed(model, key)())(jax.random.split(jax.random.key(0), 50_000))
    assert drawn.shape == (50_000, 2)
    assert stats.kstest(np.asarray(d.cdf(drawn[:, 0])), "uniform").pvalue > 1e-3
    if np.isinf(slab):
        return  # the same code; its tails only make long trajectories
    z = chains(model)["z"]
    ranks = np.asarray(d.cdf(z[:, ::10].reshape(-1)))
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_reparam_refusals():
    def run(d, obs=None):
        model = numpyro.handlers.reparam(lambda: numpyro.sample("z", d, obs=obs), config={"z": HorseshoeReparam()})
        numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0))).get_trace()

    with pytest.raises(ValueError, match="expected a Horseshoe at site z, got Normal"):
        run(dist.Normal(0.0, 1.0))
    with pytest.raises(ValueError, match="expected a latent at site z"):
        run(Horseshoe(1.0), obs=0.3)


TAU, NOISE = 0.3, 0.5


def sparse_data():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)).astype(np.float32)
    w = np.array([2.0, -1.5, 0, 0, 0, 0, 0, 0.4])
    return x, (x @ w + NOISE * rng.normal(size=60)).astype(np.float32)


def half_cauchy_model(x, y):
    """NumPyro's own horseshoe: the scales spelled out."""
    with numpyro.plate("inputs", x.shape[1]):
        local = numpyro.sample("local", dist.HalfCauchy(1.0))
        noise = numpyro.sample("noise", dist.Normal(0.0, 1.0))
    w = numpyro.deterministic("w", TAU * local * noise)
    numpyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


def horseshoe_model(x, y):
    w = numpyro.sample("w", Horseshoe(jnp.full(x.shape[1], TAU)).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


def test_sparse_regression_and_the_density_by_steins_identity():
    x, y = sparse_data()
    own = chains(half_cauchy_model, x, y, target=0.95)["w"]
    expanded = numpyro.handlers.reparam(horseshoe_model, config={"w": HorseshoeReparam()})
    ours = chains(expanded, x, y, target=0.95)["w"]
    assert np.max(gelman_rubin(ours)) < 1.01
    (mean, error), (own_mean, own_error) = mean_and_error(ours), mean_and_error(own)
    assert (np.abs(mean - own_mean) < 4 * np.hypot(error, own_error)).all()

    # Under the posterior E[w dlog p(w | y)/dw + 1] = 0, where w dlog p(w)/dw = 2 k of our marginal density.
    residual = (y - own @ x.T) / NOISE**2

    def stein(tau):
        slope = np.asarray(scaled_e1_slope(jnp.asarray(2 * np.log(np.abs(own) / tau) - np.log(2))))
        mean, error = mean_and_error(own * (residual @ x) + 2 * slope + 1)
        return np.abs(mean / error).max()

    print(stein(TAU), stein(1.5 * TAU))
    assert stein(TAU) < 4 < stein(1.5 * TAU)
