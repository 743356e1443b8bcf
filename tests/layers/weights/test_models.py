"""Models whose weights are random: gradients are the exact ones, the KL is paid once, one draw serves all of a bound."""

import dataclasses
import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

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
from tests.support.raw_weights import KEY, raw_of

# Gradients


NODES, HERMITE = np.polynomial.hermite_e.hermegauss(40)
SLOPES = {
    "local": VariationalWeights(estimator="local"),
    "flipout": VariationalWeights(estimator="flipout"),
    "shared": VariationalWeights(estimator="shared"),
    "rectified": RectifiedWeights(),
    "piecewise": PiecewiseWeights(pieces=3),
    "horseshoe": HorseshoeWeights(),
}


@pytest.mark.parametrize("name", SLOPES)
def test_the_gradient_of_every_estimator_is_exact_on_average(x64, monkeypatch, name):
    """A logistic regression on one input: loss and its gradient, averaged over the noise by quadrature."""
    kind, num_data, context, x = SLOPES[name], 7, 1.3, 1.0
    model = functional(Regression(likelihood=Bernoulli(weights=kind), shape=(1,)))
    batch = {"x": jnp.full((1, 1), x), "context": jnp.full((1, 1), context)}
    unconstrained, noise = raw_of(kind, (1, 1), seed=2), []

    def drawn(key, shape=(), dtype=float):  # the order in which the layer draws: scales, then weights
        return jnp.broadcast_to(jnp.asarray(noise.pop(0), dtype), shape)

    def loss(unconstrained, *values):
        noise[:] = values
        params = {"likelihood": {"VariationalDense_0": {**unconstrained, "bias": jnp.asarray([0.2])}}}
        return ELBO()(model, {"params": params}, batch, KEY, jnp.asarray(0), num_data)[0]

    monkeypatch.setattr(jax.random, "normal", drawn)
    if name == "horseshoe":
        grid = [axis.ravel() for axis in np.meshgrid(*(3 * (NODES,)), indexing="ij")]
        weight = np.prod(np.meshgrid(*(3 * (HERMITE / HERMITE.sum(),)), indexing="ij"), 0).ravel()
        keep = weight > 1e-14
        grid, weight = [axis[keep] for axis in grid], weight[keep]
    else:
        axis, step = np.linspace(-9, 9, 40_001, retstep=True)
        grid, weight = [axis], stats.norm.pdf(axis) * step
    gradient = jax.jit(jax.vmap(jax.grad(loss), (None, *(0 for _ in grid))))(unconstrained, *map(jnp.asarray, grid))
    found = jax.tree.map(lambda leaf: np.tensordot(weight, leaf, 1), gradient)

    def exact(unconstrained):
        expected = expected_likelihood(kind, unconstrained, lambda w: jax.nn.log_sigmoid(w * context + 0.2))
        return -expected + kind.kl(unconstrained, KEY) / num_data

    wanted = jax.jit(jax.grad(exact))(unconstrained)
    for leaf in unconstrained:
        np.testing.assert_allclose(found[leaf], wanted[leaf], atol=3e-5, rtol=1e-4)
        assert np.abs(wanted[leaf]).max() > 1e-3


def expected_likelihood(kind, unconstrained, of):
    """E_q of(w) over nodes that do not move with the parameters."""

    def gaussian(at, unconstrained):
        return jax.scipy.stats.norm.pdf(
            at, unconstrained[0], jax.nn.softplus(unconstrained[1] + jnp.log(jnp.expm1(1.0)))
        )

    grid, step = jnp.linspace(-25, 25, 60_001), 50 / 60_000
    if isinstance(kind, HorseshoeWeights):
        grid, step = jnp.linspace(-9, 9, 121), 0.15
        local, tau = gaussian(grid, unconstrained["local"][0]), gaussian(grid, unconstrained["tau"])
        unit = gaussian(grid, unconstrained["kernel"][0, 0])
        log_scale = grid[:, None] + grid[None]
        scale = jnp.exp(log_scale) / jnp.sqrt(1 + jnp.exp(2 * log_scale) / kind.slab**2)
        value = of(scale[..., None] * grid[None, None])
        return jnp.einsum("a,b,c,abc->", local, tau, unit, value) * step**3
    if isinstance(kind, PiecewiseWeights):
        loc, scales = unconstrained["kernel"][0, 0, 0], unconstrained["kernel"][0, 0, 1:]
        q = PiecewiseNormal(loc, jax.nn.softplus(scales + jnp.log(jnp.expm1(1.0))))
        # Between the points where the density jumps, which move: E f = int f dF, and F is continuous.
        value = of(grid)
        cdf = q.cdf(grid)
        return value[-1] - (cdf * jnp.gradient(value, step)).sum() * step
    density = gaussian(grid, unconstrained["kernel"][0, 0])
    return (density * of(jnp.maximum(grid, 0) if isinstance(kind, RectifiedWeights) else grid)).sum() * step


X = jnp.asarray(np.random.default_rng(0).integers(0, 2, (6, 2, 2)), jnp.float32)


@pytest.mark.parametrize("objective", [ELBO(), IWAE(num_samples=2), DReG(num_samples=2), NVIL()], ids=repr)
def test_every_objective_pays_for_the_weights_once_for_all_data(objective):
    kind = VariationalWeights()
    entry = SigmoidBeliefNetwork((3,), (4,), weights=kind, shape=(2, 2))
    if not isinstance(objective, NVIL):
        entry = VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=kind), shape=(2, 2))
    model, batch = functional(entry), {"x": X}

    @jax.jit
    def asked():
        variables, extra = model.init(KEY, batch), objective.init(KEY, batch)
        variables = {**extra, "params": {**variables["params"], **extra.get("params", {})}}
        kl = model.evidence(variables, batch, KEY, Query(train=True))[0].weight_kl
        return kl, *(objective(model, variables, batch, KEY, jnp.asarray(0), num)[0] for num in (1, 10_000))

    kl, few, many = asked()
    np.testing.assert_allclose(few - many, kl * (1 - 1e-4), rtol=1e-4)


# One draw for all, and the means


def bayesian(weights):
    """Examples and samples that are all alike tell what they do not share."""
    model = functional(VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=weights), shape=(2, 2)))
    batch = {"x": jnp.repeat(X[:1], 5, 0)}
    variables = jax.jit(model.init)(KEY, batch)

    @jax.jit
    def ask(query, key=KEY):
        z = jnp.ones((query.num_samples, 5, 2))
        given = dataclasses.replace(query, given={"z": z})
        return model.evidence(variables, batch, key, given)[0].log_likelihood

    return ask


@pytest.mark.parametrize("weights", [VariationalWeights(), HorseshoeWeights(), RectifiedWeights()], ids=repr)
def test_samples_of_a_bound_share_one_draw_of_the_network(weights):
    ask, other = bayesian(weights), jax.random.key(9)
    several = ask(Query(3, train=True))
    assert np.ptp(several) < 1e-5 and abs(several - ask(Query(3, train=True), other)).min() > 1e-4
    single = ask(Query(1, train=True))
    assert (np.ptp(single) > 1e-4) == (not isinstance(weights, RectifiedWeights))
    means = ask(Query(3))
    np.testing.assert_array_equal(means, ask(Query(3), other))
    assert np.ptp(means) < 1e-5 and abs(means - several).min() > 1e-4
    drawn = ask(Query(3, weights=KEY))
    np.testing.assert_array_equal(drawn, ask(Query(3, weights=KEY), other))
    assert np.ptp(drawn) < 1e-5 and abs(drawn - ask(Query(3, weights=other))).min() > 1e-4


class Twice(nn.Module):
    """One layer that is used twice."""

    weights: VariationalWeights

    @nn.compact
    def evidence(self, batch, query):
        layer = VariationalDense(3, self.weights)
        return Evidence(jnp.tile((layer(batch["x"]) - layer(batch["x"])).sum(-1), (query.num_samples, 1)))


def test_a_layer_that_is_used_twice_pays_once_and_keeps_its_weights():
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
    (found,) = mean_weights(module, variables, batch).values()
    bias = variables["params"]["likelihood"]["VariationalDense_0"]["bias"]
    mean = jax.jit(functional(module).evidence)(variables, batch, KEY)[0].likelihood["mean"][0]
    np.testing.assert_allclose(mean, batch["context"] @ found + bias[None], rtol=1e-5)


# Precision, and what is refused


@pytest.mark.parametrize("num_samples", [1, 2])
def test_bfloat16_trains_parameters_in_float32(num_samples):
    for weights in (VariationalWeights(), HorseshoeWeights()):
        model = functional(VAE(2, encoder=MLP((3,)), decoder=MLP((4,), weights=weights), shape=(2, 2)))
        variables = jax.jit(model.init)(KEY, {"x": X})
        half = in_precision(model, jnp.bfloat16)
        assert "bf16" in str(jax.make_jaxpr(lambda v, m=half: m.evidence(v, {"x": X}, KEY))(variables))

        def loss(params, m):
            return ELBO(num_samples)(m, {"params": params}, {"x": X}, KEY, jnp.asarray(0), 6)[0]

        value, gradient = jax.jit(jax.value_and_grad(functools.partial(loss, m=half)))(variables["params"])
        assert all(leaf.dtype == jnp.float32 and np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
        whole = jax.jit(functools.partial(loss, m=model))(variables["params"])
        np.testing.assert_allclose(value, whole, rtol=0.02)


@pytest.mark.parametrize(
    "build, answer",
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
def test_what_cannot_be_is_refused(build, answer):
    with pytest.raises(ValueError, match="expected") as refused:
        build()
    assert answer in str(refused.value)


def test_a_stack_of_layers_is_refused():
    class Stacked(nn.Module):
        weights: VariationalWeights = VariationalWeights()

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

    def answer(x, own):
        with weights_drawn(KEY, len(x) if own else None):
            return layer.apply(variables, x, below, above)

    for own in (True, False):
        slope = jax.jit(jax.jacfwd(lambda x, own=own: answer(x, own)))(jnp.ones((1, 2)))[0, :, 0]  # [out, in]
        np.testing.assert_array_equal(slope != 0, [[True, False], [True, True], [True, True]])
