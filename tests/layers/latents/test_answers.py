"""Answers of the variational layers, and the pairs and objectives that they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.point import PointLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.layers.latents.spherical import SphericalLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.model.contract import Query
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, PiecewiseNormal, RectifiedNormal, SpikeAndSlab
from tests.support.compatibility import refusal
from tests.support.exact_layers import softplus

pytestmark = [pytest.mark.usefixtures("x64")]
FEATURES = np.random.default_rng(0).normal(size=(3, 4))


def answer(layer, query):
    """The answer of a layer whose variables are normal with scale 0.4, and these variables."""
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    shapes = jax.eval_shape(lambda: layer.init(rngs, FEATURES.astype(np.float32), query, "z"))
    random = np.random.default_rng(0)
    variables = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.4, leaf.shape)), shapes)
    apply = jax.jit(lambda variables: layer.apply(variables, FEATURES, query, "z", rngs={"sample": jax.random.key(2)}))
    return apply(variables), variables


def test_a_student_t_has_a_finite_variance():
    """Unconstrained parameters of any size give more than 2 degrees of freedom, below which the KL to a normal is infinite."""
    unconstrained = jnp.array([[-50.0, 0.0, 0.0], [0.0, 0.0, 0.0], [50.0, 0.0, 0.0]])
    q = families.from_unconstrained(dist.StudentT, unconstrained)
    assert 2 < q.df[0] < 2.001 and q.df[1] == 3 and q.df[2] > 50
    assert jnp.isfinite(dist.kl_divergence(q, dist.Normal(0.0, 1.0))).all()


def test_a_smooth_layer_reports_the_mean_of_its_value():
    latent, _ = answer(RectifiedLayer(units=2, smooth=True), Query(40_000))
    error = latent.value.std(0) / 200
    assert (jnp.abs(latent.value.mean(0) - latent.q["mean"][0]) < 4 * error).all()


def test_a_rectified_layer_reports_the_probability_that_a_unit_is_alive():
    latent, _ = answer(RectifiedLayer(units=2), Query(40_000))
    alive = np.asarray(latent.q["alive"][0])
    assert (np.abs((np.asarray(latent.value) > 0).mean(0) - alive) < 4 * np.sqrt(alive * (1 - alive) / 40_000)).all()
    assert (latent.value >= 0).all() and (latent.value == 0).any()
    np.testing.assert_allclose(latent.value, jnp.maximum(latent.sample, 0), rtol=1e-9, atol=1e-12)


def test_a_horseshoe_layer_reports_its_diagonal():
    latent, variables = answer(HorseshoeLayer(units=2), Query(5))
    tau = softplus(np.asarray(variables["params"]["prior_parameters"]["unconstrained"]))[:, 0]
    np.testing.assert_allclose(latent.q["D"], tau**2 * np.exp(2 * latent.q["local_loc"]))
    np.testing.assert_allclose(latent.q["shrinkage"], 1 / (1 + latent.q["D"]))
    assert latent.sample.shape == (5, 3, 2, 2) and latent.value.shape == (5, 3, 2)


def test_the_head_of_the_local_scale_is_bounded():
    """Features of any size give a finite divergence with a finite gradient in single precision."""
    layer = HorseshoeLayer(units=2)

    def kl(features):
        variables = {
            "params": {**params, "posterior_head": {"kernel": jnp.ones((4, 8), "f"), "bias": jnp.zeros(8, "f")}}
        }
        latent = layer.apply(variables, features, Query(2, train=True), "z", rngs={"sample": jax.random.key(2)})
        return latent.kl.sum() + latent.log_p.sum()

    features = jnp.zeros((3, 4), jnp.float32)
    rngs = {"params": jax.random.key(0), "sample": jax.random.key(1)}
    params = jax.jit(lambda features: layer.init(rngs, features, Query(2, train=True), "z"))(features)["params"]
    kl_and_gradient = jax.jit(jax.value_and_grad(kl))
    for large in (-1e4, 1e4):
        value, gradient = kl_and_gradient(jnp.full_like(features, large))
        assert jnp.isfinite(value) and jnp.isfinite(gradient).all(), large


@pytest.mark.parametrize(
    "build, reason",
    [
        (lambda: VariationalLayer(posterior=dist.Laplace, prior=Horseshoe), "layer `horseshoe`"),
        (lambda: VariationalLayer(prior=RectifiedNormal), "layer `rectified`"),
        (lambda: VariationalLayer(posterior=RectifiedNormal), "layer `rectified`"),
        (lambda: VariationalLayer(posterior=dist.Cauchy), "tails"),
        (lambda: answer(VariationalLayer(units=2, prior=Horseshoe), Query()), "layer `horseshoe`"),
        (
            lambda: answer(VariationalLayer(units=2, posterior=RectifiedNormal, prior=RectifiedNormal), Query()),
            "layer `rectified`",
        ),
        (lambda: VariationalLayer(prior=dist.Gamma), "KL is infinite"),
        (lambda: VariationalLayer(posterior=dist.Gamma, prior=PiecewiseNormal), "on the real line"),
        (lambda: PiecewiseLayer(posterior=dist.Normal), "layer `normal`"),
        (lambda: PiecewiseLayer(pieces=0), "pieces"),
        (lambda: PiecewiseLayer(centred=True), "piecewise prior"),
        (lambda: PiecewiseLayer(posterior=dist.Laplace, prior=PiecewiseNormal, centred=True), "Laplace"),
        (lambda: HorseshoeLayer(slab=0.0), "slab"),
        (lambda: HorseshoeLayer(slab=np.inf), "None"),
    ],
)
def test_pairs_without_an_exact_form_are_refused(build, reason):
    with pytest.raises(ValueError, match=r"expected .* got") as error:
        build()
    assert reason in str(error.value)


@pytest.mark.parametrize(
    "layer, refused",
    [
        (VariationalLayer(), {"score"}),
        (VariationalLayer(prior=PiecewiseNormal), {"score"}),
        (VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits), {"closed", "sampled", "importance", "doubly"}),
        (VariationalLayer(posterior=NormalMixture, prior=SpikeAndSlab), {"score"}),
        (VariationalLayer(prior=Horseshoe), {"score", "closed", "sampled", "importance", "doubly"}),
        (SphericalLayer(), {"score"}),
        (HorseshoeLayer(), {"score"}),
        (RectifiedLayer(), {"score"}),
        (RectifiedLayer(smooth=True), {"score"}),
        (PiecewiseLayer(), {"score", "doubly"}),
        (PiecewiseLayer(prior=PiecewiseNormal), {"score", "doubly"}),
        (PiecewiseLayer(prior=PiecewiseNormal, centred=True), {"score", "sampled", "importance", "doubly"}),
        (PointLayer(), {"score", "sampled", "importance", "doubly"}),
    ],
)  # fmt: skip
def test_each_layer_refuses_the_estimates_whose_gradient_is_wrong(layer, refused):
    estimates = ("closed", "sampled", "importance", "doubly", "score")
    assert {estimate for estimate in estimates if refusal(layer, estimate)} == refused
