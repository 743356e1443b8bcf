"""The spherical layer: answers by quadrature over the circle, gradients by samples, and refusals."""

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
    """A VAE of x in one dimension with a code on the circle, its parameters, and its evidence at given samples."""
    model = functional(
        VAE(2, latent=SphericalLayer(), encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(1,))
    )
    initial = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(X, jnp.float32)})["params"]
    random = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.uniform(-0.9, 0.9, leaf.shape)), initial)

    def evidence(params, given, num):
        query = Query(num, train=True, given={"z": given})
        return model.evidence({"params": params}, {"x": jnp.asarray(X)}, jax.random.key(0), query)[0]

    return model, params, jax.jit(evidence, static_argnums=2)


def test_densities_divergence_and_mean_by_quadrature(subject):
    _, params, evidence = subject
    circle = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)[:, None]  # [N, 1, 2]
    latent = jax.device_get(evidence(params, circle, len(circle))).latents["z"]
    assert latent.kl.shape == (1, 1, 1) and latent.q["mean"].shape == (1, 1, 2)
    log_p, log_q = latent.log_p[:, 0], latent.log_q[:, 0]
    q = np.exp(log_q)
    assert q.sum() * STEP == pytest.approx(1, abs=1e-9)
    assert np.exp(log_p).sum() * STEP == pytest.approx(1, abs=1e-12)
    assert float(latent.kl[0, 0, 0]) == pytest.approx((q * (log_q - log_p)).sum() * STEP, abs=1e-9)
    mean = (q[:, None] * np.asarray(circle)[:, 0]).sum(0) * STEP
    np.testing.assert_allclose(latent.q["mean"][0, 0], mean, atol=1e-9)


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["elbo", pytest.param("sampled", marks=pytest.mark.thorough)])
def test_gradients_are_those_of_the_exact_bound(subject, kind):
    """The mean gradient over keys, against the derivative of the ELBO by quadrature."""
    model, params, evidence = subject
    circle = jnp.stack([jnp.cos(ANGLES), jnp.sin(ANGLES)], -1)[:, None]

    def exact_bound(params):
        exact = evidence(params, circle, len(circle))
        return (jnp.exp(exact.log_q) * exact.log_weight).sum() * STEP

    def sampled_bound(params, key):
        sampled = model.evidence({"params": params}, {"x": jnp.asarray(X)}, key, Query(train=True))[0]
        closed = sampled.log_likelihood - sampled.latents["z"].kl.sum()
        return (closed if kind == "elbo" else sampled.log_weight).sum()

    gradient_per_key = jax.jit(jax.vmap(jax.grad(sampled_bound), (None, 0)))
    samples = jax.device_get(gradient_per_key(params, jax.random.split(jax.random.key(1), 8000)))
    exact = jax.device_get(jax.jit(jax.grad(exact_bound))(params))
    for (path, expected), leaf in zip(jax.tree.leaves_with_path(exact), jax.tree.leaves(samples), strict=True):
        error = leaf.std(0) / np.sqrt(8000)
        assert (np.abs(leaf.mean(0) - expected) < 4.5 * error + 1e-9).all(), jax.tree_util.keystr(path)


def answer(layer, features, query, above=None):
    @jax.jit
    def init_and_apply(features, above):
        rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
        variables = layer.init(rngs, features, query, "z", above)
        return layer.apply(variables, features, query, "z", above, rngs={"sample": jax.random.key(2)})

    return jax.device_get(init_and_apply(features, above))


@pytest.mark.thorough
def test_codes_are_directions_and_a_prior_may_be_learned():
    features = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)), jnp.float32)
    latent = answer(SphericalLayer(units=5), features, Query(7))
    np.testing.assert_allclose(np.linalg.norm(latent.value, axis=-1), 1, rtol=1e-5)
    assert latent.sample.shape == (7, 3, 5)
    for layer, above in (
        (SphericalLayer(units=5, learned_prior=True), None),
        (SphericalLayer(units=5), jnp.ones((7, 3, 2))),
    ):
        latent = answer(layer, features, Query(7), above)
        np.testing.assert_allclose(latent.kl[..., 0], latent.log_q - latent.log_p, rtol=1e-5)
    with pytest.raises(ValueError, match="at least 2 dimensions, got 1"):
        answer(SphericalLayer(units=1), features, Query())
