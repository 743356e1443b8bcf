"""Imputation against quadrature over z, and scores of rows against the evaluation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo.evaluation.imputation import impute
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional

KEY = jax.random.key(0)


@pytest.fixture(scope="module")
def vae():
    """A VAE with one latent, and three rows of four elements of which some are hidden."""
    module = dgmzoo.VAE(
        latent_dim=1, encoder=dgmzoo.MLP((4,)), decoder=dgmzoo.MLP((4,)), likelihood=dgmzoo.Normal(), shape=(4,)
    )
    random = np.random.default_rng(0)
    mask = np.array([[True, True, False, False], [False, True, True, True], [True, False, False, True]])
    rows = {"x": np.where(mask, random.normal(size=(3, 4)), 0).astype(np.float32), "mask": mask}
    model = functional(module)
    variables = jax.tree.map(
        lambda leaf: 1.3 * leaf, model.init(KEY, {name: jnp.asarray(a) for name, a in rows.items()})
    )
    return model, variables, rows


def test_imputed_means_are_those_of_quadrature(vae):
    model, variables, rows = vae
    grid = np.linspace(-8, 8, 2001, dtype=np.float32)
    given = {"z": np.broadcast_to(grid[:, None, None], (2001, 3, 1))}
    evidence, _ = model.evidence(variables, rows, KEY, Query(num_samples=2001, given=given))
    log_joint = np.asarray(evidence.log_likelihood, np.float64) - grid[:, None] ** 2 / 2  # up to a constant
    weight = np.exp(log_joint - log_joint.max(0))
    expected = (weight[..., None] * np.asarray(evidence.parameters["mean"])).sum(0) / weight.sum(0)[:, None]
    imputed = impute(model, variables, rows, KEY, num_samples=20_000)
    hidden = ~rows["mask"]
    np.testing.assert_allclose(imputed.x[hidden], expected[hidden], atol=0.03)
    np.testing.assert_array_equal(imputed.x[rows["mask"]], rows["x"][rows["mask"]])
    assert (imputed.effective_samples > 100).all() and (imputed.effective_samples <= 20_000).all()
    plain = np.asarray(model.evidence(variables, rows, KEY, Query(num_samples=2000))[0].parameters["mean"]).mean(0)
    assert np.abs(plain - expected)[hidden].max() > 0.1  # without the weights it is another mean


def test_effective_samples_of_one_sample_are_one(vae):
    model, variables, rows = vae
    assert impute(model, variables, rows, KEY, num_samples=1).effective_samples.tolist() == [1, 1, 1]


def test_models_without_latents_are_refused():
    module = dgmzoo.MADE(hidden=(4,), shape=(3,))
    rows = {"x": np.zeros((2, 3), np.float32)}
    model = functional(module)
    with pytest.raises(ValueError, match="expected an entry with latents that reports the mean"):
        impute(model, model.init(KEY, {"x": jnp.zeros((2, 3))}), rows, KEY)


def test_a_run_imputes_and_scores_in_its_own_units(tmp_path):
    table = np.random.default_rng(0).normal(3, 5, (200, 3)).astype(np.float32)
    experiment = dgmzoo.Experiment(
        model=dgmzoo.VAE(latent_dim=1, encoder=dgmzoo.MLP((4,)), decoder=dgmzoo.MLP((4,)), likelihood=dgmzoo.Normal()),
        data=dgmzoo.from_arrays(table, name="mine"),
        training=dgmzoo.Training(steps=2, batch_size=20),
        evaluation=dgmzoo.Evaluation(num_samples=5),
    )
    run = dgmzoo.train(experiment, progress=False)
    rows = run.dataset.evaluation_rows("test")
    scores = run.score(rows, num_samples=2000)
    assert scores.shape == (20,)
    np.testing.assert_allclose(scores.mean(), run.evaluate(num_samples=2000)["value"], atol=0.05)
    mask = np.ones((20, 3), bool)
    mask[:, 1] = False
    imputed = run.impute(rows["x"], mask, num_samples=50)
    assert imputed.x.shape == (20, 3) and (imputed.x[:, 0] == rows["x"][:, 0]).all()
    assert (imputed.x[:, 1] != rows["x"][:, 1]).all() and np.isfinite(imputed.x).all()
