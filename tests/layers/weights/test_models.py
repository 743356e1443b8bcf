"""Models with random weights: one KL for all data, one draw of the weights for all samples of a bound, and refusals."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.layers.likelihoods.bernoulli import Bernoulli
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.masked import MaskedDense
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.layers.weights.base import PiecewiseWeights, PointWeights, RectifiedWeights, VariationalWeights
from dgmzoo.layers.weights.horseshoe import HorseshoeWeights
from dgmzoo.layers.weights.linear import VariationalDense
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional, mean_weights
from dgmzoo.model.precision import in_precision
from dgmzoo.model.random_weights import weights_drawn
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.importance import IWAE, DReG
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.reparam.distributions import Horseshoe, NormalMixture, PiecewiseNormal, RectifiedNormal, SpikeAndSlab
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.ddnn.regression import Regression
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.vae import VAE
from tests.support.unconstrained_weights import KEY

X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 2, 2)), jnp.float32)


@pytest.mark.parametrize(
    "objective", [ELBO(), IWAE(num_samples=2), DReG(num_samples=2), NVIL()], ids=lambda each: type(each).__name__
)
def test_every_objective_pays_the_kl_of_the_weights_once_for_all_data(objective):
    kind = VariationalWeights()
    entry = SigmoidBeliefNetwork((3,), (4,), weights=kind, shape=(2, 2))
    if not isinstance(objective, NVIL):
        entry = VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=kind), shape=(2, 2))
    model, batch = functional(entry), {"x": X}

    @jax.jit
    def kl_and_losses():
        variables, extra = model.init(KEY, batch), objective.init(KEY, batch)
        variables = {**extra, "params": {**variables["params"], **extra.get("params", {})}}
        kl = model.evidence(variables, batch, KEY, Query(train=True))[0].weight_kl
        return kl, *(objective(model, variables, batch, KEY, jnp.asarray(0), num)[0] for num in (1, 10_000))

    kl, few, many = kl_and_losses()
    np.testing.assert_allclose(few - many, kl * (1 - 1e-4), rtol=1e-4)


# One draw for all, and the means


def log_likelihood_of(weights):
    """A function `query -> log p(x | z)` `[K, B]` of equal examples and samples, which differ by their weights alone."""
    model = functional(VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=weights), shape=(2, 2)))
    batch = {"x": jnp.repeat(X[:1], 5, 0)}
    variables = jax.jit(model.init)(KEY, batch)

    @jax.jit
    def log_likelihood(query, key=KEY):
        z = jnp.ones((query.num_samples, 5, 2))
        given = dataclasses.replace(query, given={"z": z})
        return model.evidence(variables, batch, key, given)[0].log_likelihood

    return lambda *arguments: np.asarray(log_likelihood(*arguments))


@pytest.mark.parametrize(
    "weights",
    [
        VariationalWeights(),
        pytest.param(HorseshoeWeights(), marks=pytest.mark.thorough),
        pytest.param(RectifiedWeights(), marks=pytest.mark.thorough),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_samples_of_a_bound_share_one_draw_of_the_network(weights):
    log_likelihood, other = log_likelihood_of(weights), jax.random.key(9)
    several = log_likelihood(Query(3, train=True))
    assert np.ptp(several) < 1e-5 and abs(several - log_likelihood(Query(3, train=True), other)).min() > 1e-4
    single = log_likelihood(Query(1, train=True))
    assert (np.ptp(single) > 1e-4) == (not isinstance(weights, RectifiedWeights))
    means = log_likelihood(Query(3))
    np.testing.assert_array_equal(means, log_likelihood(Query(3), other))
    assert np.ptp(means) < 1e-5 and abs(means - several).min() > 1e-4
    of_key = log_likelihood(Query(3, weights=KEY))
    np.testing.assert_array_equal(of_key, log_likelihood(Query(3, weights=KEY), other))
    assert np.ptp(of_key) < 1e-5 and abs(of_key - log_likelihood(Query(3, weights=other))).min() > 1e-4


class Twice(nn.Module):
    """One layer that is used twice."""

    weights: VariationalWeights

    bound = "exact"

    @nn.compact
    def evidence(self, batch, query):
        layer = VariationalDense(3, self.weights)
        return Evidence(jnp.tile((layer(batch["x"]) - layer(batch["x"])).sum(-1), (query.num_samples, 1)))


def test_a_layer_that_is_used_twice_has_one_kl_and_the_same_weights():
    x = jnp.ones((4, 3))
    model = functional(Twice(VariationalWeights(estimator="shared")))
    variables = jax.jit(model.init)(KEY, {"x": x})
    evidence, _ = jax.jit(lambda: model.evidence(variables, {"x": x}, KEY, Query(train=True)))()
    np.testing.assert_array_equal(evidence.log_likelihood, 0)
    layer = variables["params"]["VariationalDense_0"]
    np.testing.assert_allclose(evidence.weight_kl, jax.jit(VariationalWeights().kl)(layer, KEY), rtol=1e-6)
    local = functional(Twice(VariationalWeights()))
    jax.eval_shape(lambda: local.evidence(variables, {"x": x}, KEY, Query(2, train=True)))
    with pytest.raises(ValueError, match="estimator of its weights to shared"):
        local.evidence(variables, {"x": x}, KEY, Query(train=True))


def test_mean_weights_are_those_of_evaluation():
    module = Regression(likelihood=Normal(homoscedastic=True, weights=HorseshoeWeights()), shape=(1,))
    batch = {"x": jnp.ones((4, 1)), "context": jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)}
    variables = jax.jit(functional(module).init)(KEY, batch)
    (kernel,) = mean_weights(module, variables, batch).values()
    bias = variables["params"]["likelihood"]["VariationalDense_0"]["bias"]
    mean = jax.jit(functional(module).evidence)(variables, batch, KEY)[0].parameters["mean"][0]
    np.testing.assert_allclose(mean, batch["context"] @ kernel + bias[None], rtol=1e-5)


# Precision, and what is refused


@pytest.mark.thorough
@pytest.mark.parametrize(
    "weights, num_samples",
    [
        (HorseshoeWeights(), 1),
        pytest.param(HorseshoeWeights(), 2, marks=pytest.mark.thorough),
        pytest.param(VariationalWeights(), 1, marks=pytest.mark.thorough),
        pytest.param(VariationalWeights(), 2, marks=pytest.mark.thorough),
    ],
    ids=lambda value: value if isinstance(value, int) else type(value).__name__,
)
def test_bfloat16_trains_parameters_in_float32(weights, num_samples):
    model = functional(VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=weights), shape=(2, 2)))
    variables = jax.jit(model.init)(KEY, {"x": X})
    half = in_precision(model, jnp.bfloat16)
    assert "bf16" in str(jax.make_jaxpr(lambda variables: half.evidence(variables, {"x": X}, KEY))(variables))

    def loss(params, model):
        return ELBO(num_samples)(model, {"params": params}, {"x": X}, KEY, jnp.asarray(0), 6)[0]

    value, gradient = jax.jit(jax.value_and_grad(functools.partial(loss, model=half)))(variables["params"])
    assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    single = jax.jit(functools.partial(loss, model=model))(variables["params"])
    np.testing.assert_allclose(value, single, rtol=0.02)


@pytest.mark.parametrize(
    "build, message",
    [
        (lambda: VariationalWeights(dist.Laplace, estimator="local"), "expected estimator shared"),
        (lambda: PiecewiseWeights(estimator="flipout"), "expected estimator shared"),
        (lambda: VariationalWeights(prior=Horseshoe), "choose the weights `horseshoe`"),
        (lambda: VariationalWeights(dist.Laplace, PiecewiseNormal), "gradient would be biased"),
        (lambda: VariationalWeights(dist.BernoulliLogits, dist.BernoulliLogits), "pathwise gradient"),
        (lambda: VariationalWeights(RectifiedNormal, dist.Normal), "KL is infinite"),
        (lambda: VariationalWeights(dist.Normal, dist.HalfNormal), "KL is infinite"),
        (lambda: VariationalWeights(dist.Normal, dist.VonMises), "KL is infinite"),
        (lambda: RectifiedWeights(prior=SpikeAndSlab), "point mass where the posterior RectifiedNormal has one"),
        (lambda: RectifiedWeights(prior=NormalMixture), "point mass where the posterior RectifiedNormal has one"),
        (lambda: VariationalWeights(SpikeAndSlab, SpikeAndSlab), "expected a posterior of weights with a location"),
        (
            lambda: VariationalWeights(dist.HalfNormal, dist.HalfNormal),
            "expected a posterior of weights with a location",
        ),
        (lambda: PiecewiseWeights(pieces=0), "pieces to be an integer >= 1"),
        (lambda: HorseshoeWeights(estimator="best"), "auto, local, flipout, shared"),
        (lambda: HorseshoeWeights(tau=0.0), "expected a finite tau > 0"),
        (lambda: HorseshoeWeights(slab=-1.0), "expected a finite slab > 0"),
        (lambda: VariationalDense(3, PointWeights()), "expected random weights"),
        (lambda: MADE(likelihood=Bernoulli(weights=VariationalWeights())), "set the model's weights"),
        (lambda: MADE(likelihood=Normal(homoscedastic=True)), "set the model's weights"),
        (lambda: SigmoidBeliefNetwork(weights=VariationalWeights()), "set those of the likelihood"),
    ],
)
def test_weights_without_an_exact_gradient_are_refused(build, message):
    with pytest.raises(ValueError, match="expected") as error:
        build()
    assert message in str(error.value)


def test_a_stack_of_layers_is_refused():
    class Stacked(nn.Module):
        weights: VariationalWeights = VariationalWeights()
        bound = "exact"

        @nn.compact
        def evidence(self, batch, query):
            layer = nn.vmap(VariationalDense, variable_axes={"params": 0}, split_rngs={"params": True})(2, self.weights)
            return Evidence(jnp.tile(layer(batch["x"]).sum((1, -1)), (query.num_samples, 1)))

    model, batch = functional(Stacked()), {"x": jnp.ones((3, 4, 2))}
    variables = model.init(KEY, batch)
    with pytest.raises(ValueError, match="build the layers one by one"):
        model.evidence(variables, batch, KEY, Query(2, train=True))


def test_masked_weights_stay_masked():
    layer = MaskedDense(3, weights=VariationalWeights())
    below, above = jnp.asarray([1, 2]), jnp.asarray([1, 2, 2])
    variables = jax.jit(layer.init)(KEY, jnp.ones((1, 2)), below, above)

    def apply(x, own_weights):
        with weights_drawn(KEY, len(x) if own_weights else None):
            return layer.apply(variables, x, below, above)

    for own_weights in (True, False):
        slope = jax.jit(jax.jacfwd(lambda x, own=own_weights: apply(x, own)))(jnp.ones((1, 2)))[0, :, 0]  # [out, in]
        np.testing.assert_array_equal(slope != 0, [[True, False], [True, True], [True, True]])
