"""Figures of variational layers and the report that contains them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dgmzoo
from dgmzoo.config.names import LATENTS
from dgmzoo.evaluation.inference import encode
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.functional import functional
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal
from dgmzoo.report.layers import dead_units, figures, prior_densities, shrunk_units
from dgmzoo.zoo.vae.vae import VAE

GRID = np.linspace(-12, 12, 4001)


def test_shrunk_and_dead_units_are_counted():
    alive = np.array([[0.9, 0.001, 0.0], [0.0, 0.009, 0.02]])
    np.testing.assert_array_equal(dead_units(alive), [False, True, False])
    np.testing.assert_array_equal(shrunk_units(np.array([[0.9, 0.1], [0.8, 0.6]])), [True, False])


@pytest.mark.thorough
@pytest.mark.parametrize(
    "layer", [PiecewiseLayer(prior=PiecewiseNormal, pieces=3), VariationalLayer(prior=NormalMixture)], ids=["piecewise", "mixture"]
)  # fmt: skip
def test_the_density_of_a_learned_prior_is_that_of_its_samples(layer):
    module = VAE(2, latent=layer, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2, 2))
    variables = jax.jit(functional(module).init)(jax.random.key(0), {"x": jnp.zeros((2, 2, 2))})
    start = variables["params"]["z"]["p"]["free"]["unconstrained"]
    changed = start + 0.5 * jax.random.normal(jax.random.key(1), start.shape)
    variables = {
        "params": {
            **variables["params"],
            "z": {**variables["params"]["z"], "p": {"free": {"unconstrained": changed}}},
        }
    }
    density = prior_densities(module, variables, GRID)["z"]
    assert density.shape == (len(GRID), 2)
    np.testing.assert_allclose(density.sum(0) * (GRID[1] - GRID[0]), 1, atol=2e-3)

    @jax.jit
    def draw(key):
        return module.apply(variables, method=lambda vae: vae.z.draw(20_000), rngs={"sample": key})

    samples = np.asarray(draw(jax.random.key(2)))
    for unit in range(2):
        cdf = np.cumsum(density[:, unit]) * (GRID[1] - GRID[0])
        assert stats.kstest(samples[0, :, unit], lambda t, cdf=cdf: np.interp(t, GRID, cdf)).pvalue > 1e-3
    svgs = figures(module, variables, {})
    assert (
        list(svgs) == ["The learned prior of each unit of z"] and "<svg" in svgs["The learned prior of each unit of z"]
    )


def test_a_posterior_of_the_noise_is_not_drawn_as_one_of_z():
    codes = {"z": {"loc": np.zeros((6, 2)), "scales": np.ones((6, 2, 3)), "mean": np.arange(12.0).reshape(6, 2)}}
    for centred, num in ((True, 1), (False, 0)):
        layer = PiecewiseLayer(posterior=PiecewiseNormal, prior=PiecewiseNormal, pieces=3, centred=centred)
        module = VAE(2, latent=layer, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2, 2))
        captions = figures(module, {"params": {}}, codes)
        assert sum("whose mean varies most" in caption for caption in captions) == num


CAPTIONS = {
    "horseshoe": "shrunk by more than half",
    "rectified": "are dead",
    "piecewise": "whose mean varies most",
}


@pytest.mark.parametrize("name", CAPTIONS)
def test_a_layer_has_a_figure_of_its_parameters(name):
    module = VAE(4, latent=LATENTS[name](), encoder=MLP((3,)), decoder=MLP((3,)), shape=(2, 2))
    model, x = functional(module), np.random.default_rng(0).random((5, 2, 2)).astype(np.float32)
    variables = jax.jit(model.init)(jax.random.key(0), {"x": x})
    codes = encode(model, variables, {"x": x}, jax.random.key(1))
    q = codes["z"]
    assert q["mean"].shape == (5, 4)
    if name == "horseshoe":
        np.testing.assert_allclose(q["shrinkage"], 1 / (1 + q["D"]), rtol=1e-5)
    elif name == "rectified":
        np.testing.assert_allclose(q["alive"], stats.norm.cdf(q["loc"] / q["scale"]), rtol=1e-4)
    assert any(CAPTIONS[name] in caption for caption in figures(module, variables, codes))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", ["horseshoe", *(pytest.param(name, marks=pytest.mark.thorough) for name in ("rectified", "piecewise"))]
)
def test_the_report_contains_the_figures_of_the_layer(name, tmp_path):
    changes = {"model.latent": name, "training.steps": 5, "evaluation.num_samples": 3, "model.latent_dim": 4}
    changes |= {"model.encoder.hidden": (8,), "model.decoder.hidden": (8,), "evaluation.num_examples": 50}
    dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path, progress=False)
    assert CAPTIONS[name] in (tmp_path / "report.html").read_text()
