"""Extra losses that are given a context, by their signature; and diagnostics between dispatches."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo import api
from dgmzoo.config.experiment import Diagnostic
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.model.transforms import takes_context, with_extra_losses
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.reparam.collectives import batch_gather
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import experiment_of
from tests.training.test_devices import assert_close, assert_replicas_agree, train


def spread(evidence, batch, context):
    """The distance of each row's log-likelihood from the mean over all devices."""
    everything = context.gather(evidence.log_likelihood.mean(0))
    return jnp.square(evidence.log_likelihood.mean(0) - everything.mean()) / context.num_data


def weighted(evidence, batch, weight=0.5):
    return weight * evidence.log_likelihood.mean(0)


def test_the_signature_tells_whether_a_loss_takes_a_context():
    assert takes_context(spread) and takes_context(lambda e, b, c: 0) and takes_context(lambda e, b, context=None: 0)
    assert not takes_context(weighted) and not takes_context(lambda e, b: 0) and not takes_context(max)
    assert not takes_context(functools.partial(weighted, weight=2.0))
    assert takes_context(functools.partial(spread))


def test_a_context_holds_key_step_and_number_of_rows():
    seen = []

    def first(evidence, batch, context):
        seen.append(context)
        return jax.random.normal(context.key, (len(batch["x"]),))

    def second(evidence, batch, context):
        return jax.random.normal(context.key, (len(batch["x"]),))

    model = with_extra_losses(functional(MADE(hidden=(4,), shape=(3,))), {"first": first, "second": second}, num_data=7)
    batch = {"x": jnp.ones((2, 3))}
    variables = model.init(jax.random.key(0), batch)
    evidence, _ = model.evidence(variables, batch, jax.random.key(1), Query(train=True, step=5))
    assert (seen[0].step, seen[0].num_data) == (5, 7)
    assert seen[0].gather(batch["x"]) is batch["x"]
    assert not np.isclose(evidence.aux["first"], evidence.aux["second"]).any(), "each loss has a key of its own"


def test_a_loss_over_the_rows_of_all_devices_is_that_of_one_device():
    model = with_extra_losses(functional(MADE(hidden=(8,), shape=(2, 2))), {"spread": spread}, 2, batch_gather)
    one, one_metrics = train(model, ELBO(), 1)
    several, metrics = train(model, ELBO(), 4)
    assert_replicas_agree(several.variables, 4)
    assert_close((several.variables, metrics), (one.variables, one_metrics))
    assert (np.asarray(metrics["extra_loss/spread"]) > 0).all()


@pytest.mark.thorough
def test_an_experiment_trains_with_a_context():
    run = api.train(experiment_of(VAE(2, encoder=dgmzoo.MLP((4,))), extra_losses={"spread": spread}), progress=False)
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert rows and all(row["extra_loss/spread"] > 0 for row in rows)


@pytest.mark.thorough
def test_diagnostics_run_every_few_steps_and_change_nothing(tmp_path):
    shapes = []

    def norm(variables, rows):
        shapes.append(rows["x"].shape)
        largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(variables["params"]))
        return {"largest": largest, "undefined": float("nan")}

    diagnostics = {"size": Diagnostic(norm, 4), "rare": Diagnostic(lambda variables, rows: {"one": 1}, 100)}
    settings = {"training": {"steps": 12}, "execution": dgmzoo.Execution(dispatch=2)}
    plain = experiment_of(VAE(2, encoder=dgmzoo.MLP((4,))), **settings)
    run = api.train(dataclasses.replace(plain, diagnostics=diagnostics), tmp_path / "run", progress=False)
    rows = [row for row in run.metrics if row["split"] == "diagnostics"]
    assert [row["step"] for row in rows] == [4, 8, 12]
    assert all(set(row) == {"step", "split", "size/largest", "seconds"} for row in rows)
    assert shapes == [(48, 4)] * 3
    without = api.train(plain, progress=False)
    jax.tree.map(np.testing.assert_array_equal, run.variables, without.variables)
    assert api.train(plain, tmp_path / "run", progress=False).step == run.step, "a run may be resumed without them"
    assert "size/largest" in (tmp_path / "run/report.html").read_text()


def test_wrong_diagnostics_are_refused():
    with pytest.raises(ValueError, match="every_steps"):
        Diagnostic(lambda variables, rows: {}, 0)
    plain = experiment_of(VAE(2))
    with pytest.raises(ValueError, match=r"diagnostics as \{name: dgmzoo.Diagnostic\}"):
        dataclasses.replace(plain, diagnostics={"size": len})
    wrong = dataclasses.replace(plain, diagnostics={"size": Diagnostic(lambda variables, rows: 3, 1)})
    with pytest.raises(ValueError, match=r"'size' to return \{name: number\}, got int"):
        api.train(wrong, progress=False)
