"""The score-function gradient and what lowers its variance."""

import chex
import jax
import jax.numpy as jnp

from dgmzoo.reparam.collectives import batch_mean


def score_surrogate(log_q: chex.Array, signal: chex.Array) -> chex.Array:
    """Zero in value; its gradient is `signal * d log_q`, the score-function gradient of `E_q[signal]`.

    Args:
      log_q: `[K, B]`, log q at samples that carry no gradient themselves.
      signal: `[K, B]`, the learning signal, from which any constant (given x) may have been taken.
    """
    return jax.lax.stop_gradient(signal) * (log_q - jax.lax.stop_gradient(log_q))


def normalized_signal(
    centred: chex.Array, mean: chex.Array, variance: chex.Array, decay: float
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """The learning signal less its running mean, over its running standard deviation where that exceeds 1.

    Args:
      centred: `[K, B]`, the signal less the input-dependent baseline.
      mean, variance: `[]`, running moments over batches; on several devices over all of them.
      decay: of the running moments.

    Returns:
      the signal `[K, B]` and the new moments.

    Source: Mnih & Gregor 2014 (arXiv 1402.0030), sections 2.3.1 and 2.3.2, algorithm 1.
    """
    batch = batch_mean(centred, (0, 1))
    spread = batch_mean(jnp.square(centred - batch), (0, 1))
    mean = decay * mean + (1 - decay) * batch
    variance = decay * variance + (1 - decay) * spread
    return (centred - mean) / jnp.maximum(1.0, jnp.sqrt(variance)), mean, variance
