"""A user's further loss terms: in the loss of every objective, in the metrics, over devices, and across a resume."""

import collections
import functools
import json
import random
from fractions import Fraction

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest

import dgmzoo
from dgmzoo.config import function_identity
from dgmzoo.config.experiment import load
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
from tests.support.toy_rows import X

SMALL = {"encoder": MLP((8,)), "decoder": MLP((8,)), "shape": (2, 2)}


def size(evidence, batch):
    """Half the squared size of z, averaged over samples."""
    return jnp.square(evidence.latents["z"].value).sum(-1).mean(0) / 2


def brightness(evidence, batch):
    return batch["x"].reshape(len(batch["x"]), -1).mean(-1)


@functools.partial(jax.jit, static_argnums=(0, 1))
def loss_and_metrics(objective, model, variables):
    return objective(model, variables, {"x": jnp.asarray(X)}, jax.random.key(3), jnp.asarray(0), 16)


@pytest.mark.parametrize(
    "objective", [ELBO(2), IWAE(3), DReG(3), NVIL(2, baseline_hidden=(4,))], ids=lambda each: type(each).__name__
)
def test_every_objective_adds_them(objective):
    bits = VariationalLayer(posterior=dist.BernoulliLogits, prior=dist.BernoulliLogits)
    model = functional(VAE(2, latent=bits if isinstance(objective, NVIL) else VariationalLayer(), **SMALL))
    key, batch = jax.random.key(0), {"x": jnp.asarray(X)}
    variables, own = model.init(key, batch), objective.init(key, batch)
    variables = {**variables, **own, "params": {**variables["params"], **own.get("params", {})}}
    plain, (metrics, _) = loss_and_metrics(objective, model, variables)
    assert not [name for name in metrics if name.startswith("extra_loss/")]
    changed, (metrics, _) = loss_and_metrics(
        objective, with_extra_losses(model, {"size": size, "b": brightness}), variables
    )
    assert metrics["extra_loss/b"] == pytest.approx(X.mean(), rel=1e-6) and metrics["extra_loss/size"] > 0.05
    assert changed - plain == pytest.approx(float(metrics["extra_loss/size"] + metrics["extra_loss/b"]), abs=1e-5)
    assert metrics["loss"] == changed


def test_the_gradient_of_a_term_over_discrete_samples_is_that_of_its_expectation():
    """Bits z ~ Bernoulli(sigmoid(a)), term c'z + z1 z2 over K = 2 draws: the estimator's mean over draws is exact."""
    cost = jnp.array([0.7, -0.4])

    def model_of(logits, key):
        logits = jnp.broadcast_to(logits, (2, 3, 2))
        z = jax.random.bernoulli(key, jax.nn.sigmoid(logits)).astype(jnp.float32)
        log_q = jax.nn.log_sigmoid(jnp.where(z > 0, logits, -logits)).sum(-1)
        flat = jnp.zeros((2, 3))
        latent = Latent(z, z, jax.lax.stop_gradient(log_q), log_q, jnp.zeros((1, 3, 2)), {"mean": z})
        return Model(None, lambda *_: (Evidence(flat, {"z": latent}), {}), None, None, "elbo")

    def term(evidence, batch):
        z = evidence.latents["z"].value
        return ((z * cost[None, None]).sum(-1) + z.prod(-1)).prod(0)  # of both samples at once

    objective = NVIL(2, baseline_hidden=(2,))
    own = objective.init(jax.random.key(0), {"x": jnp.zeros((3, 1))})

    def loss(logits, key, terms):
        model = with_extra_losses(model_of(logits, key), terms)
        return objective(model, own, {"x": jnp.zeros((3, 1))}, key, jnp.asarray(0), 3)[0]

    logits = jnp.array([0.3, -0.5])
    keys = jax.random.split(jax.random.key(1), 40_000)
    each = jax.jit(jax.vmap(jax.grad(functools.partial(loss, terms={"t": term})), (None, 0)))(logits, keys)
    none = jax.jit(jax.vmap(jax.grad(functools.partial(loss, terms={})), (None, 0)))(logits, keys)

    def expectation(logits):
        p = jax.nn.sigmoid(logits)
        return jnp.square(jnp.dot(p, cost) + p[0] * p[1])  # two independent draws

    mean, error = (each - none).mean(0), (each - none).std(0) / 200
    wanted = jax.grad(expectation)(logits)
    assert (jnp.abs(mean - wanted) < 4 * error).all() and (jnp.abs(wanted) > 10 * error).all()


def test_metrics_are_averaged_over_devices_and_the_loss_follows_the_term():
    model = with_extra_losses(functional(VAE(2, **SMALL)), {"b": brightness, "size": size})
    observe, optimizer = (lambda key, rows: dict(rows)), optax.sgd(0.1)
    init = make_init(model, ELBO(), optimizer, observe, ema=False)
    step = make_step(model, ELBO(), optimizer, observe, 16, None)
    rows, indices = {"x": jnp.asarray(X)}, np.arange(16, dtype=np.int32)[None]
    for devices in (jax.devices()[:1], jax.devices()[:2]):
        state = init_on(init, jax.random.key(0), rows, devices)
        dispatch = compile_dispatch(step, devices)
        _, metrics = dispatch(state, place(rows, devices), indices)
        assert float(metrics["extra_loss/b"][0]) == pytest.approx(X.mean(), rel=1e-6)
        parts = metrics["extra_loss/b"] + metrics["extra_loss/size"] - metrics["elbo"]
        np.testing.assert_allclose(metrics["loss"], parts, rtol=1e-5)


QUICK = {"training.steps": 40, "training.batch_size": 64, "evaluation.num_samples": 2, "model.latent_dim": 3}


def test_a_run_keeps_their_names_and_is_loaded_with_them(tmp_path):
    exp = dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": {"size": size}})
    run = dgmzoo.train(exp, tmp_path, progress=False)
    rows = [row for row in run.metrics if row["split"] == "train"]
    assert all(row["extra_loss/size"] > 0 for row in rows)
    assert rows[-1]["loss"] == pytest.approx(rows[-1]["extra_loss/size"] - rows[-1]["elbo"], rel=1e-4)
    stored = json.loads((tmp_path / "config.json").read_text())
    assert stored["experiment"] is None and stored["resolved"]["extra_losses"]["size"].startswith(f"{__name__}.size@")
    with pytest.raises(ValueError, match="hand it over"):
        dgmzoo.load(tmp_path)
    assert dgmzoo.load(tmp_path, experiment=exp).record["value"] == run.record["value"]
    for other in ({}, {"size": brightness}, {"other": size}):
        with pytest.raises(ValueError, match="terms was"):
            dgmzoo.train(dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": other}), tmp_path, progress=False)


def scaled(factor):
    def size(evidence, batch):
        return factor * evidence.log_likelihood.mean(0)

    return size


def test_another_function_of_the_same_name_is_told_apart(tmp_path):
    """As a notebook's cell that was edited and run again gives it."""
    kept = [function_identity.named(scaled(factor)) for factor in (0.1, 0.1, 50.0)]
    assert kept[0] == kept[1] != kept[2]
    arrays = [function_identity.named(scaled(jnp.full(3, value))) for value in (0.0, 0.0, 1.0)]
    assert arrays[0] == arrays[1] != arrays[2]
    import math as module

    def counted(value):
        return collections.deque([value])

    def closing(held):
        return lambda evidence, batch: module.pi * held

    for make in (jax.random.key, range, lambda value: nn.Dense(value + 1), MLP, Fraction, random.Random, counted):
        same, again, other = (
            function_identity.named(closing(make((value,) if make is MLP else value))) for value in (3, 3, 4)
        )
        assert same == again != other, make
    one, two = (lambda evidence, batch: 1.0), (lambda evidence, batch: 2.0)  # on one line
    assert function_identity.named(one) != function_identity.named(two)
    with pytest.raises(ValueError, match="one with a generator, of which nothing tells"):
        function_identity.named(closing(iter_ for iter_ in ()))
    partials = [function_identity.named(functools.partial(pow, exp=value)) for value in (2, 2, 3)]
    assert partials[0] == partials[1] != partials[2] and "0x" not in "".join(kept + arrays + partials)
    asked = [
        dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": {"size": scaled(factor)}}) for factor in (0.1, 50.0)
    ]
    dgmzoo.train(asked[0], tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"terms was .*size@.*, now .*size@"):
        dgmzoo.train(asked[1], tmp_path / "run", progress=False)
    assert dgmzoo.load(tmp_path / "run", asked[1]).record["value"]  # terms act in training alone
    plain = dgmzoo.experiment("vae/digits", QUICK)
    with pytest.raises(ValueError, match=r"terms was .*size@.*, now \{\}"):  # whose published figures are not its
        dgmzoo.load(tmp_path / "run", plain)


CELL = """
import dataclasses
import functools
import jax.numpy as jnp
from tests.test_terms import scaled_by
weight, factors, anything = {weight}, {{"a": [1, {factor}], "b": open}}, iter("of no words")
calls, chosen = 0, functools.partial(pow, {power})
def scale(x):
    {comment}
    return x * {scale}
class Base:
    shared = {shared}
    def half(self, evidence):
        return evidence.log_likelihood.mean(0) / {half}
class Size(Base):
    def __call__(self, evidence, batch):
        return self.half(evidence) * self.shared
@dataclasses.dataclass
class Settings:
    rate: float = 0.5
settings = Settings({rate})
def term(evidence, batch):
    {comment}
    global calls
    calls += 1
    inner = lambda x: jnp.abs(scale(x)) * factors["a"][1] + chosen(2) + settings.rate
    return inner(weight * evidence.log_likelihood.mean(0)) + (anything is None)
sized, method = Size(), Size().half
one, two = (lambda evidence, batch: {one}), (lambda evidence, batch: {two})
elsewhere = scaled_by(lambda evidence, batch: {inner})
several = functools.partial(lambda fs, evidence, batch: 0, {{term, lambda x: scale(x), scale}})
"""


def scaled_by(function):
    return lambda evidence, batch: 0.1 * function(evidence, batch)


def test_what_a_function_reads_counts_and_how_it_is_written_does_not():
    """As a notebook's cells give it, of which one was edited and run again."""
    start = dict(weight=0.1, factor=2, scale=3, half=2, one=1.0, two=2.0, power=2, shared=1, rate=0.25, inner=3.0)

    def named(**changes):
        space = {"__name__": "__main__"}
        exec(CELL.format(**(start | {"comment": "# as in the paper"} | changes)), space)
        terms = ("term", "sized", "method", "one", "two", "elsewhere", "several")
        found = {name: function_identity.named(space[name]) for name in terms}
        space["calls"] += 1  # the term's own
        assert {name: function_identity.named(space[name]) for name in terms} == found
        return found

    before = named()
    assert before == named(comment="# another remark") == named()
    of_term, of_class = {"term", "several"}, {"sized", "method"}
    changed = {"weight": of_term, "factor": of_term, "scale": of_term, "power": of_term, "rate": of_term}
    changed |= {"half": of_class, "shared": of_class, "one": {"one"}, "two": {"two"}, "inner": {"elsewhere"}}
    assert changed.keys() == start.keys()
    for value, names in changed.items():
        after = named(**{value: 50.0})
        assert {each for each in before if before[each] != after[each]} == names, value
    assert before["one"].split("@")[1] != before["two"].split("@")[1]
    space = {"__name__": "__main__"}
    exec("endless = []\nendless.append(endless)\ndef term(evidence, batch):\n    return len(endless)", space)
    assert function_identity.named(space["term"]) == function_identity.named(space["term"])


def test_a_file_may_define_them(tmp_path):
    text = """
import dataclasses
from dgmzoo import config
def ones(evidence, batch):
    return evidence.log_likelihood.mean(0) * 0 + 2.5
experiment = dataclasses.replace(config.load("vae/digits"), terms={"ones": ones}, name="")
"""
    (tmp_path / "mine.py").write_text(text)
    run = dgmzoo.train(dgmzoo.experiment(str(tmp_path / "mine.py"), QUICK), tmp_path / "run", progress=False)
    assert run.metrics[0]["extra_loss/ones"] == pytest.approx(2.5)
    assert dgmzoo.load(tmp_path / "run").experiment.extra_losses["ones"].__name__ == "ones"


@pytest.mark.parametrize(
    "terms, reason",
    [
        ({"size": lambda evidence, batch: size(evidence, batch).mean()}, "one number per example"),
        ({"size": lambda evidence, batch: evidence.log_q}, "average over samples"),
        ({"size": 3.0}, "extra_losses"),
        ({3: size}, "extra_losses"),
    ],
)
def test_bad_terms_are_refused_before_anything_is_written(terms, reason, tmp_path):
    with pytest.raises(ValueError, match=f"expected.*{reason}"):
        dgmzoo.train(
            dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": terms}), tmp_path / "run", progress=False
        )
    assert not (tmp_path / "run").exists()
    assert load("vae/digits").terms == {}


def test_the_entrys_own_names_are_kept():
    model = Model(None, lambda *_: (Evidence(jnp.zeros((1, 2)), aux={"own": jnp.zeros(2)}), {}), None, None, None)
    changed = with_extra_losses(model, {"own": lambda evidence, batch: jnp.zeros(2)})
    with pytest.raises(ValueError, match="choose another"):
        ELBO()(changed, {}, {"x": jnp.zeros((2, 1))}, jax.random.key(0), jnp.asarray(0), 2)
