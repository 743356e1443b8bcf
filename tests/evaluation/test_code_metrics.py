"""Metrics of codes against closed forms."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from dgmzoo.evaluation import code_metrics
from dgmzoo.model.contract import Evidence, Latent, Model
from dgmzoo.reparam.ops import relaxed_promotion

KEY = jax.random.key(1)
random = np.random.default_rng(0)


def model_from(posterior, likelihood=lambda z, x: jnp.zeros(z.shape[:2]), below=None) -> Model:
    """A `Model` made of a posterior `x [B, D] -> q [B, U]`, a log-likelihood, and optionally a second layer given the first."""

    def latent(q, name, key, query, num):
        with relaxed_promotion():
            z = query.given[name] if name in query.given else q.sample(key, (num,)[: 3 - len(q.batch_shape)])
            log_q = q.log_prob(z).sum(-1)
        zero = jnp.zeros(log_q.shape)
        return Latent(z, z, zero, log_q, jnp.zeros(z.shape), {"mean": z})

    def evidence(variables, batch, key, query):
        latents = {"z1": latent(posterior(batch["x"]), "z1", key, query, query.num_samples)}
        z = latents["z1"].value
        if below:
            latents["z2"] = latent(below(z), "z2", jax.random.fold_in(key, 2), query, query.num_samples)
        return Evidence(likelihood(z, batch["x"]), latents, parameters={"mean": z}), {}

    return Model(None, evidence, None, None, "elbo")


def information(model, x, num=None):
    codes = code_metrics.sample_codes(model, {}, {"x": x[:num]}, KEY)
    return code_metrics.mutual_information(model, {}, {"x": x}, codes, KEY)


def linear(noise, weight=(2.0, 0.5)):
    return lambda x: dist.Normal(x * jnp.asarray([weight]), noise)


def test_information_of_a_linear_gaussian_code():
    x = random.normal(size=(4050, 2)).astype(np.float32)  # no whole number of batches
    estimate, error = information(model_from(linear(1.0)), x, num=3010)
    exact = 0.5 * (math.log(1 + 4) + math.log(1 + 0.25))
    assert error < 0.02 and abs(estimate - exact) < 4 * error + 0.005  # the covariance of the sampled x differs from 1


def test_information_of_a_binary_code():
    x = np.repeat(np.array([[0.0], [1.0]], np.float32), 1000, 0)[random.permutation(2000)]
    flip = 0.2  # probability that the code differs from x
    estimate, error = information(model_from(lambda x: dist.Bernoulli(flip + (1 - 2 * flip) * x)), x)
    exact = math.log(2) + flip * math.log(flip) + (1 - flip) * math.log(1 - flip)
    assert abs(estimate - exact) < 4 * error < 0.08


def test_information_is_zero_for_a_constant_posterior_and_log_n_for_a_narrow_one():
    x = random.normal(size=(333, 2)).astype(np.float32)
    assert abs(information(model_from(linear(1.0, (0.0, 0.0))), x)[0]) < 1e-5
    assert information(model_from(linear(1e-4)), x)[0] == pytest.approx(math.log(333), abs=1e-3)


def test_a_layer_inferred_from_the_first_adds_no_information():
    x = random.normal(size=(210, 2)).astype(np.float32)
    one = information(model_from(linear(0.5)), x)
    two = information(model_from(linear(0.5), below=lambda z: dist.Normal(3 * z, 0.1)), x)
    np.testing.assert_allclose(one, two, atol=1e-4)


def test_hoyer_sparsity_of_dense_sparse_and_normal_codes():
    assert code_metrics.hoyer_sparsity(np.diag([3.0, -2.0, 1e6, 1e-6])) == pytest.approx(1)
    assert code_metrics.hoyer_sparsity(
        np.array([[1.0, 1, -1, 1], [-1.0, -1, 1, -1]]) * [1, 5, 9, 1e3]
    ) == pytest.approx(0)
    root = math.sqrt(3)  # rows (1, 1, 0): |z|_1 / |z|_2 = sqrt 2 for any scales
    cycled = np.array([[1.0, 1, 0], [0, 1, 1], [1, 0, 1]]) * [1, 10, 100]
    assert code_metrics.hoyer_sparsity(cycled) == pytest.approx((root - math.sqrt(2)) / (root - 1))
    assert code_metrics.hoyer_sparsity(np.zeros((5, 3))) == 1 and math.isnan(
        code_metrics.hoyer_sparsity(np.ones((5, 1)))
    )
    wide = code_metrics.hoyer_sparsity(random.normal(size=(200, 10_000)))
    assert wide == pytest.approx((100 - math.sqrt(2 / math.pi) * 100) / 99, abs=1e-3)


def test_flip_pixels_flips_exactly_the_share():
    x = random.integers(0, 2, (50, 5, 8, 1)).astype(np.float32)
    flipped = code_metrics.flip_pixels(x, 0.1, seed=3)
    changed = (flipped != x).reshape(50, -1)
    assert flipped.dtype == x.dtype and (changed.sum(1) == 4).all() and changed.any(0).all()
    np.testing.assert_array_equal(flipped, code_metrics.flip_pixels(x, 0.1, seed=3))
    assert (flipped != code_metrics.flip_pixels(x, 0.1, seed=4)).any()
    with pytest.raises(ValueError, match="expected x in"):
        code_metrics.flip_pixels(x + 0.5, 0.1, 0)


def test_a_code_of_flipped_pixels_costs_the_flipped_pixels_under_a_copying_decoder():
    def copying(z, x):
        return jnp.where(z == x[None], math.log(0.9), math.log(0.1)).sum(-1)

    model = model_from(lambda x: dist.Delta(x), copying)
    rows = {"x": random.integers(0, 2, (130, 30)).astype(np.float32)}
    flipped_codes = code_metrics.sample_codes(model, {}, {"x": code_metrics.flip_pixels(rows["x"], 0.1, 0)}, KEY)
    log_likelihood = code_metrics.sample_codes(model, {}, rows, KEY, flipped_codes.samples).log_likelihood
    np.testing.assert_allclose(log_likelihood, 27 * math.log(0.9) + 3 * math.log(0.1), rtol=1e-5)
    np.testing.assert_allclose(
        code_metrics.sample_codes(model, {}, rows, KEY).log_likelihood, 30 * math.log(0.9), rtol=1e-5
    )


def test_traversal_moves_one_unit_through_its_aggregate_posterior():
    model = model_from(linear(1e-6, (1.0, 1.0, 1.0)))
    rows = {"x": random.normal(size=(501, 3)).astype(np.float32)}
    codes = code_metrics.sample_codes(model, {}, rows, KEY)
    moved = code_metrics.latent_traversal(model, {}, rows, codes, "z1", np.array([2, 0]), steps=5).reshape(2, 5, 3)
    np.testing.assert_allclose(moved[0, :, 2], np.quantile(rows["x"][:, 2], np.linspace(0.02, 0.98, 5)), atol=1e-4)
    np.testing.assert_allclose(moved[1, :, 1:], np.broadcast_to(rows["x"][0, 1:], (5, 2)), atol=1e-4)
    np.testing.assert_allclose(codes.values["z1"], rows["x"], atol=1e-4)


def test_traversal_of_directions_stays_on_the_sphere():
    model = model_from(linear(1e-7, (1.0, 1.0, 1.0)))
    x = random.normal(size=(501, 3)).astype(np.float32)
    rows = {"x": x / np.linalg.norm(x, axis=1, keepdims=True)}
    codes = code_metrics.sample_codes(model, {}, rows, KEY)
    moved = code_metrics.latent_traversal(model, {}, rows, codes, "z1", np.array([1]), steps=5)
    np.testing.assert_allclose(np.linalg.norm(moved, axis=1), 1, atol=1e-4)
    np.testing.assert_allclose(moved[:, 1], np.quantile(rows["x"][:, 1], np.linspace(0.02, 0.98, 5)), atol=1e-4)
    np.testing.assert_allclose(moved[:, 0] / moved[:, 2], rows["x"][0, 0] / rows["x"][0, 2], rtol=1e-3)


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="at least one example"):
        code_metrics.sample_codes(model_from(linear(1.0)), {}, {"x": np.zeros((0, 2), np.float32)}, KEY)
