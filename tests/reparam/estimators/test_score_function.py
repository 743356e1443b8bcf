"""The normalization of the learning signal: statistics from before the batch, and those of the other samples at first."""

import jax.numpy as jnp
import numpy as np

from dgmzoo.reparam.estimators.score_function import normalized_signal

SIGNAL = jnp.array([[3.0, -9.0, 1.0], [4.0, 20.0, -2.0]])


def test_f62_the_statistics_do_not_contain_the_batch():
    normalized = normalized_signal(SIGNAL, jnp.array(2.0), jnp.array(25.0), 0.8)
    np.testing.assert_allclose(normalized.signal, (SIGNAL - 2) / 5, rtol=1e-6)
    np.testing.assert_allclose(normalized.mean, 0.8 * 2 + 0.2 * SIGNAL.mean(), rtol=1e-6)
    np.testing.assert_allclose(normalized.variance, 0.8 * 25 + 0.2 * SIGNAL.var(), rtol=1e-6)


def test_f62_the_first_batch_is_compared_with_its_other_samples():
    normalized = normalized_signal(SIGNAL, jnp.array(0.0), jnp.array(0.0), 0.8)
    flat = np.asarray(SIGNAL).ravel()
    others = np.array([np.delete(flat, i) for i in range(flat.size)])
    expected = (flat - others.mean(1)) / np.maximum(1, others.std(1))
    np.testing.assert_allclose(np.ravel(normalized.signal), expected, rtol=1e-5)
    np.testing.assert_allclose([normalized.mean, normalized.variance], [flat.mean(), flat.var()], rtol=1e-6)


def test_f62_a_first_batch_of_one_sample_is_finite():
    normalized = normalized_signal(jnp.array([[-500.0]]), jnp.array(0.0), jnp.array(0.0), 0.8)
    assert float(normalized.signal[0, 0]) == -500 and np.isfinite([normalized.mean, normalized.variance]).all()
