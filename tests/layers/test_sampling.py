"""Scans over time: particles against the Kalman filter, samples given back, lengths, and parameters made from rows."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from dgmzoo.layers.latents.variational import VariationalLayer
from dgmzoo.layers.sampling import ancestral, from_rows, over_time
from dgmzoo.model.contract import Evidence, Query
from dgmzoo.model.functional import functional

X = np.array([[0.3, -1.0, 0.5, 2.0], [1.2, 0.4, 0.0, 0.0]], np.float32)
LENGTH = np.array([4, 2], np.int32)
NUM = 4000


class StateSpace(nn.Module):
    """z_t ~ N(z_{t-1}, 1), x_t ~ N(z_t, 1), with the proposal q(z_t | x_t, z_{t-1}) of a layer."""

    def setup(self):
        self.z = VariationalLayer(units=1)

    def evidence(self, batch, query):
        x = batch["x"].T[..., None]  # [T, B, 1]

        def step(module, state, x, query):
            inputs = jnp.concatenate([state, jnp.broadcast_to(x[None], state.shape)], -1)
            z = module.z(inputs, query, "z", above=state)
            log_p = -0.5 * jnp.square(x[None] - z.value)[..., 0] - 0.5 * jnp.log(2 * jnp.pi)
            return z.value, z, log_p, None

        start = jnp.zeros((query.num_samples, len(batch["x"]), 1))
        scan = over_time(self, step, start, x, query, "z", batch["length"])
        return Evidence(scan.log_likelihood, scan.latents)


def variables():
    """The exact transition, and a proposal at half the way from the state to x."""
    half = jnp.array([[0.5, 0.0], [0.5, 0.0]])
    unit = jnp.array([[1.0, 0.0]])
    return {
        "params": {
            "z": {
                "q": {"head": {"kernel": half, "bias": jnp.zeros(2)}},
                "p": {"head": {"kernel": unit, "bias": jnp.zeros(2)}},
            }
        }
    }


def kalman(x):
    """Log-density of the observations of one sequence."""
    mean, variance, total = 0.0, 0.0, 0.0
    for value in x:
        variance += 1
        total += stats.norm.logpdf(value, mean, np.sqrt(variance + 1))
        gain = variance / (variance + 1)
        mean, variance = mean + gain * (value - mean), variance * (1 - gain)
    return total


MODEL = functional(StateSpace())
BATCH = {"x": jnp.asarray(X), "length": jnp.asarray(LENGTH)}
EXACT = np.array([kalman(X[0]), kalman(X[1, :2])])


@pytest.mark.parametrize("resample", [False, True])
def test_the_mean_weight_of_particles_is_the_density_of_the_kalman_filter(resample):
    query = Query(NUM, resample=resample)
    evidence, _ = jax.jit(MODEL.evidence)(variables(), BATCH, jax.random.key(0), query)
    bound = jax.nn.logsumexp(evidence.log_weight, 0) - np.log(NUM)
    np.testing.assert_allclose(bound, EXACT, atol=0.05)
    given = {name: latent.sample for name, latent in evidence.latents.items()}
    assert set(given) == ({"z", "z_ancestors"} if resample else {"z"})
    again, _ = jax.jit(MODEL.evidence)(
        variables(), BATCH, jax.random.key(1), Query(NUM, resample=resample, given=given)
    )
    np.testing.assert_allclose(again.log_weight, evidence.log_weight, atol=1e-5)


def test_resampling_raises_the_mean_bound_of_few_particles():
    def bound(key, resample):
        evidence, _ = MODEL.evidence(variables(), BATCH, key, Query(4, resample=resample))
        return jax.nn.logsumexp(evidence.log_weight, 0) - np.log(4)

    keys = jax.random.split(jax.random.key(0), 2000)
    without, resampled = (jax.jit(jax.vmap(lambda key, r=r: bound(key, r)))(keys) for r in (False, True))
    error = np.sqrt((without.var(0) + resampled.var(0)) / len(keys))
    assert (without.mean(0) < EXACT).all() and (resampled.mean(0) < EXACT).all()
    assert (
        np.abs(jnp.exp(resampled - EXACT[None]).mean(0) - 1) < 4 * jnp.exp(resampled - EXACT[None]).std(0) / 44
    ).all()
    assert resampled.mean(0)[0] > without.mean(0)[0] - 3 * error[0]


def test_steps_beyond_the_length_have_no_part():
    changed = {**BATCH, "x": BATCH["x"].at[1, 2:].set(7.0)}
    evidence, _ = MODEL.evidence(variables(), BATCH, jax.random.key(0), Query(3))
    given = {"z": evidence.latents["z"].sample}
    other, _ = MODEL.evidence(variables(), changed, jax.random.key(0), Query(3, given=given))
    np.testing.assert_array_equal(other.log_weight, evidence.log_weight)
    assert evidence.latents["z"].sample.shape == (3, 2, 4, 1) and evidence.latents["z"].kl.shape == (3, 2, 4)
    assert (np.asarray(evidence.latents["z"].kl)[:, 1, 2:] == 0).all()


class Rows(nn.Module):
    num: int = 3

    @nn.compact
    def evidence(self, batch, query):
        rows = from_rows(self, "rows", self.num, query)
        return Evidence(-jnp.square(batch["x"][:, None] - rows[None]).sum((1, 2))[None])


def test_parameters_start_at_rows_of_initialization():
    params = functional(Rows(2)).init(jax.random.key(0), BATCH)["params"]
    np.testing.assert_array_equal(params["rows"], X)
    with pytest.raises(ValueError, match=r"expected at least 3 training rows for the parameters 'rows', got 2"):
        functional(Rows(3)).init(jax.random.key(0), BATCH)


def test_ancestral_sampling_follows_the_order_and_splits_the_noise():
    class Walk(nn.Module):
        @nn.compact
        def __call__(self):
            def step(module, x, index):
                return x.at[index].set(jax.random.normal(module.make_rng("sample"))), index

            return ancestral(self, step, jnp.zeros(3), jnp.array([2, 0, 1]))

    x, order = Walk().apply({}, rngs={"sample": jax.random.key(0)})
    assert order.tolist() == [2, 0, 1] and len(set(np.asarray(x).tolist())) == 3
