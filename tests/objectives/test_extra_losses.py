"""A user's extra losses: in the loss of every objective, in the metrics, over several devices and in a loaded run."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import dgmzoo
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Evidence, Latent, Model
from dgmzoo.model.functional import functional
from dgmzoo.model.transforms import with_extra_losses
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.training.devices import compile_dispatch, init_on, place
from dgmzoo.training.step import make_init, make_step
from dgmzoo.zoo.vae.vae import VAE
from tests.support.tiny import TINY, skip_reports
from tests.support.toy_rows import X

SMALL = {"encoder": MLP((8,)), "decoder": MLP((8,)), "shape": (2, 2)}


def size(evidence, batch):
    """Half the squared norm of z, averaged over samples."""
    return jnp.square(evidence.latents["z"].value).sum(-1).mean(0) / 2


def brightness(evidence, batch):
    return batch["x"].reshape(len(batch["x"]), -1).mean(-1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def loss_and_metrics(objective, model, variables):
    return objective(model, variables, {"x": jnp.asarray(X)}, jax.random.key(3), jnp.asarray(0), 16)


@pytest.mark.parametrize(
    "objective",
    [ELBO(2), IWAE(3), DReG(3), NVIL(2, baseline_hidden=(4,))],
    ids=lambda objective: type(objective).__name__,
)
def test_every_objective_adds_extra_losses(objective):
    bits = VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)
    model = functional(VAE(2, latent=bits if isinstance(objective, NVIL) else VariationalLayer(), **SMALL))
    key, batch = jax.random.key(0), {"x": jnp.asarray(X)}
    variables, own = jax.jit(model.init)(key, batch), objective.init(key, batch)
    variables = {**variables, **own, "params": {**variables["params"], **own.get("params", {})}}
    without, (metrics, _) = loss_and_metrics(objective, model, variables)
    assert not [name for name in metrics if name.startswith("extra_loss/")]
    extended = with_extra_losses(model, {"size": size, "b": brightness})
    loss, (metrics, _) = loss_and_metrics(objective, extended, variables)
    assert metrics["extra_loss/b"] == pytest.approx(X.mean(), rel=1e-6) and metrics["extra_loss/size"] > 0.05
    assert loss - without == pytest.approx(float(metrics["extra_loss/size"] + metrics["extra_loss/b"]), abs=1e-5)
    assert metrics["loss"] == loss


def test_the_gradient_over_discrete_samples_is_that_of_the_expectation():
    """Bits z ~ Bernoulli(sigmoid(a)), loss c'z + z1 z2 over K = 2 samples: the mean of the estimator is exact."""
    cost = jnp.array([0.7, -0.4])

    def model_of(logits, key):
        logits = jnp.broadcast_to(logits, (2, 3, 2))
        z = jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)
        log_q = jax.nn.log_sigmoid(jnp.where(z > 0, logits, -logits)).sum(-1)
        zeros = jnp.zeros((2, 3))
        latent = Latent(z, z, jax.lax.stop_gradient(log_q), log_q, jnp.zeros((1, 3, 2)), {"mean": z})
        return Model(None, lambda *_: (Evidence(zeros, {"z": latent}), {}), None, None, "elbo")

    def of_both_samples(evidence, batch):
        z = evidence.latents["z"].value
        return ((z * cost[None, None]).sum(-1) + z.prod(-1)).prod(0)

    objective = NVIL(2, baseline_hidden=(2,))
    own = objective.init(jax.random.key(0), {"x": jnp.zeros((3, 1))})

    def loss(logits, key, extra_losses):
        model = with_extra_losses(model_of(logits, key), extra_losses)
        return objective(model, own, {"x": jnp.zeros((3, 1))}, key, jnp.asarray(0), 3)[0]

    def gradients(extra_losses):
        return jax.vmap(jax.grad(functools.partial(loss, extra_losses=extra_losses)), (None, 0))

    def expectation(logits):
        p = jax.nn.sigmoid(logits)
        return jnp.square(jnp.dot(p, cost) + p[0] * p[1])  # of two independent samples

    @jax.jit
    def compare(logits, keys):
        difference = gradients({"both": of_both_samples})(logits, keys) - gradients({})(logits, keys)
        return difference.mean(0), difference.std(0), jax.grad(expectation)(logits)

    mean, sd, exact = compare(jnp.array([0.3, -0.5]), jax.random.split(jax.random.key(1), 40_000))
    error = sd / 200
    assert (jnp.abs(mean - exact) < 4 * error).all() and (jnp.abs(exact) > 10 * error).all()


def test_metrics_are_averaged_over_devices_and_the_loss_contains_them():
    model = with_extra_losses(functional(VAE(2, **SMALL)), {"b": brightness, "size": size})
    observe, optimizer = (lambda key, rows: dict(rows)), optax.sgd(0.1)
    init = make_init(model, ELBO(), optimizer, observe, ema=False)
    step = make_step(model, ELBO(), optimizer, observe, 16, None)
    rows, indices = {"x": jnp.asarray(X)}, np.arange(16, dtype=np.int32)[None]
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        state = init_on(init, jax.random.key(0), rows, devices)
        _, metrics = compile_dispatch(step, devices)(state, place(rows, devices), indices)
        assert float(metrics["extra_loss/b"][0]) == pytest.approx(X.mean(), rel=1e-6)
        parts = metrics["extra_loss/b"] + metrics["extra_loss/size"] - metrics["elbo"]
        np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-5)


QUICK = TINY | {"training.steps": 20, "training.batch_size": 64, "evaluation.num_samples": 2}


@pytest.mark.thorough
def test_a_run_keeps_their_names_and_is_loaded_with_them(tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    exp = dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": {"size": size}})
    run = dgmzoo.train(exp, tmp_path, progress=False)
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert all(row["extra_loss/size"] > 0 for row in rows)
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["extra_loss/size"] - rows[-1]["elbo"], rel=1e-4)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["experiment"] is None and "size@" in stored["resolved"]["extra_losses"]["size"]
    with pytest.raises(ValueError, match="pass it"):
        dgmzoo.load(tmp_path)
    assert dgmzoo.load(tmp_path, experiment=exp).record["value"] == run.record["value"]
    for others in ({}, {"size": brightness}, {"other": size}):
        with pytest.raises(ValueError, match="extra_losses was"):
            dgmzoo.train(dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": others}), tmp_path, progress=False)


@pytest.mark.thorough
def test_an_experiment_file_may_define_them(tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    text = """
import dataclasses
import dgmzoo
def ones(evidence, batch):
    return evidence.log_likelihood.mean(0) * 0 + 2.5
experiment = dataclasses.replace(dgmzoo.experiment("vae/digits"), extra_losses={"ones": ones}, name="")
"""
    (tmp_path / "mine.py").write_text(text)
    run = dgmzoo.train(dgmzoo.experiment(str(tmp_path / "mine.py"), QUICK), tmp_path / "run", progress=False)
    assert run.metrics[0]["extra_loss/ones"] == pytest.approx(2.5)
    assert dgmzoo.load(tmp_path / "run").experiment.extra_losses["ones"].__name__ == "ones"


@pytest.mark.parametrize(
    "extra_losses, reason",
    [
        ({"size": lambda evidence, batch: size(evidence, batch).mean()}, "one number per example"),
        ({"size": lambda evidence, batch: evidence.log_q}, "average over samples"),
        ({"size": 3.0}, "extra_losses"),
        ({3: size}, "extra_losses"),
    ],
    ids=["mean over examples", "of each sample", "a number", "a number as name"],
)
def test_bad_extra_losses_are_refused_before_anything_is_written(extra_losses, reason, tmp_path):
    with pytest.raises(ValueError, match=f"expected.*{reason}"):
        changes = {**QUICK, "extra_losses": extra_losses}
        dgmzoo.train(dgmzoo.experiment("vae/digits", changes), tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()
    assert dgmzoo.experiment("vae/digits").extra_losses == {}


def test_a_name_that_the_entry_uses_is_refused():
    model = Model(None, lambda *_: (Evidence(jnp.zeros((1, 2)), aux={"own": jnp.zeros(2)}), {}), None, None, None)
    extended = with_extra_losses(model, {"own": lambda evidence, batch: jnp.zeros(2)})
    with pytest.raises(ValueError, match="choose another"):
        ELBO()(extended, {}, {"x": jnp.zeros((2, 1))}, jax.random.key(0), jnp.asarray(0), 2)
