"""Right numbers: models whose likelihood is known in closed form or by enumeration."""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.likelihoods.categorical import Categorical
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.masked import made_degrees
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.contract import Query
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.objectives.score_function import NVIL
from dgmzoo.training import devices
from dgmzoo.training.step import make_init, make_step
from dgmzoo.zoo.ddnn.made import MADE
from dgmzoo.zoo.dvae.sigmoid_belief_network import SigmoidBeliefNetwork
from dgmzoo.zoo.vae.vae import VAE
from tests.support import probes

# The linear-Gaussian model: columns of W are orthogonal, so that the exact posterior has independent units.
W = np.array([[1.0, 0.5], [-0.5, 1.0], [0.8, 0.3], [-0.3, 0.8]])
MEAN = np.array([0.3, -1.0, 2.0, 0.0])
NOISE = 0.7
VARIANCE = 1 / (1 + (W**2).sum(0) / NOISE**2)  # of the posterior, [U]
MARGINAL = stats.multivariate_normal(MEAN, W @ W.T + NOISE**2 * np.eye(4))
ROWS = {"x": MARGINAL.rvs(300, random_state=0)}


def _raw(scale):
    """What the layers turn into `scale`: softplus, shifted so that 0 gives 1."""
    return np.log(np.expm1(scale)) - math.log(math.expm1(1))


def linear_gaussian(shift=0.0, widen=1.0):
    """A zoo VAE that is that model; its posterior is exact but for the shift (in its standard deviations) and width."""
    model = functional(VAE(2, encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(4,)))
    sd = np.sqrt(VARIANCE)
    gain = VARIANCE * W / NOISE**2  # [D, U]
    encoder, decoder = np.zeros((4, 2, 2)), np.zeros((2, 4, 2))
    encoder[..., 0], decoder[..., 0] = gain, W.T
    params = {
        "z": {
            "posterior_head": {
                "kernel": encoder.reshape(4, 4),
                "bias": np.stack([-MEAN @ gain + shift * sd, _raw(widen * sd)], -1).reshape(4),
            }
        },
        "likelihood": {
            "Dense_0": {
                "kernel": decoder.reshape(2, 8),
                "bias": np.stack([MEAN, np.full(4, _raw(NOISE))], -1).reshape(8),
            }
        },
    }
    variables = {"params": jax.tree.map(jnp.asarray, params)}
    born = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 4), jnp.float32)})
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, born)
    return model, variables


@pytest.mark.parametrize("num_samples", [1, 7, 130])
def test_the_exact_posterior_gives_log_p_from_any_number_of_samples(x64, num_samples):
    """130 samples are not a whole number of chunks, 300 rows not one of batches."""
    model, variables = linear_gaussian()
    found = evaluate(model, variables, ROWS, jax.random.key(0), num_samples)
    np.testing.assert_allclose(found.per_example, MARGINAL.logpdf(ROWS["x"]), rtol=0, atol=1e-10)
    assert found.value == pytest.approx(-MARGINAL.logpdf(ROWS["x"]).mean(), abs=1e-10)
    assert found.standard_error == pytest.approx(stats.sem(MARGINAL.logpdf(ROWS["x"])), abs=1e-10)
    assert found.elbo == pytest.approx(-found.value, abs=1e-10)
    assert num_samples == 1 or found.monte_carlo_error < 1e-7  # one sample cannot tell
    means = (ROWS["x"] - MEAN) @ (VARIANCE * W / NOISE**2)
    np.testing.assert_allclose(found.means["z"], means, atol=1e-10)
    kl = 0.5 * (VARIANCE + (means**2).mean(0) - 1 - np.log(VARIANCE))
    np.testing.assert_allclose(found.kl["z"], kl, atol=1e-10)
    assert found.active_units() == {"z": 2}


def test_importance_weights_of_another_posterior_come_near(x64):
    shift, widen, num_samples = 0.3, 1.3, 1030
    model, variables = linear_gaussian(shift, widen)
    found = evaluate(model, variables, ROWS, jax.random.key(1), num_samples)
    exact = MARGINAL.logpdf(ROWS["x"])
    # Weights over p(x): N(0, 1) over N(shift, widen^2) for each unit, whose second moment is a Gaussian integral.
    spread = 2 * widen**2 - 1
    variance = (widen**2 / math.sqrt(spread) * math.exp(shift**2 / spread)) ** 2 - 1
    assert found.monte_carlo_error == pytest.approx(math.sqrt(variance / num_samples / 300), rel=0.05)
    bias = variance / (2 * num_samples)
    assert abs(found.value + exact.mean()) < 3 * found.monte_carlo_error + bias
    z = (found.per_example - exact) / np.sqrt(variance / num_samples)
    assert abs(z.std() - 1) < 0.2
    # KL(q || exact posterior) is the gap of the ELBO.
    gap = 2 * (0.5 * (widen**2 + shift**2 - 1) - math.log(widen))
    assert found.elbo == pytest.approx(exact.mean() - gap, abs=0.01)


def test_training_reaches_probabilistic_pca(x64):
    """Tipping & Bishop 1999, equations 7 and 8: the maximum likelihood in the eigenvalues of the sample covariance."""
    units, dims, num = 2, 5, 200
    random = np.random.default_rng(0)
    x = random.normal(size=(num, units)) @ random.normal(size=(units, dims)) + 0.5 * random.normal(size=(num, dims)) + 1
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    rest = eigenvalues[units:].mean()
    log_det = np.log(eigenvalues[:units]).sum() + (dims - units) * math.log(rest)
    best = -0.5 * (dims * math.log(2 * math.pi) + log_det + dims)
    steps = 2500
    model = functional(probes.LinearGaussian())
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, steps))
    objective = ELBO(num_samples=16)
    init = make_init(model, objective, optimizer, lambda key, rows: dict(rows), False)
    step = make_step(model, objective, optimizer, lambda key, rows: dict(rows), num, None)
    rows = {"x": jnp.asarray(x)}
    state = jax.jit(init)(jax.random.key(0), {"x": rows["x"].astype(jnp.float32)})
    state = jax.tree.map(lambda leaf: leaf.astype(jnp.float64) if leaf.dtype == jnp.float32 else leaf, state)
    dispatch = devices.compile_dispatch(step, jax.devices()[:1])
    state, _ = dispatch(state, rows, np.tile(np.arange(num, dtype=np.int32), (steps, 1)))
    params = jax.device_get(state.variables["params"])
    kernel, scale = params["decoder"]["kernel"], np.exp(params["log_scale"])
    learned = stats.multivariate_normal(params["decoder"]["bias"], kernel.T @ kernel + scale**2 * np.eye(dims))
    assert best - 0.01 < learned.logpdf(x).mean() < best + 1e-9
    found = evaluate(model, state.variables, {"x": x}, jax.random.key(1), 500)
    assert best - 0.01 < found.elbo < best + 0.003
    assert best - 0.01 < -found.value < best + 0.003


MADES = {
    "one mask": MADE(hidden=(20, 20), shape=(2, 3)),
    "one order": MADE(hidden=(20,), random_order=True, shape=(6,)),
    "three masks": MADE(hidden=(20,), num_masks=3, random_order=True, shape=(6,)),
    "categorical": MADE(hidden=(20,), random_order=True, likelihood=Categorical(num_classes=3), shape=(4,)),
}


def _made(name, seed=0):
    """A MADE with weights of some size, its rows over all x, in double precision."""
    module = MADES[name]
    model, dims = functional(module), math.prod(module.shape)
    tokens = isinstance(module.likelihood, Categorical)
    every = np.array(list(itertools.product(range(3 if tokens else 2), repeat=dims)))
    x = every.reshape(-1, *module.shape).astype(np.int32 if tokens else np.float64)
    width = np.float32 if tokens else np.float64  # tokens enter the network as float32
    variables = jax.jit(model.init)(jax.random.key(0), {"x": jnp.asarray(x[:1], jnp.int32 if tokens else jnp.float32)})
    random = np.random.default_rng(seed)
    spread = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), width), variables)
    return module, model, spread, {"x": jnp.asarray(x)}


@pytest.mark.parametrize("name", MADES)
def test_made_sums_to_one(x64, name):
    module, model, variables, rows = _made(name)
    tolerance = 1e-5 if name == "categorical" else 1e-10
    total = 0.0
    for step in range(module.num_masks):  # each mask in turn, as training uses them
        query = Query(2, train=True, step=step)
        evidence, _ = model.evidence(variables, rows, jax.random.key(0), query)
        assert evidence.log_likelihood.shape == (2, len(rows["x"]))
        probability = np.exp(evidence.log_likelihood[0])
        assert probability.sum() == pytest.approx(1, abs=tolerance)
        assert probability.max() < 0.5, "too narrow to tell anything"
        total = total + probability / module.num_masks
    mixture, _ = model.evidence(variables, rows, jax.random.key(0))
    np.testing.assert_allclose(np.exp(mixture.log_likelihood[0]), total, atol=tolerance)
    found = evaluate(model, variables, rows, jax.random.key(0), 100)
    np.testing.assert_allclose(np.exp(found.per_example), total, atol=tolerance)


@pytest.mark.parametrize("name", ["one mask", "one order", "three masks"])
def test_made_connects_what_it_may_and_nothing_else(x64, name):
    module, model, variables, rows = _made(name)
    dims = math.prod(module.shape)
    orders = made_degrees(dims, module.hidden, module.num_masks, module.random_order, module.mask_seed)[0]
    assert (np.sort(orders, 1) == np.arange(1, dims + 1)).all()
    assert len({tuple(order) for order in orders}) == module.num_masks
    assert ((orders == np.arange(1, dims + 1)).all()) == (not module.random_order)
    for mask in range(module.num_masks):

        def logits(x, mask=mask):
            query = Query(train=True, step=mask)
            evidence, _ = model.evidence(variables, {"x": x[None]}, jax.random.key(0), query)
            return evidence.parameters["logits"].reshape(dims)

        jacobian = jax.vmap(jax.jacfwd(logits))(rows["x"]).reshape(-1, dims, dims)  # d logit / d x
        connected = (np.asarray(jacobian) != 0).any(0)
        np.testing.assert_array_equal(connected, orders[mask][:, None] > orders[mask][None])


BELIEF_NETWORKS = {"one layer": (3,), "two layers": (3, 2)}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _enumerated(model, variables, batch, sizes):
    """`log p(x, z)` and `log q(z | x)` for every z, `[2^sum(sizes), B]`."""
    codes = probes.all_codes(sum(sizes))
    parts = jnp.split(codes, np.cumsum(sizes)[:-1], 1)
    rows = batch["x"].shape[0]
    given = {f"z{i + 1}": jnp.repeat(part[:, None], rows, 1) for i, part in enumerate(parts)}
    evidence, _ = model.evidence(variables, batch, jax.random.key(0), Query(len(codes), given=given))
    return evidence.log_joint, evidence.log_q


@pytest.fixture(scope="module", params=BELIEF_NETWORKS)
def belief_network(request):
    """Model, variables, batch and sizes of a belief network with weights of some size, and its baseline."""
    sizes = BELIEF_NETWORKS[request.param]
    model = functional(SigmoidBeliefNetwork(latent_dims=sizes, hidden=(4,), shape=(4,)))
    objective = NVIL(num_samples=4, baseline_hidden=(4,), decay=0.95)
    batch = {"x": jnp.asarray(np.random.default_rng(0).integers(0, 2, (8, 4)), jnp.float32)}
    own = objective.init(jax.random.key(1), batch)
    params = jax.jit(model.init)(jax.random.key(0), batch)["params"]
    random = np.random.default_rng(2)
    params = jax.tree.map(lambda leaf: jnp.asarray(random.normal(0, 0.7, leaf.shape), jnp.float32), params)
    return model, objective, {**own, "params": {**params, **own["params"]}}, batch, sizes


def test_score_function_gradient_agrees_with_enumeration(belief_network):
    model, objective, variables, batch, sizes = belief_network

    def exact(params):
        log_joint, log_q = _enumerated(model, {**variables, "params": params}, batch, sizes)
        return -(jnp.exp(log_q) * (log_joint - log_q)).sum(0).mean()

    def sampled(params, key):
        return objective(model, {**variables, "params": params}, batch, key, jnp.asarray(0), 8)

    num = 4000
    keys = jax.random.split(jax.random.key(3), num)
    each, (metrics, updates) = jax.jit(jax.vmap(jax.grad(sampled, has_aux=True), (None, 0)))(variables["params"], keys)
    assert updates["signal"]["variance"].max() < 1, "the signal is scaled only where it is large"
    truth = jax.jit(jax.grad(exact))(variables["params"])
    del truth["baseline"], each["baseline"]
    worst = 0.0
    for path, leaf in jax.tree.leaves_with_path(truth):
        draws = np.asarray(_at(each, path), np.float64)
        error = draws.std(0, ddof=1) / math.sqrt(num)
        assert (np.abs(leaf) > 4 * error).any() or leaf.size < 3, "no power"
        worst = max(worst, (np.abs(draws.mean(0) - leaf) / np.maximum(error, 1e-6)).max())
    assert worst < 4
    elbo, error = metrics["elbo"].mean(), metrics["elbo"].std() / math.sqrt(num)
    assert abs(elbo + exact(variables["params"])) < 4 * error


def _at(tree, path):
    for key in path:
        tree = tree[key.key]
    return tree


def test_bounds_are_below_the_enumerated_likelihood(belief_network):
    model, _, variables, batch, sizes = belief_network
    log_joint, log_q = _enumerated(model, variables, batch, sizes)
    np.testing.assert_allclose(jnp.exp(log_q).sum(0), 1, rtol=1e-5)
    exact = np.asarray(jax.nn.logsumexp(log_joint, 0))
    elbo = np.asarray((jnp.exp(log_q) * (log_joint - log_q)).sum(0))
    assert (elbo < exact - 0.01).all()
    found = evaluate(model, variables, batch, jax.random.key(4), 5000)
    assert abs(-found.value - exact.mean()) < 4 * found.monte_carlo_error
    assert 0 < found.monte_carlo_error < 0.03
    assert found.elbo == pytest.approx(elbo.mean(), abs=0.03)
    rows = {"x": jnp.asarray(list(itertools.product((0.0, 1.0), repeat=4)))}
    everything, _ = _enumerated(model, variables, rows, sizes)
    assert jnp.exp(everything).sum() == pytest.approx(1, abs=1e-4)
