"""Networks are told whether they are trained, and a network that cannot be switched to evaluation is refused (F22)."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from dgmzoo.evaluation.code_metrics import sample_codes
from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.latents.hierarchy import infer_and_score, sample_top_down
from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.likelihoods.base import log_likelihood, sample
from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.networks.mlp import flat
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional
from dgmzoo.model.transforms import rematerialized
from dgmzoo.objectives.importance import IWAE
from dgmzoo.zoo.vae.vae import VAE
from tests.support.own_entry import resolved_of


class Switched(nn.Module):
    """Dropout and batch statistics that are on in training alone."""

    @nn.compact
    def __call__(self, x, train):
        h = nn.BatchNorm(use_running_average=not train)(nn.Dense(8)(x))
        return nn.Dropout(0.5, deterministic=not train)(nn.tanh(h))


class AlwaysDropout(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.Dropout(0.5, deterministic=False)(nn.Dense(8)(x))


class AlwaysBatchNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        return nn.BatchNorm(use_running_average=False)(nn.Dense(8)(x))


BATCH = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 2, 2)), jnp.float32)}


class Stack(nn.Module):
    """Two layers of latents with networks that take `train`."""

    def setup(self):
        self.layers = [VariationalLayer(units=2), VariationalLayer(units=2)]
        self.encoders, self.decoders = [Switched(), Switched()], [Switched(), Switched()]
        self.likelihood = Bernoulli()

    def evidence(self, batch, query):
        x = flat(batch["x"], (2, 2))
        latents, features = infer_and_score(self.layers, self.encoders, self.decoders, x, query)
        p = self.likelihood(features, (2, 2), batch)
        return Evidence(log_likelihood(p, batch["x"]), latents)

    def generate(self, num, context=None):
        latents, features = sample_top_down(self.layers, self.decoders, num)
        return sample(self.likelihood(features, (2, 2)), self.make_rng("sample"), latents)


@pytest.mark.parametrize("module", [VAE(2, encoder=Switched(), decoder=Switched(), shape=(2, 2)), Stack()])
def test_f22_networks_that_take_train_are_told(module):
    model = functional(module)
    variables = model.init(jax.random.key(0), BATCH)
    first, _ = model.evidence(variables, BATCH, jax.random.key(1))
    again, updates = model.evidence(variables, BATCH, jax.random.key(1))
    np.testing.assert_array_equal(first.log_likelihood, again.log_likelihood)
    assert updates == {}
    _, updates = model.evidence(variables, BATCH, jax.random.key(1), Query(train=True))
    before, after = (jax.tree.leaves(tree["batch_stats"]) for tree in (variables, updates))
    assert all(np.abs(a - b).max() > 0 for a, b in zip(before, after, strict=True))
    assert model.generate(variables, jax.random.key(2), 3).x.shape == (3, 2, 2)


@pytest.mark.parametrize("network, found", [(AlwaysDropout(), "random stream"), (AlwaysBatchNorm(), "changes")])
def test_f22_a_network_that_stays_in_training_is_refused_before_training(network, found):
    with pytest.raises(ValueError, match=f"evaluation of VAE without dropout.*{found}.*argument `train`"):
        resolved_of(VAE(2, encoder=network, decoder=Switched()))


def test_f22_an_unknown_random_stream_is_refused_in_plain_words():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            noise = jax.random.normal(self.make_rng("mine"), x.shape) if self.has_rng("dropout") else 0.0
            return nn.Dense(3)(x + noise)

    model = functional(VAE(2, encoder=Own(), shape=(2, 2)))
    with pytest.raises(ValueError, match="random streams 'sample', 'weights', 'dropout'"):
        model.evidence(model.init(jax.random.key(0), BATCH), BATCH, jax.random.key(1), Query(train=True))


def test_a_density_may_return_one_log_likelihood_for_every_number_of_samples():
    class Coin(nn.Module):
        bound = None

        @nn.compact
        def evidence(self, batch, query):
            logit = self.param("logit", nn.initializers.ones, ())
            return Evidence(nn.log_sigmoid(logit * (2 * batch["x"] - 1)).sum((1, 2))[None])

    model = functional(Coin())
    variables = model.init(jax.random.key(0), BATCH)
    one, _ = model.evidence(variables, BATCH, jax.random.key(1))
    several, _ = model.evidence(variables, BATCH, jax.random.key(1), Query(num_samples=5))
    np.testing.assert_array_equal(several.log_likelihood, np.repeat(one.log_likelihood, 5, 0))

    def unrepeated(variables, batch, key, query=None):
        return Coin().apply(variables, batch, query, method="evidence"), {}

    rows = {"x": np.asarray(BATCH["x"])}
    for number in (1, 120):
        exact = evaluate(model, variables, rows, jax.random.key(0), number)
        np.testing.assert_allclose(exact.per_example, one.log_likelihood[0], rtol=1e-5)
        again = evaluate(model._replace(evidence=unrepeated), variables, rows, jax.random.key(0), number)
        np.testing.assert_array_equal(exact.per_example, again.per_example)
    assert sample_codes(model, variables, rows, jax.random.key(0)).log_likelihood.shape == (6,)
    objective = functools.partial(IWAE(num_samples=6), model, variables, BATCH, jax.random.key(0), 0, 6)
    np.testing.assert_allclose(objective()[0], -one.log_likelihood.mean(), rtol=1e-6)
    assert rematerialized(model).evidence(variables, BATCH, jax.random.key(0), Query(6, True))[0].log_weight.shape == (
        6,
        6,
    )
