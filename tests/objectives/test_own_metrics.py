"""An objective's own metrics: rows, curves, and steps that do not compute them (F61); the least number of samples."""

import dataclasses
import math
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo import api
from dgmzoo.evaluation.estimate import Estimate
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.report import plots, render
from dgmzoo.training.seed_tracker import NonFinite
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import experiment_of


@dataclasses.dataclass(frozen=True)
class WithMetrics(ELBO):
    """The ELBO with a metric of every step, and one of every third step."""

    broken: str | None = None

    def __call__(self, model, variables, batch, key, step, num_data):
        loss, (metrics, updates) = super().__call__(model, variables, batch, key, step, num_data)
        third = jnp.where(step % 3 == 0, step.astype(jnp.float32), jnp.nan)
        metrics |= {"temperature": jnp.asarray(0.5), "third": third, "never": jnp.asarray(jnp.nan)}
        if self.broken:
            metrics[self.broken] = jnp.asarray(jnp.nan)
        return loss, (metrics, updates)


def small():
    return VAE(2, encoder=dgmzoo.MLP((4,)), decoder=dgmzoo.MLP((4,)))


@pytest.mark.thorough
def test_f61_own_metrics_have_rows_and_curves_and_may_be_missing_in_a_step():
    run = api.train(experiment_of(small(), {"steps": 12}, objective=WithMetrics()), progress=False)
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert [row["temperature"] for row in rows] == [0.5] * len(rows) and "never" not in rows[0]
    assert [row["step"] for row in rows] == [6, 12]
    assert [row["third"] for row in rows] == [np.mean([0, 3]), np.mean([6, 9])]
    curves = plots.metric_curves(run.metrics)
    assert curves.count('id="axes_') == 2
    figures = render._figures(run, Estimate(*[np.zeros(2)] * 3, kl={}, means={}))
    assert figures["Extra losses and further metrics"].startswith("<svg")


@pytest.mark.parametrize("name", ["loss", "elbo", "kl/z"])
def test_f61_the_loss_and_its_terms_must_be_finite_in_every_step(name):
    with pytest.raises(NonFinite, match=f"at step 0 .*in .*{name}"):
        api.train(experiment_of(small(), objective=WithMetrics(broken=name)), progress=False)


def test_an_objective_has_a_least_number_of_samples():
    @dataclasses.dataclass(frozen=True)
    class Paired(ELBO):
        least_samples: ClassVar[int] = 2

    assert Paired(2).num_samples == 2
    with pytest.raises(ValueError, match=r"objective.num_samples >= 2 with Paired, got 1"):
        Paired()


def test_finish_is_public():
    loss, (metrics, _) = dgmzoo.finish(jnp.array(2.0), dgmzoo.Evidence(jnp.full((1, 3), -2.0)), 3, {})
    assert float(loss) == 2.0 and math.isclose(metrics["elbo"], -2.0)
