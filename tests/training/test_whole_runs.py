"""Whole runs of each family: values better than those of simple models, selection, and the run as an object in Python."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import dgmzoo
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.model.contract import Draw, Evidence
from dgmzoo.reparam.ops import relaxed_promotion


def independent_pixels(dataset) -> float:
    """Negative log-likelihood of the test split if every pixel is an independent bit, in nats."""
    source = dataset.splits["train"]["x"].astype(np.float64) / 16
    p = np.clip(source.mean(0), 1e-3, 1 - 1e-3)
    x = dataset.evaluation_rows("test")["x"]
    return -float((x * np.log(p) + (1 - x) * np.log1p(-p)).sum((1, 2, 3)).mean())


@pytest.fixture(scope="module")
def digits():
    """The README's first run with smaller networks, at a fifth of its length."""
    changes = {"model.encoder.hidden": (64,), "model.decoder.hidden": (64,), "model.latent_dim": 8}
    changes |= {"training.epochs": 60, "evaluation.num_samples": 200}
    return dgmzoo.train(dgmzoo.experiment("vae/digits", changes), progress=False)


def test_digits_beat_independent_pixels_by_two_nats(digits):
    assert digits.record["value"] < independent_pixels(digits.dataset) - 2
    assert digits.record["bound"] == "iw" and digits.record["elbo"] <= -digits.record["value"]
    assert digits.record["train_value"] < digits.record["value"] + 0.5


def test_the_best_parameters_on_the_validation_split_are_selected(digits):
    valid = [row for row in digits.metrics if row["split"] == "valid"]
    assert len(valid) == 6
    assert digits.step == min(valid, key=lambda row: row["loss"])["step"]


def test_a_run_encodes_reconstructs_and_samples(digits):
    x = digits.dataset.evaluation_rows("test", 7)["x"]
    code = digits.encode(x)["z"]
    assert code["loc"].shape == code["mean"].shape == (7, 8) and (code["scale"] > 0).all()
    reconstruction = digits.reconstruct(x)
    assert reconstruction.shape == x.shape
    assert np.abs(reconstruction - x).mean() < np.abs(reconstruction[::-1] - x).mean()
    assert digits.sample(5).shape == (5, 8, 8, 1) and set(np.unique(digits.sample(5))) <= {0, 1}
    assert 0 < digits.sample(5, mean=True).mean() < 1
    assert (digits.sample(5, seed=1) == digits.sample(5, seed=1)).all()
    with pytest.raises(ValueError, match="expected num to be a whole number"):
        digits.sample(0)
    assert "nats" in repr(digits) and "<svg" in digits._repr_html_() and "image/png" in digits._repr_html_()


def test_a_run_refuses_raw_intensities(digits):
    x = digits.dataset.evaluation_rows("test", 7)["x"]
    raw = digits.dataset.splits["test"]["x"][:7]  # up to 16
    for ask in (digits.encode, digits.reconstruct):
        for wrong in (raw, raw.astype(np.float32)):
            with pytest.raises(
                ValueError, match=r"x in \[0, 1\], as a model of 'digits' sees it, got raw .* up to 1\d"
            ):
                ask(wrong)
        ask(np.full_like(x, 0.1) + (x - 0.5) * 3)  # samples of a model with another likelihood
    digits.encode({"x": np.where(x == 1, 99.0, x), "mask": np.int32(x != 1)})  # missing elements do not matter


def test_a_run_is_evaluated_with_other_settings(digits):
    assert digits.evaluate("valid", 3)["num_samples"] == 3
    few = digits.evaluate(num_samples=3, num_examples=7, seed=5)
    assert few["num_examples"] == 7 and few["value"] != digits.evaluate(num_samples=3, num_examples=7)["value"]
    changes = {"evaluation.num_samples": 3, "evaluation.num_examples": 7, "evaluation.seed": 5}
    assert few["overrides"] == digits.record["overrides"] | changes
    with pytest.raises(ValueError, match="expected a split"):
        digits.evaluate("dev")
    with pytest.raises(ValueError, match="expected a field of Evaluation"):
        digits.evaluate(num_sample=3)
    with pytest.raises(ValueError, match="weight_draws of a model with random weights"):
        digits.evaluate(weight_draws=3)


@pytest.mark.parametrize("num_samples", [30, pytest.param(90, marks=pytest.mark.thorough)])
def test_the_monte_carlo_error_is_the_spread_over_keys(digits, num_samples):
    rows = digits.dataset.evaluation_rows("test", 40)

    def estimate(key, num_samples):
        return evaluate(digits.model, digits.variables, rows, jax.random.key(key), num_samples)

    estimates = [estimate(key, num_samples) for key in range(60)]
    spread = np.std([each.value for each in estimates], ddof=1)
    reported = np.mean([each.monte_carlo_error for each in estimates])
    # The spread of 60 values has a relative error of about 9 %; the delta method has a bias of its own.
    assert 0.6 < reported / spread < 1.5, (reported, spread)
    assert np.isnan(estimate(0, 1).monte_carlo_error) and np.isnan(estimate(0, 3).monte_carlo_error)


def check_family(name, epochs, bound):
    changes = {"training.epochs": epochs, "evaluation.num_samples": 100}
    run = dgmzoo.train(dgmzoo.experiment(name, changes), progress=False)
    assert run.record["value"] < independent_pixels(run.dataset) - 2
    assert run.record["bound"] == bound
    assert run.record["standard_error"] > 0


@pytest.mark.thorough
def test_a_density_network_beats_independent_pixels():
    check_family("ddnn/digits_made", 40, "exact")


@pytest.mark.thorough
def test_a_discrete_vae_beats_independent_pixels():
    check_family("dvae/digits_sigmoid_belief_network", 150, "iw")


class Labelled(nn.Module):
    """log p(x | label) of binary x from a table; no parameters of p(x), hence no reconstruction."""

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


def test_a_conditional_model_without_reconstructions_is_trained_reported_and_loaded(tmp_path):
    random = np.random.default_rng(0)
    x, label = random.integers(0, 2, (300, 4)).astype(np.float32), random.integers(0, 3, 300).astype(np.int32)
    mine = dgmzoo.from_arrays({"x": x, "label": label}, encoding=None)
    exp = dgmzoo.Experiment(model=Labelled(), data=mine, training=dgmzoo.Training(epochs=2, batch_size=50))
    run = dgmzoo.train(exp, tmp_path / "run", progress=False)
    assert run.record["bound"] == "exact" and (tmp_path / "run/report.html").is_file()
    assert run.sample(5, context={"label": np.zeros(5, np.int32)}).shape == (5, 4)
    loaded = dgmzoo.load(tmp_path / "run", experiment=exp)
    assert loaded.evaluate()["value"] == run.record["value"]
    with pytest.raises(ValueError, match="pass it"):
        dgmzoo.load(tmp_path / "run")


def test_data_without_a_test_split_are_refused_before_training():
    x = np.zeros((50, 4), np.float32)
    exp = dgmzoo.Experiment(model=Labelled(), data=dgmzoo.from_arrays(x, x), training=dgmzoo.Training(epochs=1))
    with pytest.raises(ValueError, match="test"):
        dgmzoo.train(exp)
