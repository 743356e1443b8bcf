"""Parameters are selected by the loss that is trained, with extra losses and the KL of random weights (F2, F64)."""

import numpy as np
import pytest

from dgmzoo import ELBO, IWAE, MADE, MLP, VAE, VariationalWeights, api
from tests.support.own_entry import experiment_of

ENTRY = VAE(2, encoder=MLP((4,)), decoder=MLP((4,)))


def size(evidence, batch):
    """An extra loss that is large."""
    return 100 + 0 * batch["x"].sum(-1)


def trained(module=ENTRY, **parts):
    run = api.train(experiment_of(module, training={"epochs": 3, "steps": None}, **parts), progress=False)
    return run, [row for row in run.metrics if row["split"] == "valid"]


@pytest.mark.parametrize("objective", [ELBO(beta=0.1), ELBO(beta=2.0, free_bits=0.1, warmup_steps=100)])
def test_f2_the_validation_loss_is_that_of_the_objective(objective):
    run, rows = trained(objective=objective, extra_losses={"size": size})
    for row in rows:
        assert row["extra_loss/size"] == pytest.approx(100)
        log_likelihood = row["elbo"] + row["kl/z"]
        least = -log_likelihood + objective.beta * row["kl/z"] + 100
        if objective.free_bits:  # each of two units is penalized by its KL, and by free_bits at least
            assert least - 1e-4 <= row["loss"] <= least + 2 * objective.beta * objective.free_bits
        else:
            assert row["loss"] == pytest.approx(least, abs=1e-4)
    assert run.step == min(rows, key=lambda row: row["loss"])["step"]
    assert run.record["selected_by"] == "validation loss"


@pytest.mark.thorough
def test_f39_an_importance_weighted_objective_has_a_curve_of_its_bound():
    run, rows = trained(objective=IWAE(num_samples=4))
    train = [row for row in run.metrics if row["split"] == "train"]
    for row in rows + train:
        assert row["bound"] == pytest.approx(-row["loss"], abs=1e-4) and row["bound"] > row["elbo"]


@pytest.mark.thorough
def test_f64_the_kl_of_random_weights_is_in_the_bound_that_selects():
    run, rows = trained(MADE(hidden=(4,), weights=VariationalWeights()), objective=ELBO())
    last = [row for row in run.metrics if row["split"] == "train"][-1]
    # At the start the KL of some 60 weights over 48 rows is about the same in both splits.
    assert rows[-1]["loss"] == pytest.approx(-rows[-1]["elbo"], abs=1e-4)
    assert abs(rows[-1]["elbo"] - last["elbo"]) < 1.0
    assert run.record["elbo"] is None and run.record["bound"] == "predictive"
    assert np.isfinite(rows[-1]["loss"])
