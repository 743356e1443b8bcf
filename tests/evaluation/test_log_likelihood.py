"""Importance-weighted log-likelihood of linear-Gaussian models, whose likelihood has a closed form."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from dgmzoo.evaluation.log_likelihood import evaluate
from dgmzoo.layers.likelihoods.normal import Normal
from dgmzoo.layers.networks.mlp import MLP
from dgmzoo.model.functional import functional
from dgmzoo.objectives.elbo import ELBO
from dgmzoo.training import devices
from dgmzoo.training.step import make_init, make_step
from dgmzoo.zoo.vae.vae import VAE
from tests.support import probes

# A linear-Gaussian model. The columns of W are orthogonal, so that the exact posterior has independent units.
W = np.array([[1.0, 0.5], [-0.5, 1.0], [0.8, 0.3], [-0.3, 0.8]])
MEAN = np.array([0.3, -1.0, 2.0, 0.0])
NOISE = 0.7
VARIANCE = 1 / (1 + (W**2).sum(0) / NOISE**2)  # of the posterior, [U]
MARGINAL = stats.multivariate_normal(MEAN, W @ W.T + NOISE**2 * np.eye(4))
ROWS = {"x": MARGINAL.rvs(300, random_state=0)}


def _unconstrained(scale):
    """Unconstrained parameter of a scale, which layers pass through a softplus shifted to give 1 at 0."""
    return np.log(np.expm1(scale)) - math.log(math.expm1(1))


def linear_gaussian(shift=0.0, widen=1.0):
    """The model above as a `VAE` of the zoo.

    Args:
      shift: error of the posterior's location, in standard deviations.
      widen: factor of the posterior's scale.
    """
    model = functional(VAE(2, encoder=MLP(()), decoder=MLP(()), likelihood=Normal(), shape=(4,)))
    sd = np.sqrt(VARIANCE)
    gain = VARIANCE * W / NOISE**2  # [D, U]
    encoder, decoder = np.zeros((4, 2, 2)), np.zeros((2, 4, 2))
    encoder[..., 0], decoder[..., 0] = gain, W.T
    params = {
        "z": {
            "q": {
                "head": {
                    "kernel": encoder.reshape(4, 4),
                    "bias": np.stack([-MEAN @ gain + shift * sd, _unconstrained(widen * sd)], -1).reshape(4),
                }
            }
        },
        "likelihood": {
            "Dense_0": {
                "kernel": decoder.reshape(2, 8),
                "bias": np.stack([MEAN, np.full(4, _unconstrained(NOISE))], -1).reshape(8),
            }
        },
    }
    variables = {"params": jax.tree.map(jnp.asarray, params)}
    initial = jax.eval_shape(model.init, jax.random.key(0), {"x": jnp.zeros((1, 4), jnp.float32)})
    assert jax.tree.map(jnp.shape, variables) == jax.tree.map(lambda leaf: leaf.shape, initial)
    return model, variables


@pytest.mark.parametrize("num_samples", [1, 7, 130])
def test_the_exact_posterior_gives_log_p_for_any_number_of_samples(x64, num_samples):
    """130 samples are not a multiple of a chunk, and 300 rows are not a multiple of a batch."""
    model, variables = linear_gaussian()
    estimate = evaluate(model, variables, ROWS, jax.random.key(0), num_samples)
    np.testing.assert_allclose(estimate.per_example, MARGINAL.logpdf(ROWS["x"]), rtol=0, atol=1e-10)
    assert estimate.value == pytest.approx(-MARGINAL.logpdf(ROWS["x"]).mean(), abs=1e-10)
    assert estimate.standard_error == pytest.approx(stats.sem(MARGINAL.logpdf(ROWS["x"])), abs=1e-10)
    assert estimate.elbo == pytest.approx(-estimate.value, abs=1e-10)
    assert num_samples < 10 or estimate.monte_carlo_error < 1e-7  # NaN for fewer than 10 samples
    means = (ROWS["x"] - MEAN) @ (VARIANCE * W / NOISE**2)
    np.testing.assert_allclose(estimate.means["z"], means, atol=1e-10)
    kl = 0.5 * (VARIANCE + (means**2).mean(0) - 1 - np.log(VARIANCE))
    np.testing.assert_allclose(estimate.kl["z"], kl, atol=1e-10)
    assert estimate.active_units() == {"z": 2}


def test_the_estimate_and_its_error_agree_with_the_variance_of_the_weights(x64):
    shift, widen, num_samples = 0.3, 1.3, 1030
    model, variables = linear_gaussian(shift, widen)
    estimate = evaluate(model, variables, ROWS, jax.random.key(1), num_samples)
    exact = MARGINAL.logpdf(ROWS["x"])
    # A weight divided by p(x) is N(0, 1) over N(shift, widen^2) for each unit; its second moment is a Gaussian integral.
    spread = 2 * widen**2 - 1
    variance = (widen**2 / math.sqrt(spread) * math.exp(shift**2 / spread)) ** 2 - 1
    assert estimate.monte_carlo_error == pytest.approx(math.sqrt(variance / num_samples / 300), rel=0.05)
    bias = variance / (2 * num_samples)
    assert abs(estimate.value + exact.mean()) < 3 * estimate.monte_carlo_error + bias
    z = (estimate.per_example - exact) / np.sqrt(variance / num_samples)
    assert abs(z.std() - 1) < 0.2
    # The gap of the ELBO is KL(q || exact posterior).
    gap = 2 * (0.5 * (widen**2 + shift**2 - 1) - math.log(widen))
    assert estimate.elbo == pytest.approx(exact.mean() - gap, abs=0.01)


@pytest.mark.thorough
def test_training_reaches_the_likelihood_of_probabilistic_pca(x64):
    """The maximum likelihood follows from the eigenvalues of the covariance (Tipping & Bishop 1999, equations 7 and 8)."""
    units, dims, num = 2, 5, 200
    random = np.random.default_rng(0)
    x = random.normal(size=(num, units)) @ random.normal(size=(units, dims)) + 0.5 * random.normal(size=(num, dims)) + 1
    eigenvalues = np.sort(np.linalg.eigvalsh(np.cov(x.T, bias=True)))[::-1]
    noise = eigenvalues[units:].mean()
    log_det = np.log(eigenvalues[:units]).sum() + (dims - units) * math.log(noise)
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
    estimate = evaluate(model, state.variables, {"x": x}, jax.random.key(1), 500)
    assert best - 0.01 < estimate.elbo < best + 0.003
    assert best - 0.01 < -estimate.value < best + 0.003
