"""The training loop: few programs, flat memory, selection by validation, and options that leave the numbers unchanged."""

import gc
import itertools
import os

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import dgmzoo
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model.contract import Query
from dgmzoo.model.precision import in_precision
from dgmzoo.training import batches, devices, loop
from dgmzoo.training.devices import compile_dispatch
from dgmzoo.training.loop import NonFinite, fit
from dgmzoo.training.optimizer import burda
from tests.support.tiny import TINY, Quiet, prepared


@pytest.mark.thorough
def test_the_validation_split_is_evaluated_with_the_bound_that_is_trained():
    changes = TINY | {"objective": "iwae", "objective.num_samples": 7, "training.epochs": 1}
    exp, model, dataset = prepared(changes)
    callback = Quiet()
    fitted = fit(exp, model, dataset, 0, callback)
    rows = dataset.evaluation_rows("valid")
    estimate = evaluate(model, fitted.variables, rows, jax.random.key(0), num_samples=7)
    reading = [row for row in callback.rows if row["split"] == "valid"][-1]
    assert reading["loss"] == estimate.value and reading["elbo"] == estimate.elbo < -estimate.value


def test_f34_training_compiles_one_program(monkeypatch):
    exp, model, dataset = prepared(TINY | {"training.steps": 45, "execution.dispatch": 7})
    sizes, traces = [], itertools.count()

    def compile_and_count(step, devices, *rest):
        def traced(state, rows):
            next(traces)
            return step(state, rows)

        dispatch = compile_dispatch(traced, devices, *rest)

        def call(state, rows, indices, size):
            assert len(indices) == 7
            sizes.append(size)
            return dispatch(state, rows, indices, size)

        return call

    monkeypatch.setattr(devices, "compile_dispatch", compile_and_count)
    fit(exp, model, dataset, 0, Quiet())
    assert sum(sizes) == 45 and sizes[:2] == [1, 1] and max(sizes) == 7
    assert next(traces) <= 2  # of one program: the shapes of the metrics, and the loop


@pytest.mark.thorough
def test_resident_memory_is_flat():
    changes = {"training.steps": 1500, "execution.dispatch": 1, "training.validate_epochs": 40}
    exp, model, dataset = prepared(TINY | changes)
    pages = {}

    class Measure(Quiet):
        def progress(self, step, total, latest):
            if step % 19 == 0 and step // 19 in (16, 78):
                gc.collect()
                with open(f"/proc/{os.getpid()}/statm") as file:
                    pages[step // 19] = int(file.read().split()[1])

    fit(exp, model, dataset, 0, Measure())
    assert pages[78] <= pages[16] * 1.05


@pytest.mark.thorough  # to the bit with the compiler of users alone: see conftest.py
def test_streamed_rows_give_the_same_numbers_to_the_bit():
    variables = []
    for stream in (False, True):
        exp, model, dataset = prepared(TINY | {"training.epochs": 2, "execution.stream": stream})
        variables.append(fit(exp, model, dataset, 0, Quiet()).variables)
    for resident, streamed in zip(*map(jax.tree.leaves, variables), strict=True):
        np.testing.assert_array_equal(resident, streamed)


def test_early_stopping_counts_readings_without_improvement():
    changes = {"training.epochs": 50, "training.patience": 2, "training.validate_epochs": 1}
    changes |= {"training.schedule": "constant", "training.final_learning_rate": 0.0, "training.learning_rate": 1e-12}
    exp, model, dataset = prepared(TINY | changes)
    callback = Quiet()
    fitted = fit(exp, model, dataset, 0, callback)
    losses = callback.losses("valid")
    best = losses.index(min(losses))
    assert len(losses) < 50 and len(losses) == best + 3
    assert fitted.step == (best + 1) * 19


@pytest.mark.thorough
def test_the_moving_average_of_the_parameters_is_evaluated(monkeypatch):
    decay = 0.95
    exp, model, dataset = prepared(TINY | {"training.steps": 4, "training.ema": decay, "data.num_validation": 0})
    before, after, make_step = [], [], loop.make_step

    def make_recorded_step(*arguments):
        step = make_step(*arguments)

        def record(biases, state):
            bias = state.variables["params"]["likelihood"]["Dense_0"]["bias"]
            jax.debug.callback(lambda bias: biases.append(np.array(bias)), bias)

        def recorded_step(state, rows):
            record(before, state)
            state, metrics = step(state, rows)
            record(after, state)
            return state, metrics

        return recorded_step

    monkeypatch.setattr(loop, "make_step", make_recorded_step)
    fitted = fit(exp, model, dataset, 0, Quiet())
    jax.effects_barrier()
    mean = before[0]
    for step, bias in enumerate(after):
        rate = max(1 - decay, 9 / (step + 10))
        mean = mean + rate * (bias - mean)
    np.testing.assert_allclose(fitted.variables["params"]["likelihood"]["Dense_0"]["bias"], mean, rtol=1e-5)


def test_a_nan_stops_the_training_and_its_step_is_named():
    exp, model, dataset = prepared(TINY | {"training.epochs": 2})

    def with_nan(variables, batch, key, query=dgmzoo.Query()):  # noqa: B008
        evidence, updates = model.evidence(variables, batch, key, query)
        bad = jnp.where(query.step == 23, jnp.nan, 0.0)
        return evidence._replace(log_likelihood=evidence.log_likelihood + bad), updates

    with pytest.raises(NonFinite, match=r"at step 23 of vae/digits, seed 0, in .*loss"):
        fit(exp, model._replace(evidence=with_nan), dataset, 0, Quiet())


def test_the_schedule_of_burda_divides_the_rate_in_eight_stages():
    rate = burda(1e-3, 3280)
    starts = np.cumsum([0, *(3**i for i in range(8))])
    for stage in range(8):
        for step in (starts[stage], starts[stage + 1] - 1):
            np.testing.assert_allclose(rate(int(step)), 1e-3 * 10 ** (-stage / 7), rtol=1e-6)


def test_every_epoch_has_every_row_once_in_an_order_of_its_own():
    exp, _, dataset = prepared({"training.batch_size": 419, "training.epochs": 3})

    def new():
        return batches.Batches(exp.training, None, dataset.splits["train"], [5], jax.local_devices()[:1])

    rows = new()
    epochs = [rows.indices(3 * epoch, 3).ravel() for epoch in range(2)]
    assert all((np.sort(epoch) == np.arange(1257)).all() for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    assert (new().indices(2, 3) == np.concatenate([rows.indices(2, 1), rows.indices(3, 2)])).all()


def test_training_is_rematerialized_if_the_experiment_requests_it():
    several = TINY | {"objective": "iwae", "objective.num_samples": 4, "training.steps": 1}
    exp, model, _ = prepared(several)
    assert loop.training_model(exp, model, 100) is model
    exp, model, _ = prepared(several | {"training.remat": True})
    batch, key = {"x": jnp.zeros((2, 8, 8, 1))}, jax.random.key(0)
    variables = jax.eval_shape(model.init, key, batch)
    rematerialized = loop.training_model(exp, model, 100)
    program = jax.make_jaxpr(lambda variables: rematerialized.evidence(variables, batch, key, Query(4, train=True))[0])
    assert "checkpoint" in str(program(variables)) or "remat" in str(program(variables))
    with pytest.raises(ValueError, match=r"num_samples above 1 with training\.remat"):
        dgmzoo.experiment("vae/digits", {"training.remat": True})


def test_micro_batches_give_the_numbers_of_the_whole_batch():
    exact = {"model.hidden": (16,), "training.steps": 3, "training.optimizer": "sgd", "training.learning_rate": 0.1}
    exact |= {"training.final_learning_rate": 0.0, "data.encoding": "threshold", "data.num_validation": 0}
    variables = []
    for accumulate in (1, 4):
        exp, model, dataset = prepared(exact | {"training.accumulate": accumulate}, "ddnn/digits_made")
        variables.append(fit(exp, model, dataset, 0, Quiet()).variables)
    chex.assert_trees_all_close(*variables, atol=1e-6)


@pytest.mark.thorough
def test_state_passes_from_one_micro_batch_to_the_next():
    small = {"model.latent_dims": (4,), "model.hidden": (8,), "objective.baseline_hidden": (8,)}
    changes = small | {"training.steps": 2, "training.accumulate": 2}
    exp, model, dataset = prepared(changes, "dvae/digits_sigmoid_belief_network")
    signal = fit(exp, model, dataset, 0, Quiet()).variables["signal"]
    assert signal["mean"] < -1 and signal["variance"] > 0


@pytest.mark.thorough
def test_bfloat16_computes_in_bfloat16_and_keeps_parameters_in_float32():
    exp, model, dataset = prepared(TINY | {"training.epochs": 5, "training.compute": "bfloat16"})
    half, single = Quiet(), Quiet()
    fitted = fit(exp, model, dataset, 0, half)
    assert {leaf.dtype for leaf in jax.tree.leaves(fitted.variables)} == {jnp.dtype("float32")}
    fit(*prepared(TINY | {"training.epochs": 5}), 0, single)
    difference = np.array(half.losses("train")) - np.array(single.losses("train"))
    assert difference.any() and np.abs(difference).max() < 0.3
    evidence = in_precision(model, jnp.dtype("bfloat16")).evidence
    program = jax.make_jaxpr(evidence)(fitted.variables, {"x": jnp.zeros((2, 8, 8, 1))}, jax.random.key(0))
    products = [line for line in str(program).splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)


def test_a_batch_that_does_not_divide_into_micro_batches_is_refused():
    exp, model, dataset = prepared({"training.accumulate": 3})
    with pytest.raises(ValueError, match="multiple of 1 devices times 3 micro-batches"):
        fit(exp, model, dataset, 0, Quiet())
