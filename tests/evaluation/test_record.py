"""Facts of an entry in its record and its curves: units, terms, codes, and what its training value means."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import api
from dgmzoo.comparison.measure import figure_row, measure_run
from dgmzoo.comparison.table import table_lines
from dgmzoo.evaluation.record import count_terms, is_discrete
from dgmzoo.evaluation.training_value import training_value
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import log_likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Draw, Evidence, Latent
from dgmzoo.report import plots, render
from dgmzoo.training.loop import fit
from dgmzoo.training.progress import ProgressCallback
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import ROWS, experiment_of, resolved_of


class Relaxed(VariationalLayer):
    def facts(self):
        return Facts(training_value="relaxed")


class Deterministic(VariationalLayer):
    def facts(self):
        return Facts(training_value="deterministic")


def small(latent):
    return VAE(2, latent=latent, encoder=MLP((4,)), decoder=MLP((4,)))


@pytest.mark.thorough
def test_f56_a_deterministic_posterior_is_recorded_with_one_sample():
    run = api.train(experiment_of(small(Deterministic())), progress=False)
    assert run.experiment.evaluation.num_samples == 5
    assert (run.record["bound"], run.record["num_samples"]) == ("elbo", 1)
    assert run.record["value"] == pytest.approx(-run.record["elbo"], abs=1e-5)
    assert run.record["training_value"] == "deterministic"
    assert run.evaluate(num_samples=50)["num_samples"] == 1
    exact = api.train(experiment_of(small(VariationalLayer())), progress=False)
    assert (exact.record["bound"], exact.record["num_samples"]) == ("iw", 5)


def test_f51_a_relaxed_training_value_is_shown_as_loss_and_bounds_come_from_readings(capsys):
    resolved = resolved_of(small(Relaxed()), {"steps": 12})
    assert training_value(resolved.module) == "relaxed"
    callback = ProgressCallback(None, show=True, training_value="relaxed")
    fit(resolved.experiment, resolved.model, resolved.dataset, 0, callback)
    shown = capsys.readouterr().err
    assert "loss" in shown and "bound" not in shown
    of = {split: [row for row in callback.rows if row["split"] == split] for split in ("train", "train_bound", "valid")}
    assert len(of["train"]) == len(of["train_bound"]) == len(of["valid"]) == 2
    assert all("elbo" not in row and "loss" in row for row in of["train"])
    assert all(np.isfinite(row["elbo"]) and "loss" not in row for row in of["train_bound"])
    curves = plots.training_curves(callback.rows)
    assert curves.startswith("<svg")


def test_f51_an_exact_training_value_is_a_bound(capsys):
    run = api.train(experiment_of(small(VariationalLayer())), progress=True)
    assert "bound" in capsys.readouterr().err
    assert {row["split"] for row in run.metrics} == {"train", "valid"} and "elbo" in run.metrics[0]


class Classes(nn.Module):
    """A quantizer of 8 classes by the first three bits of x, without a likelihood module and without means of draws."""

    bound = "elbo"

    @nn.compact
    def evidence(self, batch, query):
        index = (batch["x"][:, :3] @ jnp.array([1.0, 2.0, 4.0])).astype(jnp.int32) % 5
        code = jax.nn.one_hot(index, 8)[None, :, None].repeat(query.num_samples, 0)  # [K, B, 1, C]
        logits = self.param("logits", nn.initializers.zeros, (8, 4))
        p = Bernoulli()((code[:, :, 0] @ logits), (4,))
        zeros = jnp.zeros(code.shape[:2])
        log_p = zeros - jnp.log(8.0)
        kl = (zeros - log_p)[..., None]
        latent = Latent(code, code, log_p, zeros, kl, {"class_probs": code[:1]})
        return Evidence(log_likelihood(p, batch["x"]), {"z": latent})

    def generate(self, num, context=None):
        return Draw(jax.random.bernoulli(self.make_rng("sample"), 0.5, (num, 4)).astype(jnp.float32))


class DiscreteClasses(Classes):
    discrete = True


@pytest.mark.thorough
def test_f59_codes_of_classes_have_their_use_and_no_active_units(tmp_path):
    run = api.train(experiment_of(Classes()), tmp_path / "run", progress=False)
    index = (run.dataset.evaluation_rows("test")["x"][:, :3] @ np.array([1, 2, 4])).astype(int) % 5
    share = np.unique(index, return_counts=True)[1] / len(index)
    codes = run.record["codes"]["z"]
    assert codes["used"] == len(share) and codes["perplexity"] == pytest.approx(np.exp(-(share * np.log(share)).sum()))
    assert run.record["active_units"] == {}
    measures = measure_run("classes", run)
    assert measures["codes_used/z"] == codes["used"] and "active_units/z" not in measures
    assert "codes used" in [line.title for line in table_lines([measures])]
    # Without means of draws the draws themselves are shown.
    assert run.sample(3, mean=True) is None and run.sample(3).shape == (3, 4)
    assert (run.path / "samples.png").exists() and (run.path / "report.html").exists()
    assert "<img" in render.card(run) and figure_row(run).samples.shape == (6, 4)


def test_f5_bits_only_where_a_likelihood_or_the_entry_says_discrete():
    assert [is_discrete(module) for module in (small(VariationalLayer()), Classes(), DiscreteClasses())] == [
        True,
        False,
        True,
    ]
    assert not is_discrete(VAE(2, likelihood=Normal()))
    run = api.train(experiment_of(DiscreteClasses()), progress=False)
    assert run.record["bits_per_dim"] == pytest.approx(run.record["value"] / 4 / np.log(2), abs=1e-5)


@pytest.mark.thorough
def test_f73_masked_elements_are_no_terms():
    x = ROWS
    mask = np.ones(x.shape, bool)
    assert count_terms({"x": x}) == 4 and type(count_terms({"x": x, "mask": mask})) is int
    mask[:, 3] = False
    assert count_terms({"x": x, "mask": mask}) == 3
    mask[0] = False
    assert count_terms({"x": x, "mask": mask}) == pytest.approx(3 - 3 / 60)
    half = np.ones(x.shape, bool)
    half[::2, :2] = False
    run = api.train(experiment_of(small(VariationalLayer()), rows={"x": x, "mask": half}), progress=False)
    observed = run.dataset.evaluation_rows("test")["mask"].sum() / len(run.dataset.evaluation_rows("test")["x"])
    assert run.record["num_terms"] == pytest.approx(observed) and run.record["bits_per_dim"] is None


def test_a_probability_above_one_is_a_warning():
    from dgmzoo.evaluation.record import warn_if_impossible

    with pytest.warns(UserWarning, match=r"-0\.25 nats is impossible for discrete data: Mine .* `dgmzoo check`"):
        warn_if_impossible(-0.25, "Mine")
