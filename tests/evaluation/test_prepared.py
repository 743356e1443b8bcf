"""Prepared quantities are computed once a measurement, and its error is recorded (F52); codes use it too (F55)."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo import Evaluation, api, loading
from dgmzoo.comparison.measure import figure_row, measure_run
from dgmzoo.report.html import headline
from tests.support.own_entry import experiment_of
from tests.support.probes import BoltzmannPrior, Enumeration

CALLS = []


class WithError(BoltzmannPrior):
    """A Boltzmann prior whose log Z comes with a standard error, and that records each call of `prepare`."""

    shape: tuple[int, ...] = (4,)

    def setup(self):
        super().setup()
        self.log_z_error = self.variable("prepared", "log_z_error", lambda: jnp.asarray(jnp.nan, jnp.float32))

    def prepare(self):
        super().prepare()
        self.log_z_error.value = jnp.asarray(0.25, jnp.float32)
        jax.debug.callback(lambda: CALLS.append(1))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    experiment = experiment_of(WithError(), objective=Enumeration(), evaluation=Evaluation(num_samples=50))
    return api.train(experiment, tmp_path_factory.mktemp("runs") / "run", progress=False)


def test_f52_preparing_happens_once_a_measurement(run):
    jax.effects_barrier()
    readings = sum(row["split"] == "valid" for row in run.metrics)
    assert readings >= 1 and len(CALLS) == readings + 1  # of both splits of the record, the codes and the report
    run.evaluate("valid", num_samples=3)
    run.encode(run.dataset.evaluation_rows("test", 4))
    jax.effects_barrier()
    assert len(CALLS) == readings + 1


def test_f52_the_record_holds_what_was_prepared_with_its_error(run):
    prepared = run.record["prepared"]
    assert prepared["log_z"] == pytest.approx(float(run.variables["prepared"]["log_z"]), abs=1e-6)
    assert prepared["log_z_error"] == 0.25
    assert run.record["monte_carlo_error"] > 0.25
    one = run.evaluate(num_samples=1000)
    assert one["monte_carlo_error"] == pytest.approx(math.hypot(0.25, 0), abs=0.01)
    assert f"(Monte Carlo error {run.record['monte_carlo_error']:.3f}, effective" in headline(run.record)


def test_f55_codes_and_comparisons_use_what_was_prepared(run):
    measures = measure_run("boltzmann", run)
    for name in ("nll", "elbo", "kl", "mutual_information", "reconstruction"):
        assert np.isfinite(measures[name]), name
    assert np.isfinite(figure_row(run).kl["z"]).all()


def test_f55_a_loaded_run_is_prepared(run):
    loaded = loading.load(run.path, run.experiment)
    assert loaded.variables["prepared"]["log_z"] == run.variables["prepared"]["log_z"]
    assert np.isfinite(measure_run("loaded", loaded)["kl"])
