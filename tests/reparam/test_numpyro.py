"""The distributions inside NumPyro models: guides, priors, mixtures, NUTS, and refusals with a reason."""

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
def relaxed():
    """NumPyro's inference runs under relaxed promotion."""
    with relaxed_promotion():
        yield


def run_nuts(model, *args, warmup=500, num_samples=1000, num_chains=4, target=0.9):
    """Samples of every site, [chains, samples, ...]."""
    kernel = NUTS(model, target_accept_prob=target, max_tree_depth=8)
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.run(jax.random.key(0), *args)
    return {name: np.asarray(x) for name, x in mcmc.get_samples(group_by_chain=True).items()}


def mean_and_error(x):
    """Means over chains and samples [C, N, ...] and their Monte Carlo errors."""
    return x.mean((0, 1)), x.std((0, 1)) / np.sqrt(effective_sample_size(x))


def fit(model, guide, loss, steps=1500):
    svi = SVI(model, guide, optax.adam(optax.cosine_decay_schedule(0.05, steps)), loss)
    return svi, svi.run(jax.random.key(0), steps, progress_bar=False)


@pytest.mark.thorough
def test_a_rectified_guide_with_the_closed_divergence_finds_the_exact_posterior():
    """Without observations the posterior is the prior."""
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


TARGET = PiecewiseNormal(np.float32(0.4), np.float32([1.5, 0.4, 0.8, 0.4, 2.0]))


def divergence_of_a_piecewise_guide(loss) -> float:
    """KL(guide || target) after a fit with the given loss."""

    def model():
        numpyro.sample("z", TARGET)

    def guide():
        loc = numpyro.param("loc", 0.0)
        scales = numpyro.param("scales", jnp.ones(5), constraint=PiecewiseNormal.arg_constraints["scales"])
        numpyro.sample("z", PiecewiseNormal(loc, scales))

    _, result = fit(model, guide, loss)
    return float(dist.kl_divergence(PiecewiseNormal(result.params["loc"], result.params["scales"]), TARGET))


@pytest.mark.thorough
def test_a_piecewise_guide_with_the_closed_divergence_finds_a_piecewise_target():
    assert divergence_of_a_piecewise_guide(TraceMeanField_ELBO()) < 1e-4


@pytest.mark.thorough
def test_a_piecewise_guide_with_a_sampled_divergence_is_biased():
    """The density of the target jumps at points that the guide's samples move across."""
    assert divergence_of_a_piecewise_guide(Trace_ELBO(num_particles=100)) > 0.05


@pytest.mark.thorough
def test_a_horseshoe_prior_shrinks_noise_and_keeps_a_signal():
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
    assert np.isfinite(result.losses).all() and loc[2] > 1.7 and abs(loc[0]) < 0.05


def test_nuts_refuses_the_rectified_normal():
    def model():
        numpyro.sample("z", RectifiedNormal(jnp.zeros(2), 1.0).to_event(1))

    with pytest.raises(ValueError, match="point mass at 0; sample y ~ Normal"):
        run_nuts(model, warmup=1, num_samples=1, num_chains=1)


def test_nuts_and_automatic_guides_refuse_the_horseshoe():
    def model():
        numpyro.sample("z", Horseshoe(jnp.full(2, 0.5), 2.0).to_event(1))

    with pytest.raises(ValueError, match=r"expand it: .*HorseshoeReparam"):
        run_nuts(model, warmup=1, num_samples=1, num_chains=1)
    guide = AutoNormal(model)
    with pytest.raises(ValueError, match=r"expand it: .*HorseshoeReparam"):
        SVI(model, guide, optax.adam(0.01), Trace_ELBO()).init(jax.random.key(0))


def test_the_support_of_the_horseshoe_is_the_real_line():
    points = jnp.array([-1.0, 0.0, 1e30, jnp.nan, jnp.inf])
    assert np.asarray(Horseshoe(1.0).support(points)).tolist() == [True, True, True, False, False]


HALF = dist.Categorical(probs=np.float32([0.5, 0.5]))


@pytest.mark.parametrize(
    "component, z",
    [(RectifiedNormal(np.float32([-1.0, 2.0]), 1.0), 0.7), (Horseshoe(np.float32([0.1, 2.0])), -0.7)],
    ids=["rectified", "horseshoe"],
)
def test_a_mixture_of_one_family_averages_the_densities(component, z):
    weights = np.float32([0.25, 0.75])
    mixture = dist.MixtureSameFamily(dist.Categorical(probs=weights), component)
    expected = np.log(np.dot(weights, np.exp(component.log_prob(jnp.full(2, z)))))
    assert float(jax.jit(mixture.log_prob)(z)) == pytest.approx(expected, rel=1e-5)


def test_a_mixture_with_another_family_needs_an_explicit_support():
    with pytest.raises(ValueError, match="same support"):
        dist.MixtureGeneral(HALF, [Horseshoe(1.0), RectifiedNormal(0.0, 1.0)])
    components = [Horseshoe(0.1), dist.Normal(0.0, 2.0)]
    mixture = dist.MixtureGeneral(HALF, components, support=dist.constraints.real)
    log_probs = [float(component.log_prob(jnp.float32(0.3))) for component in components]
    expected = np.logaddexp(*log_probs) - np.log(2)
    assert float(jax.jit(mixture.log_prob)(0.3)) == pytest.approx(expected, rel=1e-5)


@pytest.mark.thorough
def test_nuts_samples_a_piecewise_normal():
    d = PiecewiseNormal(jnp.float32(-0.4), jnp.array([1.5, 0.5, 0.6, 0.5, 2.0]))
    # Trajectories end at jumps of the density, so many samples are needed.
    z = run_nuts(lambda: numpyro.sample("z", d), num_samples=4000)["z"]
    mean, error = mean_and_error(z)
    assert abs(mean - d.mean) < 4 * error
    assert gelman_rubin(z) < 1.01
    ranks = np.asarray(d.cdf(z[:, ::40].ravel()))
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def expanded_horseshoe(slab):
    """Horseshoe and a model of two of them, expanded by the reparameterizer."""
    d = Horseshoe(jnp.float32(0.7), slab)
    model = numpyro.handlers.reparam(
        lambda: numpyro.sample("z", d.expand([2]).to_event(1)), config={"z": HorseshoeReparam()}
    )
    return d, model


@pytest.mark.parametrize("slab", [np.inf, 1.5])
def test_the_expanded_horseshoe_has_the_same_distribution(slab):
    d, model = expanded_horseshoe(slab)
    sample = jax.jit(jax.vmap(lambda key: numpyro.handlers.seed(model, key)()))
    z = sample(jax.random.split(jax.random.key(0), 50_000))
    assert z.shape == (50_000, 2)
    assert stats.kstest(np.asarray(jax.jit(d.cdf)(z[:, 0])), "uniform").pvalue > 1e-3


@pytest.mark.thorough
def test_nuts_samples_the_expanded_horseshoe():
    """With a slab; without one the code is the same, but heavy tails make trajectories long."""
    d, model = expanded_horseshoe(1.5)
    z = run_nuts(model)["z"]
    ranks = np.asarray(jax.jit(d.cdf)(z[:, ::10].reshape(-1)))
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


def test_the_reparameterizer_refuses_other_distributions_and_observations():
    def run(d, obs=None):
        model = numpyro.handlers.reparam(lambda: numpyro.sample("z", d, obs=obs), config={"z": HorseshoeReparam()})
        numpyro.handlers.trace(numpyro.handlers.seed(model, jax.random.key(0))).get_trace()

    with pytest.raises(ValueError, match="expected a Horseshoe at site z, got Normal"):
        run(dist.Normal(0.0, 1.0))
    with pytest.raises(ValueError, match="expected a latent at site z"):
        run(Horseshoe(1.0), obs=0.3)


TAU, NOISE = 0.3, 0.5


def sparse_data():
    """Inputs [60, 8] and outputs [60] of a linear model with three weights that are not zero."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 8)).astype(np.float32)
    w = np.array([2.0, -1.5, 0, 0, 0, 0, 0, 0.4])
    return x, (x @ w + NOISE * rng.normal(size=60)).astype(np.float32)


def half_cauchy_model(x, y):
    """The horseshoe from NumPyro's own half-Cauchy and normal distributions."""
    with numpyro.plate("inputs", x.shape[1]):
        local = numpyro.sample("local", dist.HalfCauchy(1.0))
        noise = numpyro.sample("noise", dist.Normal(0.0, 1.0))
    w = numpyro.deterministic("w", TAU * local * noise)
    numpyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


def horseshoe_model(x, y):
    w = numpyro.sample("w", Horseshoe(jnp.full(x.shape[1], TAU)).to_event(1))
    numpyro.sample("y", dist.Normal(x @ w, NOISE).to_event(1), obs=y)


@pytest.fixture(scope="module")
def half_cauchy_samples():
    """Posterior samples of the weights [chains, samples, 8] under NumPyro's own horseshoe."""
    with relaxed_promotion():
        return run_nuts(half_cauchy_model, *sparse_data(), target=0.95)["w"]


@pytest.mark.thorough
def test_the_expanded_horseshoe_gives_the_posterior_of_numpyros_half_cauchy_model(half_cauchy_samples):
    expanded = numpyro.handlers.reparam(horseshoe_model, config={"w": HorseshoeReparam()})
    samples = run_nuts(expanded, *sparse_data(), target=0.95)["w"]
    assert np.max(gelman_rubin(samples)) < 1.01
    mean, error = mean_and_error(samples)
    reference, reference_error = mean_and_error(half_cauchy_samples)
    assert (np.abs(mean - reference) < 4 * np.hypot(error, reference_error)).all()


@pytest.mark.thorough
def test_the_density_fulfils_steins_identity_under_the_half_cauchy_posterior(half_cauchy_samples):
    """E[w dlog p(w | y)/dw + 1] = 0 under the posterior, where w dlog p(w)/dw = 2 k with the slope k of the density."""
    (x, y), w = sparse_data(), half_cauchy_samples
    residual = (y - w @ x.T) / NOISE**2

    def max_score(tau):
        slope = np.asarray(scaled_e1_slope(jnp.asarray(2 * np.log(np.abs(w) / tau) - np.log(2))))
        mean, error = mean_and_error(w * (residual @ x) + 2 * slope + 1)
        return np.abs(mean / error).max()

    assert max_score(TAU) < 4 < max_score(1.5 * TAU)
