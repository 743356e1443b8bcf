"""Optimizers: decoupled weight decay, linear warm-up, and an optimizer of the user's own."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import dgmzoo
from dgmzoo.config.function_identity import identity
from dgmzoo.config.training import Training
from dgmzoo.training.optimizer import build
from tests.support.own_entry import experiment_of
from tests.support.tiny import TINY, skip_reports

PARAMS = {"w": jnp.array([1.0, -2.0]), "b": jnp.array([0.5])}
GRADIENTS = [{"w": jnp.array([0.3, 0.1 * i]), "b": jnp.array([-1.0])} for i in range(4)]


@pytest.fixture(autouse=True)
def _promotion():
    """Optax breaks strict promotion; the training step relaxes it as well."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def trajectory(optimizer):
    params, state = PARAMS, optimizer.init(PARAMS)
    for gradient in GRADIENTS:
        updates, state = optimizer.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


def built(**settings):
    return build(Training(steps=10, learning_rate=0.1, **settings), 10, {})


def assert_same(a, b, **tolerance):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, **({"rtol": 1e-6} | tolerance)), a, b)


@pytest.mark.parametrize("name", ["adam", "adamax", "adagrad", "sgd"])
def test_weight_decay_is_decoupled(name):
    decayed = trajectory(built(optimizer=name, weight_decay=0.5))
    params, plain = PARAMS, built(optimizer=name)
    state = plain.init(PARAMS)
    for gradient in GRADIENTS:  # the decay is no part of the gradient, and is multiplied by the learning rate
        updates, state = plain.update(gradient, state, params)
        params = jax.tree.map(lambda value, update: value + update - 0.1 * 0.5 * value, params, updates)
    assert_same(decayed, params)


def test_adam_with_weight_decay_is_adamw():
    assert_same(trajectory(built(weight_decay=0.01)), trajectory(optax.adamw(0.1, weight_decay=0.01)))


def test_warm_up_multiplies_the_rate_of_the_schedule():
    factors = []
    for schedule in ("constant", "cosine"):
        plain, warm = (built(optimizer="sgd", schedule=schedule, **own) for own in ({}, {"warmup_steps": 4}))
        states, ones = [plain.init(PARAMS), warm.init(PARAMS)], jax.tree.map(jnp.ones_like, PARAMS)
        for _ in range(6):
            (a, states[0]), (b, states[1]) = plain.update(ones, states[0]), warm.update(ones, states[1])
            factors.append(float(b["b"][0] / a["b"][0]))
    np.testing.assert_allclose(factors, 2 * [0.25, 0.5, 0.75, 1, 1, 1], rtol=1e-6)


def own_optimizer(total_steps):
    return optax.sgd(optax.linear_schedule(0.5, 0.0, total_steps))


def another_optimizer(total_steps):
    return optax.sgd(0.5)


def test_an_optimizer_may_be_a_function_of_the_number_of_steps():
    own = build(Training(steps=10, optimizer=own_optimizer), 10, {})
    assert_same(trajectory(own), trajectory(own_optimizer(10)))
    clipped = build(Training(steps=10, optimizer=own_optimizer, clip_norm=1e-3), 10, {})
    moved = jax.tree.map(lambda a, b: a - b, trajectory(clipped), PARAMS)
    assert 0 < optax.tree.norm(moved) <= 4 * 0.5 * 1e-3
    assert_same(
        trajectory(build(Training(steps=10, optimizer=own_optimizer), 10, {"b": optax.sgd(0.0)}))["b"], PARAMS["b"]
    )


@pytest.mark.parametrize("wrong", [{"weight_decay": 0.1}, {"learning_rate": 0.1}, {"warmup_steps": 3}])
def test_settings_that_a_function_replaces_are_refused(wrong):
    with pytest.raises(ValueError, match=f"expected training.{next(iter(wrong))} at the default with an optimizer"):
        Training(steps=10, optimizer=own_optimizer, **wrong)
    with pytest.raises(ValueError, match="weight_decay >= 0"):
        Training(steps=10, weight_decay=-1.0)
    with pytest.raises(ValueError, match="warmup_steps"):
        Training(steps=10, warmup_steps=-1)


@pytest.mark.thorough
def test_a_run_is_known_by_the_identity_of_its_optimizer(tmp_path, monkeypatch):
    skip_reports(monkeypatch)
    constant = {"training.schedule": "constant", "training.final_learning_rate": 0.0, "training.learning_rate": 1e-3}
    changes = TINY | constant | {"training.steps": 2, "evaluation.num_samples": 2, "evaluation.num_examples": 10}

    def requested(function, **more):
        return dgmzoo.experiment("vae/digits", changes | {"training.optimizer": function} | more)

    dgmzoo.train(requested(own_optimizer), tmp_path / "run", progress=False)
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["resolved"]["training.optimizer"] == identity(own_optimizer)
    with pytest.raises(ValueError, match=r"training.optimizer was .*own_optimizer@.*, now .*another_optimizer@"):
        dgmzoo.train(requested(another_optimizer), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"training.steps was 2, now 4"):
        dgmzoo.train(requested(own_optimizer, **{"training.steps": 4}), tmp_path / "run", progress=False)
    assert dgmzoo.load(tmp_path / "run", requested(own_optimizer)).step > 0
    held = jnp.full((), 0.1)
    unknown = requested(lambda total_steps: optax.sgd(float(held)))
    with pytest.warns(UserWarning, match="cannot be resumed with its optimizer"):
        dgmzoo.train(unknown, tmp_path / "other", progress=False)
    with pytest.raises(ValueError, match="an optimizer that can be recognised"):
        dgmzoo.train(unknown, tmp_path / "other", progress=False)


def test_an_optimizer_has_a_name_on_the_command_line():
    from dgmzoo.command.options import Train, parse

    options = parse(Train, "vae/digits", ["--training.optimizer", "adamax", "--training.weight-decay", "0.1"])
    assert (options.experiment.training.optimizer, options.experiment.training.weight_decay) == ("adamax", 0.1)
    assert experiment_of(dgmzoo.VAE(2), {"optimizer": own_optimizer}).training.optimizer is own_optimizer
    with pytest.raises(ValueError, match=r"training.optimizer"):
        dgmzoo.experiment("vae/digits", {"training.optimizer": "adm"})
