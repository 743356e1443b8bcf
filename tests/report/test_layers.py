"""What layers say of their own units, and that the report shows it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import dgmzoo
from dgmzoo.layers.latents.piecewise import PiecewiseLayer
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.functional import functional
from dgmzoo.reparam.distributions import NormalMixture, PiecewiseNormal
from dgmzoo.report.layers import dead_units, figures, prior_densities, shrunk_units
from dgmzoo.zoo.vae.vae import VAE

GRID = np.linspace(-12, 12, 4001)


def test_units_are_counted():
    alive = np.array([[0.9, 0.001, 0.0], [0.0, 0.009, 0.02]])
    np.testing.assert_array_equal(dead_units(alive), [False, True, False])
    np.testing.assert_array_equal(shrunk_units(np.array([[0.9, 0.1], [0.8, 0.6]])), [True, False])


@pytest.mark.parametrize(
    "layer", [PiecewiseLayer(prior=PiecewiseNormal, pieces=3), VariationalLayer(prior=NormalMixture)], ids=["piecewise", "mixture"]
)  # fmt: skip
def test_a_learned_prior_draws_its_density(layer):
    module = VAE(2, latent=layer, encoder=MLP((3,)), decoder=MLP((3,)), shape=(2, 2))
    variables = jax.jit(functional(module).init)(jax.random.key(0), {"x": jnp.zeros((2, 2, 2))})
    raw = variables["params"]["z"]["prior_parameters"]["unconstrained"]
    changed = raw + 0.5 * jax.random.normal(jax.random.key(1), raw.shape)
    variables = {
        "params": {
            **variables["params"],
            "z": {**variables["params"]["z"], "prior_parameters": {"unconstrained": changed}},
        }
    }
    density = prior_densities(module, variables, GRID)["z"]
    assert density.shape == (len(GRID), 2)
    np.testing.assert_allclose(density.sum(0) * (GRID[1] - GRID[0]), 1, atol=2e-3)

    @jax.jit
    def draw(key):
        return module.apply(variables, method=lambda vae: vae.z.draw(20_000), rngs={"sample": key})

    draws = np.asarray(draw(jax.random.key(2)))
    for unit in range(2):
        share = np.cumsum(density[:, unit]) * (GRID[1] - GRID[0])
        assert stats.kstest(draws[0, :, unit], lambda t, share=share: np.interp(t, GRID, share)).pvalue > 1e-3
    shown = figures(module, variables, {})
    assert (
        list(shown) == ["The learned prior of each unit of z"]
        and "<svg" in shown["The learned prior of each unit of z"]
    )


@pytest.mark.parametrize(
    "name, words",
    [("horseshoe", "shrunk by more than half"), ("rectified", "are dead"), ("piecewise", "whose mean varies most")],
)
def test_the_report_shows_them(name, words, tmp_path):
    changes = {"model.latent": name, "training.steps": 5, "evaluation.num_samples": 3, "model.latent_dim": 4}
    run = dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path, progress=False)
    q = run.encode(run.dataset.evaluation_rows("test", 5))["z"]
    assert q["mean"].shape == (5, 4)
    if name == "horseshoe":
        np.testing.assert_allclose(q["shrinkage"], 1 / (1 + q["D"]), rtol=1e-5)
    elif name == "rectified":
        np.testing.assert_allclose(q["alive"], stats.norm.cdf(q["loc"] / q["scale"]), rtol=1e-4)
    assert words in (tmp_path / "report.html").read_text()
