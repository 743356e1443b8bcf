"""The identity of extra losses: by file or source text and plain values; no identity, no resume."""

import dataclasses
import functools
import json

import jax.numpy as jnp
import pytest

import dgmzoo
from dgmzoo.config.function_identity import identity

QUICK = {"training.steps": 40, "training.batch_size": 64, "evaluation.num_samples": 2, "model.latent_dim": 3}


def scaled(factor, power=1):
    def size(evidence, batch):
        return factor * evidence.log_likelihood.mean(0) ** power

    return size


def size(evidence, batch):
    return 0.01 * jnp.square(evidence.latents["z"].value).sum(-1).mean(0)


def test_plain_values_that_a_function_holds_belong_to_its_identity():
    assert identity(scaled(0.1)) == identity(scaled(0.1)) != identity(scaled(50.0))
    assert identity(scaled(0.1)).startswith("test_function_identity.scaled.<locals>.size@")
    assert identity(functools.partial(size, batch=2)) != identity(functools.partial(size, batch=3))
    assert identity(lambda evidence, batch: 1.0) != identity(size)

    def outer(function):
        return lambda evidence, batch: function(evidence, batch)

    assert identity(outer(scaled(1))) == identity(outer(scaled(1))) != identity(outer(scaled(2)))


def test_a_function_of_a_file_changes_with_the_file(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "losses_of_a_user.py"
    file.write_text("def loss(evidence, batch):\n    return 0\n")
    import losses_of_a_user

    before = identity(losses_of_a_user.loss)
    assert before == identity(losses_of_a_user.loss)
    file.write_text("def loss(evidence, batch):\n    return 0  # another\n")
    assert identity(losses_of_a_user.loss) != before


def test_a_function_without_a_file_is_known_by_its_source(monkeypatch):
    """A notebook keeps the text of its cells in the line cache."""
    import linecache
    import sys
    import types

    monkeypatch.setitem(sys.modules, "notebook", types.ModuleType("notebook"))

    def cell(text, **names):
        linecache.cache["<cell>"] = (len(text), None, text.splitlines(keepends=True), "<cell>")
        space = {"__name__": "notebook", **names}
        exec(compile(text, "<cell>", "exec"), space)
        return identity(space["loss"])

    one, same, other = (cell(f"def loss(evidence, batch):\n    return {value}\n") for value in (1, 1, 2))
    assert one == same != other
    text = "def loss(evidence, batch):\n    return weight * jnp.abs(evidence)\n"
    one, same, other = (cell(text, weight=weight, jnp=jnp) for weight in (0.1, 0.1, 100.0))
    assert one == same != other, "the globals that it reads count"
    with pytest.raises(ValueError, match="holds a"):
        cell(text, weight=jnp.ones(2), jnp=jnp)


@pytest.mark.parametrize("held", [jnp.ones(3), iter(()), object()], ids=["array", "iterator", "object"])
def test_other_values_give_a_function_no_identity(held):
    with pytest.raises(ValueError, match=f"holds a .*{type(held).__name__.split('.')[-1]}.*; pass that value"):
        identity(scaled(held))


def test_an_object_that_can_be_called_needs_to_be_a_dataclass():
    class Loss:
        def __call__(self, evidence, batch): ...

    @dataclasses.dataclass
    class Weighted(Loss):
        weight: float

    assert identity(Weighted(1.0)) == identity(Weighted(1.0)) != identity(Weighted(2.0))
    with pytest.raises(ValueError, match=r"expected a function.*got Loss, .*write it as a function"):
        identity(Loss())


@pytest.mark.thorough
def test_a_run_is_not_resumed_with_another_function_or_with_one_of_no_identity(tmp_path):
    def requested(loss):
        return dgmzoo.experiment("vae/digits", {**QUICK, "extra_losses": {"size": loss}})

    run = dgmzoo.train(requested(scaled(0.1)), tmp_path / "run", progress=False)
    stored = json.loads((tmp_path / "run/config.json").read_text())
    assert stored["experiment"] is None
    assert stored["resolved"]["extra_losses"]["size"] == identity(scaled(0.1))
    with pytest.raises(ValueError, match=r"extra_losses was .*size@.*, now .*size@"):
        dgmzoo.train(requested(scaled(50.0)), tmp_path / "run", progress=False)
    with pytest.raises(ValueError, match=r"extra_losses was .*size@.*, now \{\}"):
        dgmzoo.load(tmp_path / "run", dgmzoo.experiment("vae/digits", QUICK))
    assert dgmzoo.load(tmp_path / "run", requested(scaled(50.0))).record["value"] == run.record["value"]
    unknown = requested(scaled(jnp.full((), 0.1)))
    with pytest.warns(UserWarning, match="cannot be resumed with its extra loss 'size'"):
        dgmzoo.train(unknown, tmp_path / "other", progress=False)
    with pytest.raises(
        ValueError, match=r"'size' that can be recognised, to resume .*: expected a function that closes"
    ):
        dgmzoo.train(unknown, tmp_path / "other", progress=False)
