"""The spherical layer: its answers by quadrature over the circle, its gradients, and what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.zoo.vae.vae import VAE

ANGLES = np.linspace(-np.pi, np.pi, 400, endpoint=False)
STEP = 2 * np.pi / 400
X = np.array([[0.8]])


@pytest.fixture
def subject(x64):
    """A VAE of x in one dimension with its code on the circle, and parameters of some size."""
    model = functional(
        VAE(2, latent=SphericalLayer(), encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(1,))
    )
    born = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(X, jnp.float32)})["params"]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(-0.9, 0.9, leaf.shape)), born)

    def ask(params, given, num):
        query = Query(num, train=True, given={"z": given})
        return model.evidence({"params": params}, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]

    return model, params, jax.jit(ask, static_argnums=2)


def test_divergence_and_bounds_by_quadrature(subject):
    _, params, ask = subject
    circle = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)[:, None]  # [N, 1, 2]
    found = ask(params, circle, len(circle))
    latent = found.latents["z"]
    assert latent.kl.shape == (1, 1, 1) and latent.q["mean"].shape == (1, 1, 2)
    log_p, log_q = np.asarray(latent.log_p[:, 0]), np.asarray(latent.log_q[:, 0])
    q = np.exp(log_q)
    assert q.sum() * STEP == pytest.approx(1, abs=1e-9)
    assert np.exp(log_p).sum() * STEP == pytest.approx(1, abs=1e-12)
    assert float(latent.kl[0, 0, 0]) == pytest.approx((q * (log_q - log_p)).sum() * STEP, abs=1e-9)
    mean = (q[:, None] * np.asarray(circle)[:, 0]).sum(0) * STEP
    np.testing.assert_allclose(np.asarray(latent.q["mean"])[0, 0], mean, atol=1e-9)


@pytest.mark.parametrize("kind", ["elbo", "sampled"])
def test_gradients_are_those_of_the_exact_bound(subject, kind):
    """Draws' mean gradient against the derivative of the ELBO by quadrature."""
    model, params, ask = subject
    circle = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)[:, None]

    def exact(params):
        found = ask(params, circle, len(circle))
        return (jnp.exp(found.log_q) * found.log_weight).sum() * STEP

    def drawn(params, key):
        found = model.evidence({"params": params}, {"x": jnp.asarray(X)}, key, Query(train=True))[0]
        return (found.log_likelihood - found.latents["z"].kl.sum() if kind == "elbo" else found.log_weight).sum()

    each = jax.jit(jax.vmap(jax.grad(drawn), (None, 0)))(params, jax.random.split(jax.random.key(1), 8000))
    for path, wanted in jax.tree.leaves_with_path(jax.jit(jax.grad(exact))(params)):
        leaf = each
        for part in path:
            leaf = leaf[part.key]
        error = leaf.std(0) / np.sqrt(8000)
        assert (jnp.abs(leaf.mean(0) - wanted) < 4.5 * error + 1e-9).all(), jax.tree_util.keystr(path)


def answer(layer, features, query, above=None):
    @jax.jit
    def asked(features, above):
        rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
        variables = layer.init(rngs, features, query, "z", above)
        return layer.apply(variables, features, query, "z", above, rngs={"sample": jax.random.key(2)})

    return asked(features, above)


def test_codes_are_directions_and_a_prior_may_be_learned():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    latent = answer(SphericalLayer(units=5), features, Query(7))
    np.testing.assert_allclose(jnp.linalg.norm(latent.value, axis=-1), 1, rtol=1e-5)
    assert latent.sample.shape == (7, 3, 5)
    for layer, above in (
        (SphericalLayer(units=5, learned_prior=True), None),
        (SphericalLayer(units=5), jnp.ones((7, 3, 2))),
    ):
        latent = answer(layer, features, Query(7), above)
        np.testing.assert_allclose(latent.kl[..., 0], latent.log_q - latent.log_p, rtol=1e-5)
    with pytest.raises(ValueError, match="at least 2 dimensions, got 1"):
        answer(SphericalLayer(units=1), features, Query())
