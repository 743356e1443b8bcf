"""An affine flow as posterior under every objective: its mean gradient is that of quadrature, or it is refused."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import ELBO, IWAE, MLP, NVIL, VAE, DReG, VariationalLayer, testing
from dgmzoo.config.layer_check import check_fields
from dgmzoo.layers.conditional import Conditional
from dgmzoo.layers.posteriors.base import Posterior
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from tests.support.socket_probes import log_normal

PAIR = {"x": np.array([[0, 1], [1, 1]], np.float32)}


class Affine(Posterior):
    """z = m(h) + s(h) e with the sample e: a normal posterior, written as a flow."""

    @nn.compact
    def __call__(self, features):
        loc, log_scale = jnp.split(nn.Dense(2 * self.units, name="head")(features), 2, -1)  # [K or 1, B, U]

        def transform(noise):
            return loc + jnp.exp(log_scale) * noise, jnp.broadcast_to(log_scale, noise.shape)

        def sample(key, leading):
            return jax.random.normal(key, (*leading, self.units))

        return Conditional(log_normal, sample, features.shape[1], mean=loc, transform=transform)

    def facts(self):
        return Facts(posterior="Affine", samples_noise=True)


def vae(posterior):
    layer = VariationalLayer(posterior=posterior)
    return VAE(1, layer, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2,))


@pytest.mark.parametrize("objective", [ELBO(), IWAE(num_samples=2)], ids=["elbo", "iwae"])
def test_the_mean_gradient_is_that_of_quadrature(objective):
    comparison = testing.unbiased(objective, vae(Affine()), PAIR)
    assert comparison.is_unbiased and comparison.cosine > 0.99 and abs(comparison.scale - 1) < 0.05, comparison


@pytest.mark.parametrize("objective, reason", [(DReG(2), "noise"), (NVIL(), "reparameterized")], ids=["dreg", "nvil"])
def test_other_objectives_are_refused(objective, reason):
    with pytest.raises(ValueError, match=reason):
        check_fields(vae(Affine()), objective)


@pytest.mark.thorough
def test_refused_forms_are_biased_or_gain_nothing():
    """NVIL adds a score to a pathwise gradient. DReG has no score to replace, and is IWAE at three times its cost."""
    scored = testing.unbiased(NVIL(baseline_hidden=(2,)), vae(VariationalLayer().posterior), PAIR, num_keys=1000)
    assert not scored.is_unbiased and scored.largest_z > 5 * scored.bound, scored
    model, key = functional(vae(Affine())), jax.random.key(3)
    variables = model.init(key, PAIR)
    doubly, plain = (
        jax.grad(lambda variables, each=each: each(model, variables, PAIR, key, jnp.zeros((), jnp.int32), 2)[0])(
            variables
        )
        for each in (DReG(4), IWAE(4))
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), doubly, plain)


def test_log_weights_are_those_of_the_normal_posterior():
    """log p(T(e)) + log |dT / de| - log N(e) is log p(z) - log q(z)."""
    flow = functional(vae(Affine()))
    variables = flow.init(jax.random.key(0), PAIR)
    noise = jnp.asarray(np.random.default_rng(0).normal(size=(3, 2, 1)), jnp.float32)
    evidence, _ = flow.evidence(variables, PAIR, jax.random.key(1), Query(3, given={"z": noise}))
    latent = evidence.latents["z"]
    log_scale = jnp.log(jnp.abs((latent.value - latent.q["mean"]) / noise))
    log_q = log_normal(noise) - log_scale  # of z
    expected = evidence.log_likelihood + (log_normal(latent.value) - log_q).sum(-1)
    np.testing.assert_allclose(evidence.log_weight, expected, rtol=1e-4, atol=1e-4)
