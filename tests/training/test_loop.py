"""Training and measuring as a whole: the right value, two programs, flat memory, selection, the run in Python."""

import gc
import itertools
import os

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model.contract import Draw, Evidence
from dgmzoo.model.precision import in_precision
from dgmzoo.reparam.ops import relaxed_promotion
from dgmzoo.training import batches, devices, loop
from dgmzoo.training.devices import compile_dispatch
from dgmzoo.training.loop import NonFinite, fit
from dgmzoo.training.optimizer import burda
from dgmzoo.training.seed_tracker import SeedTracker
from tests.support.tiny import TINY, Quiet, prepared


def independent_pixels(dataset) -> float:
    """Negative log-likelihood of the test split where every pixel is a coin of its own, in nats."""
    source = dataset.splits["train"]["x"].astype(np.float64) / 16
    p = np.clip(source.mean(0), 1e-3, 1 - 1e-3)
    x = dataset.evaluation_rows("test")["x"]
    return -float((x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3)).mean())


@pytest.fixture(scope="module")
def digits():
    """The README's first run, at a fifth of its length."""
    return dgmzoo.train(
        dgmzoo.experiment("vae/digits", {"training.epochs": 60, "evaluation.num_samples": 200}), progress=False
    )


def test_digits_beat_independent_pixels_by_two_nats(digits):
    assert digits.record["value"] < independent_pixels(digits.dataset) - 2
    assert digits.record["bound"] == "iw" and digits.record["elbo"] <= -digits.record["value"]
    assert digits.record["train_value"] < digits.record["value"] + 0.5


def test_the_best_of_the_validation_split_is_kept(digits):
    valid = [row for row in digits.metrics if row["split"] == "valid"]
    assert len(valid) == 6
    assert digits.step == min(valid, key=lambda row: row["loss"])["step"]


def test_the_validation_split_is_read_by_the_bound_that_is_trained():
    changes = TINY | {"objective": "iwae", "objective.num_samples": 7, "training.epochs": 1}
    exp, model, dataset = prepared(changes)
    callback = Quiet()
    fitted = fit(exp, model, dataset, 0, callback)
    found = evaluate(model, fitted.variables, dataset.evaluation_rows("valid"), jax.random.key(0), num_samples=7)
    read = [row for row in callback.rows if row["split"] == "valid"][-1]
    assert read["loss"] == found.value and read["elbo"] == found.elbo < -found.value


def test_a_run_in_python(digits):
    x = digits.dataset.evaluation_rows("test", 7)["x"]
    code = digits.encode(x)["z"]
    assert code["loc"].shape == code["mean"].shape == (7, 20) and (code["scale"] > 0).all()
    again = digits.reconstruct(x)
    assert again.shape == x.shape and np.abs(again - x).mean() < np.abs(again[::-1] - x).mean()
    assert digits.sample(5).shape == (5, 8, 8, 1) and set(np.unique(digits.sample(5))) <= {0, 1}
    assert 0 < digits.sample(5, mean=True).mean() < 1
    assert (digits.sample(5, seed=1) == digits.sample(5, seed=1)).all()
    assert digits.evaluate("valid", 3)["num_samples"] == 3
    few = digits.evaluate(num_samples=3, num_examples=7, seed=5)
    assert few["num_examples"] == 7 and few["value"] != digits.evaluate(num_samples=3, num_examples=7)["value"]
    told = {"evaluation.num_samples": 3, "evaluation.num_examples": 7, "evaluation.seed": 5}
    assert few["overrides"] == digits.record["overrides"] | told
    assert "nats" in repr(digits) and "<svg" in digits._repr_html_() and "image/png" in digits._repr_html_()
    raw = digits.dataset.splits["test"]["x"][:7]  # up to 16
    for ask in (digits.encode, digits.reconstruct):
        for wrong in (raw, raw.astype(np.float32)):
            with pytest.raises(
                ValueError, match=r"x in \[0, 1\], as a model of 'digits' sees it, got raw .* up to 1\d"
            ):
                ask(wrong)
        ask(np.full_like(x, 0.1) + (x - 0.5) * 3)  # what a model with another output might draw
    digits.encode({"x": np.where(x == 1, 99.0, x), "mask": np.int32(x != 1)})  # what is not observed does not matter
    with pytest.raises(ValueError, match="expected a split"):
        digits.evaluate("dev")
    with pytest.raises(ValueError, match="expected a field of Evaluation"):
        digits.evaluate(num_sample=3)
    with pytest.raises(ValueError, match="weight_draws of a model with random weights"):
        digits.evaluate(weight_draws=3)
    with pytest.raises(ValueError, match="expected num to be a whole number"):
        digits.sample(0)


@pytest.mark.parametrize("name, epochs", [("dvae/digits_sigmoid_belief_network", 150), ("ddnn/digits_made", 40)])
def test_the_other_families_beat_independent_pixels(name, epochs):
    run = dgmzoo.train(
        dgmzoo.experiment(name, {"training.epochs": epochs, "evaluation.num_samples": 100}), progress=False
    )
    assert run.record["value"] < independent_pixels(run.dataset) - 2
    assert run.record["bound"] == ("exact" if name.startswith("ddnn") else "iw")
    assert run.record["standard_error"] > 0


def test_at_most_two_training_programs(monkeypatch):
    exp, model, dataset = prepared(TINY | {"training.steps": 45, "execution.dispatch": 7})
    sizes, traces = [], itertools.count()
    real = compile_dispatch

    def counted(step, devices, *rest):
        def traced(state, rows):
            next(traces)
            return step(state, rows)

        dispatch = real(traced, devices, *rest)

        def call(state, rows, indices):
            sizes.append(len(indices))
            return dispatch(state, rows, indices)

        return call

    monkeypatch.setattr(devices, "compile_dispatch", counted)
    fit(exp, model, dataset, 0, Quiet())
    assert sum(sizes) == 45 and set(sizes) == {7, 1}
    assert next(traces) == 2


def test_memory_is_flat():
    exp, model, dataset = prepared(
        TINY | {"training.steps": 3000, "execution.dispatch": 1, "training.validate_epochs": 100}
    )
    resident = {}

    class Weigh(Quiet):
        def progress(self, step, total, latest):
            if step in (304, 2995) or (step // 19 in (16, 157) and step % 19 == 0):
                gc.collect()
                with open(f"/proc/{os.getpid()}/statm") as file:
                    resident[step] = int(file.read().split()[1])

    fit(exp, model, dataset, 0, Weigh())
    early, late = resident[min(resident)], resident[max(resident)]
    assert max(resident) > 2900 and min(resident) < 320
    assert late <= early * 1.05


def test_streamed_rows_give_the_same_numbers_to_the_bit():
    found = []
    for stream in (False, True):
        exp, model, dataset = prepared(TINY | {"training.epochs": 2, "execution.stream": stream})
        found.append(fit(exp, model, dataset, 0, Quiet()).variables)
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_counts_readings_without_improvement():
    exp, model, dataset = prepared(
        TINY | {"training.epochs": 50, "training.patience": 2, "training.validate_epochs": 1,
                "training.schedule": "constant", "training.final_learning_rate": 0.0, "training.learning_rate": 1e-12}
    )  # fmt: skip
    watch = Quiet()
    fitted = fit(exp, model, dataset, 0, watch)
    losses = [row["loss"] for row in watch.rows if row["split"] == "valid"]
    best = losses.index(min(losses))
    assert len(losses) < 50 and len(losses) == best + 3
    assert fitted.step == (best + 1) * 19


def test_the_average_of_the_parameters_is_what_is_evaluated():
    decay = 0.95
    exp, model, dataset = prepared(TINY | {"training.steps": 4, "training.ema": decay, "data.num_validation": 0})
    before, trail, real = [], [], loop.make_step

    def keep(*arguments):
        step = real(*arguments)

        def note(where, state):
            bias = state.variables["params"]["likelihood"]["Dense_0"]["bias"]
            jax.debug.callback(lambda bias: where.append(np.array(bias)), bias)

        def kept(state, rows):
            note(before, state)
            state, metrics = step(state, rows)
            note(trail, state)
            return state, metrics

        return kept

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "make_step", keep)
        fitted = fit(exp, model, dataset, 0, Quiet())
    jax.effects_barrier()
    mean = before[0]
    for step, bias in enumerate(trail):
        rate = max(1 - decay, 9 / (step + 10))
        mean = mean + rate * (bias - mean)
    np.testing.assert_allclose(fitted.variables["params"]["likelihood"]["Dense_0"]["bias"], mean, rtol=1e-5)


def test_nan_in_the_loss_names_the_step():
    exp, model, dataset = prepared(TINY | {"training.epochs": 2})

    def poisoned(variables, batch, key, query=dgmzoo.Query()):  # noqa: B008
        evidence, updates = model.evidence(variables, batch, key, query)
        bad = jnp.where(query.step == 23, jnp.nan, 0.0)
        return evidence._replace(log_likelihood=evidence.log_likelihood + bad), updates

    with pytest.raises(NonFinite, match=r"at step 23 of vae/digits, seed 0, in .*loss"):
        fit(exp, model._replace(evidence=poisoned), dataset, 0, Quiet())


def test_burdas_schedule():
    rate = burda(1e-3, 3280)
    starts = np.cumsum([0, *(3**i for i in range(8))])
    for stage in range(8):
        for step in (starts[stage], starts[stage + 1] - 1):
            np.testing.assert_allclose(rate(int(step)), 1e-3 * 10 ** (-stage / 7), rtol=1e-6)


def test_every_epoch_sees_every_row_once_in_an_order_of_its_own():
    exp, _, dataset = prepared({"training.batch_size": 419, "training.epochs": 3})
    rows = batches.Batches(exp.training, None, dataset.splits["train"], [5], jax.local_devices()[:1])
    epochs = [rows.indices(3 * epoch, 3).ravel() for epoch in range(2)]
    assert all((np.sort(epoch) == np.arange(1257)).all() for epoch in epochs)
    assert (epochs[0] != epochs[1]).any()
    again = batches.Batches(exp.training, None, dataset.splits["train"], [5], jax.local_devices()[:1])
    assert (again.indices(2, 3) == np.concatenate([rows.indices(2, 1), rows.indices(3, 2)])).all()


EXACT = {"model.hidden": (16,), "training.steps": 3, "training.optimizer": "sgd", "training.learning_rate": 0.1,
         "training.final_learning_rate": 0.0, "data.encoding": "threshold", "data.num_validation": 0}  # fmt: skip


def test_rematerialisation_is_asked_for_by_the_experiment(monkeypatch):
    asked = []
    monkeypatch.setattr(loop, "rematerialized", lambda model: asked.append(model) or model)
    for wanted in (False, True):
        several = {"objective": "iwae", "objective.num_samples": 4, "training.steps": 1, "training.remat": wanted}
        exp, model, dataset = prepared(TINY | several)
        loop._Loop(exp, model, dataset, [SeedTracker("", 0, Quiet(), None)], None)
    assert len(asked) == 1
    with pytest.raises(ValueError, match=r"num_samples above 1 with training\.remat"):
        dgmzoo.experiment("vae/digits", {"training.remat": True})


def test_parts_of_a_batch_give_the_same_numbers():
    found = []
    for extra in ({}, {"training.accumulate": 4}):
        exp, model, dataset = prepared(EXACT | extra, "ddnn/digits_made")
        found.append(fit(exp, model, dataset, 0, Quiet()).variables)
    chex.assert_trees_all_close(*found, atol=1e-6)


def test_accumulation_passes_state_from_part_to_part():
    exp, model, dataset = prepared(
        {"training.steps": 2, "training.accumulate": 2}, "dvae/digits_sigmoid_belief_network"
    )
    signal = fit(exp, model, dataset, 0, Quiet()).variables["signal"]
    assert signal["mean"] < -1 and signal["variance"] > 0


def test_bfloat16_computes_in_bfloat16_and_keeps_the_rest_in_float32():
    exp, model, dataset = prepared(TINY | {"training.epochs": 5, "training.compute": "bfloat16"})
    rows, exact = Quiet(), Quiet()
    fitted = fit(exp, model, dataset, 0, rows)
    assert {leaf.dtype for leaf in jax.tree.leaves(fitted.variables)} == {jnp.dtype("float32")}
    fit(*prepared(TINY | {"training.epochs": 5}), 0, exact)
    ours, theirs = (np.array([row["loss"] for row in each.rows]) for each in (rows, exact))
    assert (ours != theirs).any() and np.abs(ours - theirs).max() < 0.3
    text = str(jax.make_jaxpr(in_precision(model, jnp.dtype("bfloat16")).evidence)(
        fitted.variables, {"x": jnp.zeros((2, 8, 8, 1))}, jax.random.key(0)))  # fmt: skip
    products = [line for line in text.splitlines() if "dot_general" in line]
    assert products and all("bf16" in line for line in products)


def test_a_batch_that_does_not_divide_is_refused():
    exp, model, dataset = prepared({"training.accumulate": 3})
    with pytest.raises(ValueError, match="multiple of 1 devices times 3 micro-batches"):
        fit(exp, model, dataset, 0, Quiet())


def test_monte_carlo_error_is_that_of_many_keys(digits):
    rows = digits.dataset.evaluation_rows("test", 40)
    for num_samples in (3, 60):
        found = [evaluate(digits.model, digits.variables, rows, jax.random.key(i), num_samples) for i in range(60)]
        spread = np.std([each.value for each in found], ddof=1)
        told = np.mean([each.monte_carlo_error for each in found])
        assert 0.6 < told / spread < 1.5, (
            num_samples,
            told,
            spread,
        )  # chi-square of 59 draws, and the delta method's bias
    one = evaluate(digits.model, digits.variables, rows, jax.random.key(0), 1)
    assert np.isnan(one.monte_carlo_error)


class Labelled(nn.Module):
    """log p(x | label) of binary x, one table; no output, no reconstruction."""

    bound = "exact"
    shape: tuple[int, ...] | None = None

    def setup(self):
        self.logits = self.param("logits", nn.initializers.zeros, (3, 4))

    def evidence(self, batch, query):
        p = dist.BernoulliLogits(self.logits[batch["label"]])
        with relaxed_promotion():
            return Evidence(p.log_prob(batch["x"]).sum(-1)[None])

    def generate(self, num, context=None):
        logits = self.logits[context["label"]]
        return Draw(jax.random.bernoulli(self.make_rng("sample"), jax.nn.sigmoid(logits)).astype(jnp.float32), logits)


def test_a_conditional_model_without_output_goes_all_the_way(tmp_path):
    random = np.random.default_rng(0)
    x, label = random.integers(0, 2, (300, 4)).astype(np.float32), random.integers(0, 3, 300).astype(np.int32)
    mine = dgmzoo.from_arrays({"x": x, "label": label}, encoding=None)
    exp = dgmzoo.Experiment(model=Labelled(), data=mine, training=dgmzoo.Training(epochs=2, batch_size=50))
    run = dgmzoo.train(exp, tmp_path / "run", progress=False)
    assert run.record["bound"] == "exact" and (tmp_path / "run/report.html").is_file()
    assert run.sample(5, context={"label": np.zeros(5, np.int32)}).shape == (5, 4)
    again = dgmzoo.load(tmp_path / "run", experiment=exp)
    assert again.evaluate()["value"] == run.record["value"]
    with pytest.raises(ValueError, match="hand it over"):
        dgmzoo.load(tmp_path / "run")


def test_data_without_a_test_split_are_refused_before_training():
    x = np.zeros((50, 4), np.float32)
    with pytest.raises(ValueError, match="test"):
        dgmzoo.train(
            dgmzoo.Experiment(model=Labelled(), data=dgmzoo.from_arrays(x, x), training=dgmzoo.Training(epochs=1))
        )
