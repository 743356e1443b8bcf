"""Flows over latents: an inverse autoregressive posterior and a flow prior in a VAE."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dgmzoo
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.posteriors.flow import InverseAutoregressivePosterior
from dgmzoo.layers.priors.flow import FlowPrior
from dgmzoo.layers.weights.base import VariationalWeights
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.objectives.importance import DReG
from dgmzoo.zoo.vae.vae import VAE
from tests.support.compatibility import corrected

KEY = jax.random.key(0)
LAYER = VariationalLayer(
    prior=FlowPrior(num_layers=2, hidden=(5,), bins=3),
    posterior=InverseAutoregressivePosterior(num_layers=2, hidden=(20,)),
)


def test_the_densities_of_the_noise_are_those_of_the_value_and_the_jacobian(x64):
    """log q is that of the noise, and log p that of the value times the Jacobian, by `slogdet` in double precision."""
    vae = VAE(3, latent=LAYER, encoder=MLP((6,)), decoder=MLP((6,)), shape=(4,))
    model, random = functional(vae), np.random.default_rng(0)
    x = (random.random((5, 4)) < 0.5).astype(np.float32)
    variables = jax.jit(model.init)(KEY, {"x": x})
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.5, leaf.shape)), variables)
    rows = {"x": jnp.asarray(x, jnp.float64)}

    @jax.jit
    def evidence(noise):
        return model.evidence(variables, rows, KEY, Query(2, given={"z": noise}))[0]

    noise = jnp.asarray(random.normal(size=(2, 5, 3)))
    latent = evidence(noise).latents["z"]
    jacobian = jax.jit(jax.jacfwd(lambda noise: evidence(noise).latents["z"].value))(noise)
    own = np.asarray(jacobian)[np.arange(2)[:, None], np.arange(5), :, np.arange(2)[:, None], np.arange(5)]
    log_det = np.linalg.slogdet(own)[1]
    np.testing.assert_allclose(latent.log_q, stats.norm.logpdf(noise).sum(-1), atol=1e-10)

    def log_prior(module, z):
        return module.z.p(None).log_prob(z)[..., 0]

    log_p = jax.jit(lambda z: vae.apply(variables, z, method=log_prior))(latent.value)
    np.testing.assert_allclose(latent.log_p, log_p + log_det, atol=1e-8)
    assert np.abs(np.diagonal(np.asarray(jacobian).sum((3, 4)), 0, 2, 3)).min() > 0
    assert np.abs(own[..., 0, 1]).max() > 1e-3 and np.abs(own[..., 1, 0]).max() > 1e-3, (
        "units do not depend on each other"
    )


def test_a_flow_below_another_layer_is_conditional():
    p = FlowPrior(num_layers=1, hidden=(4,), units=2)
    above = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4, 5)), jnp.float32)
    z = jnp.zeros((3, 4, 2))
    variables = p.init(KEY, above, method=lambda module, above: module(above).log_prob(z))
    variables = jax.tree.map(lambda leaf: leaf + 0.3, variables)
    log_p = p.apply(variables, above, method=lambda module, above: module(above).log_prob(z))
    assert log_p.shape == (3, 4, 1) and np.ptp(log_p) > 1e-3
    drawn = p.apply(variables, above, method=lambda module, above: module(above).sample(KEY, (3, 4)))
    assert drawn.shape == (3, 4, 2)


def test_names_choose_flows_and_what_they_cannot_do_is_refused():
    names = {"model.latent.prior": "flow", "model.latent.posterior": "iaf", "model.latent.prior.bins": 4}
    latent = dgmzoo.experiment("vae/digits", names).model.latent
    assert latent.prior == FlowPrior(bins=4) and latent.posterior == InverseAutoregressivePosterior()
    with pytest.raises(ValueError, match="is noise"):
        corrected(VAE(2, latent=LAYER), DReG())
    with pytest.raises(ValueError, match="expected point weights for a flow prior, got VariationalWeights"):
        FlowPrior(units=2, weights=VariationalWeights()).init(KEY)
    for wrong in ({"num_layers": 0}, {"hidden": (0,)}):
        for part in (FlowPrior, InverseAutoregressivePosterior):
            with pytest.raises(ValueError, match=r"expected .* got"):
                part(**wrong)
