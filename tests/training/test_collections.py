"""Mutable collections on several devices: every one is reduced as it declares, and an undeclared one is refused (F21)."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.layers.likelihoods.base import log_likelihood
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import flat
from dgmzoo.model.collections import declared
from dgmzoo.model.contract import Evidence
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.score_function import NVIL
from tests.training.test_devices import INDICES, ROWS, assert_close, assert_replicas_agree, train


class Normalized(nn.Module):
    """An autoencoder with a plain `nn.BatchNorm`."""

    bound = None

    @nn.compact
    def evidence(self, batch, query):
        h = nn.Dense(8)(3 * flat(batch["x"], (2, 2)))
        h = nn.BatchNorm(use_running_average=not query.train, momentum=0.5)(h)
        return Evidence(log_likelihood(Bernoulli()(nn.tanh(h)[None], (2, 2)), batch["x"]))


@pytest.mark.parametrize("num", [4, 8])
def test_f21_batch_statistics_of_several_devices_are_those_of_one(num):
    model = functional(Normalized())
    one, one_metrics = train(model, ELBO(), 1)
    several, metrics = train(model, ELBO(), num)
    assert_replicas_agree(several.variables, num)
    assert_close((several.variables, metrics), (one.variables, one_metrics))
    start, _ = train(model, ELBO(), 1, INDICES[:1])
    assert not np.allclose(start.variables["batch_stats"]["BatchNorm_0"]["var"], 1)


class Stateful(nn.Module):
    """A density model that adds to one number of its state the sum of its rows."""

    collection: str = "tally"
    whole: bool = False

    bound = None

    @nn.compact
    def evidence(self, batch, query):
        logit = self.param("logit", nn.initializers.zeros, ())
        dtype = jnp.int32 if self.whole else jnp.float32
        state = self.variable(self.collection, "state", lambda: jnp.full((), 2, dtype))
        if query.train and not self.is_initializing():
            state.value = state.value + batch["x"].sum().astype(dtype)
        return Evidence(nn.log_sigmoid(logit * (2 * batch["x"].mean((1, 2)) - 1))[None])


class Summed(Stateful):
    collections = {"tally": "sum"}


class Averaged(Stateful):
    collections = {"tally": "mean"}


class Holder(nn.Module):
    """An entry whose field declares the collection."""

    part: nn.Module = Summed()

    bound = None

    def evidence(self, batch, query):
        return self.part.evidence(batch, query)


@pytest.mark.parametrize(
    "module, share",
    [(Summed(), 1), (Summed(whole=True), 1), (Averaged(), 4), (Holder(), 1)],
    ids=lambda each: str(each)[:8],
)
def test_f21_collections_are_reduced_as_they_declare(module, share):
    state, _ = train(functional(module), ELBO(), 4)
    assert_replicas_agree(state.variables, 4)
    expected = 2 + sum(ROWS["x"][row].sum() for row in INDICES) / share
    (value,) = [leaf for name, tree in state.variables.items() if name != "params" for leaf in jax.tree.leaves(tree)]
    np.testing.assert_allclose(value, expected, rtol=1e-6)


@pytest.mark.parametrize("num", [1, 4])
def test_f21_an_undeclared_collection_that_changes_is_refused(num):
    with pytest.raises(
        ValueError, match=r'collection \'tally\'.*got none; set the class attribute collections = {"tally"'
    ):
        train(functional(Stateful()), ELBO(), num)


def test_f21_an_undeclared_collection_of_an_objective_is_refused():
    class Undeclared(NVIL):
        collections = {}

    with pytest.raises(ValueError, match=r"collection 'signal'.*of Undeclared"):
        train(functional(Normalized()), Undeclared(), 1)


def test_f21_wrong_declarations_are_refused():
    class Wrong(Stateful):
        collections = {"tally": "average"}

    class Local(Stateful):
        collections = {"tally": "local"}

    with pytest.raises(ValueError, match="average"):
        functional(Wrong())
    with pytest.raises(ValueError, match='"local" alone'):
        functional(Local())
    with pytest.raises(ValueError, match="mean over devices is taken, got int32"):
        train(functional(Averaged(whole=True)), ELBO(), 4)
    assert declared(Normalized()) == {"batch_stats": "mean", "prepared": "equal", "local": "local"}
