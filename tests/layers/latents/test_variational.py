"""`VariationalLayer`: densities and divergences against SciPy and quadrature, samples, gradients, masks and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import integrate, special, stats

from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.priors.base import LearnedPrior
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.vae import VAE

SCIPY = {
    dist.Normal: lambda q: stats.norm(q["loc"], q["scale"]),
    dist.Laplace: lambda q: stats.laplace(q["loc"], q["scale"]),
    dist.LogNormal: lambda q: stats.lognorm(q["scale"], scale=np.exp(q["loc"])),
    dist.Gamma: lambda q: stats.gamma(q["concentration"], scale=1 / q["rate"]),
}
FEATURES = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
NUM = 2000


def answer(layer, features=FEATURES, query=None, above=None):
    """The answer of a layer whose parameters are normal with scale 0.4, and these parameters."""
    query = query or Query(NUM)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(lambda features: layer.init(rngs, features, query, "z", above), features)
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.4, leaf.shape), leaf.dtype), shapes)
    rngs = {"sample": jax.random.key(2)}
    apply = jax.jit(lambda variables, features: layer.apply(variables, features, query, "z", above, rngs=rngs))
    return apply(variables, features), variables["params"]


@pytest.mark.parametrize("family", SCIPY, ids=lambda family: family.__name__)
def test_densities_samples_and_divergence_are_those_of_the_family(family):
    latent, params = answer(VariationalLayer(units=2, posterior=family, prior=LearnedPrior(family)))
    prior, _ = _prior(family, params)
    z = np.asarray(latent.sample, np.float64)
    q = SCIPY[family](latent.q)
    np.testing.assert_allclose(latent.log_q, q.logpdf(z).sum(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(latent.log_p, prior.logpdf(z).sum(-1), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(latent.q["mean"], q.mean(), rtol=1e-5)
    np.testing.assert_array_equal(latent.value, latent.sample)
    kl = np.asarray(latent.kl).mean(0)  # closed, or the samples' mean
    error = np.asarray(latent.kl).std(0) / np.sqrt(len(latent.kl)) if len(latent.kl) > 1 else 0
    for b in range(3):
        for u in range(2):
            parameters = {name: np.asarray(leaf, np.float64)[0, b, u] for name, leaf in latent.q.items()}
            one, p = SCIPY[family](parameters), _prior(family, params, u)[0]
            assert stats.kstest(z[:, b, u], one.cdf).pvalue > 1e-4
            exact, _ = integrate.quad(
                lambda t, o=one, p=p: o.pdf(t) * (o.logpdf(t) - p.logpdf(t)),
                *(float(one.ppf(share)) for share in (1e-14, 1 - 1e-14)),
                limit=200,
                points=[float(one.median())],
            )
            assert kl[b, u] == pytest.approx(exact, abs=1e-4 + 4 * np.broadcast_to(error, kl.shape)[b, u])


def _prior(family, params, unit=slice(None)):
    """The learned prior from its unconstrained parameters: a softplus where positive, shifted so that 0 gives 1.

    A concentration of a gamma distribution is at least 1/4.
    """
    unconstrained = np.asarray(params["p"]["free"]["unconstrained"], np.float64)[unit]
    values = []
    for i, name in enumerate(family.arg_constraints):
        least = 0.25 if family is dist.Gamma and name == "concentration" else 0.0
        positive = least + np.logaddexp(0, unconstrained[..., i] + np.log(np.expm1(1 - least)))
        values.append(unconstrained[..., i] if name == "loc" else positive)
    named = dict(zip(family.arg_constraints, values, strict=True))
    return SCIPY[family](named), named


def test_the_default_prior_is_the_standard_member_of_its_family():
    latent, _ = answer(VariationalLayer(units=2))
    np.testing.assert_allclose(latent.log_p, stats.norm.logpdf(latent.sample).sum(-1), rtol=1e-4, atol=1e-4)
    kl = 0.5 * (latent.q["loc"] ** 2 + latent.q["scale"] ** 2 - 1) - np.log(latent.q["scale"])
    np.testing.assert_allclose(latent.kl, kl, rtol=1e-3, atol=1e-5)


def test_bits_have_the_probabilities_and_divergence_of_bernoulli_variables():
    bits = dist.BernoulliLogits
    latent, params = answer(VariationalLayer(units=2, posterior=bits, prior=LearnedPrior(bits)))
    q, p = (
        special.expit(np.asarray(latent.q["logits"][0])),
        special.expit(np.asarray(params["p"]["free"]["unconstrained"])[:, 0]),
    )
    z = np.asarray(latent.sample)
    assert set(np.unique(z)) == {0.0, 1.0}
    np.testing.assert_allclose(latent.log_q, stats.bernoulli.logpmf(z, q).sum(-1), rtol=1e-4)
    np.testing.assert_allclose(latent.log_p, stats.bernoulli.logpmf(z, p).sum(-1), rtol=1e-4)
    exact = q * np.log(q / p) + (1 - q) * np.log((1 - q) / (1 - p))
    assert np.abs(np.asarray(latent.kl).mean(0) - exact).max() < 0.05
    assert (np.abs(z.mean(0) - q) < 4 * np.sqrt(q * (1 - q) / NUM)).all()


def test_the_prior_depends_on_each_sample_of_the_layer_above():
    """`p(z | above)` has parameters for each sample of the layer above, and so has the divergence."""
    above = jnp.asarray(np.random.default_rng(1).normal(size=(5, 3, 6)), jnp.float32)
    latent, params = answer(VariationalLayer(units=2), query=Query(5), above=above)
    unconstrained = np.asarray(above) @ np.asarray(params["p"]["head"]["kernel"]) + np.asarray(
        params["p"]["head"]["bias"]
    )
    unconstrained = unconstrained.astype(np.float64).reshape(5, 3, 2, 2)
    loc, scale = unconstrained[..., 0], np.logaddexp(0, unconstrained[..., 1] + np.log(np.expm1(1)))
    np.testing.assert_allclose(latent.log_p, stats.norm.logpdf(latent.sample, loc, scale).sum(-1), rtol=1e-3, atol=1e-4)
    mean, sd = np.asarray(latent.q["loc"], np.float64), np.asarray(latent.q["scale"], np.float64)
    kl = np.log(scale / sd) + (sd**2 + (mean - loc) ** 2) / (2 * scale**2) - 0.5
    assert latent.kl.shape == (5, 3, 2)
    np.testing.assert_allclose(latent.kl, kl, rtol=1e-3, atol=1e-5)


def test_gradients_pass_through_the_samples_of_reparameterized_families():
    """d E[z^2] / d mean is 2 mean for a normal, and zero for bits."""

    def moment(params, layer):
        rngs = {"sample": jax.random.key(2)}
        latent = layer.apply({"params": params}, FEATURES, Query(20_000), "z", rngs=rngs)
        return jnp.square(latent.sample).mean(0).sum(), latent

    for layer, factor in (
        (VariationalLayer(units=1), 2.0),
        (VariationalLayer(units=1, posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits), 0.0),
    ):
        _, params = answer(layer)
        gradient, latent = jax.jit(jax.grad(moment, has_aux=True), static_argnums=1)(params, layer)
        expected = factor * float(latent.q["mean"].sum())
        assert gradient["q"]["head"]["bias"][0] == pytest.approx(expected, abs=0.05 * factor)


def test_features_may_differ_between_samples():
    features = jnp.broadcast_to(FEATURES[None], (5, 3, 4))
    latent, _ = answer(VariationalLayer(units=2), features, Query(5))
    assert latent.sample.shape == (5, 3, 2) and latent.q["loc"].shape == (5, 3, 2)
    with pytest.raises(ValueError, match="expected parameters"):
        answer(VariationalLayer(units=2), features, Query(7))


def test_bad_layers_are_refused():
    with pytest.raises(ValueError, match="both discrete or both continuous"):
        VariationalLayer(units=2, posterior=dist.BernoulliLogits)
    with pytest.raises(ValueError, match="one number per parameter"):
        VariationalLayer(units=2, posterior=dist.MultivariateNormal, prior=dist.MultivariateNormal)
    with pytest.raises(ValueError, match="at least 1 unit, got 0"):
        answer(VariationalLayer())
    with pytest.raises(ValueError, match=r"expected given 'z' of shape \(2, 3, 2\), got \(3, 2\)"):
        answer(VariationalLayer(units=2), query=Query(2, given={"z": jnp.zeros((3, 2))}))


@pytest.mark.parametrize(
    "module",
    [
        VAE(latent_dim=2, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2,)),
        SigmoidBeliefNetwork(latent_dims=(3,), hidden=(3,), shape=(2,)),
    ],
    ids=lambda module: type(module).__name__,
)
def test_missing_elements_do_not_reach_the_network(module):
    x = jnp.array([[1.0, jnp.nan], [0.0, 1.0]])
    mask = jnp.array([[True, False], [True, True]])
    model = functional(module)
    key = jax.random.key(0)
    variables, evidence = jax.jit(model.init)(key, {"x": jnp.zeros((2, 2)), "mask": mask}), jax.jit(model.evidence)
    with_nan, _ = evidence(variables, {"x": x, "mask": mask}, key)
    with_number, _ = evidence(variables, {"x": x.at[0, 1].set(7.0), "mask": mask}, key)
    assert jnp.isfinite(with_nan.log_weight).all()
    np.testing.assert_array_equal(with_nan.log_weight, with_number.log_weight)


def test_an_autoregressive_network_takes_no_mask():
    made = functional(MADE(hidden=(3,), shape=(2,)))
    with pytest.raises(ValueError, match="without a mask"):
        made.init(jax.random.key(0), {"x": jnp.zeros((2, 2)), "mask": jnp.ones((2, 2), bool)})
