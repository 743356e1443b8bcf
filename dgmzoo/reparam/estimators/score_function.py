"""`score_surrogate`: a loss with the score-function gradient; `normalized_signal`: normalize the learning signal."""

import chex
import jax
import jax.numpy as jnp

from dgmzoo.reparam.collectives import batch_mean


def score_surrogate(log_q: chex.Array, signal: chex.Array) -> chex.Array:
    """Surrogate of value 0 whose gradient `signal * d log_q` is the score-function gradient of `E_q[signal]`.

    Args:
      log_q: `[K, B]`, log q at samples that carry no gradient.
      signal: `[K, B]`, the learning signal. A baseline that does not depend on the sample may be subtracted from it.

    >>> float(jax.grad(score_surrogate)(jnp.array(-1.0), jnp.array(3.0)))
    3.0
    """
    return jax.lax.stop_gradient(signal) * (log_q - jax.lax.stop_gradient(log_q))


def normalized_signal(
    centred: chex.Array, mean: chex.Array, variance: chex.Array, decay: float
) -> tuple[chex.Array, chex.Array, chex.Array]:
    """Subtract the running mean from the learning signal and divide it by `max(1, running standard deviation)`.

    Args:
      centred: `[K, B]`, the learning signal minus the input-dependent baseline.
      mean: `[]`, running mean over batches of all devices.
      variance: `[]`, running variance over batches of all devices.
      decay: of the running moments.

    Returns:
      The signal `[K, B]` and the updated moments.

    Source: Mnih & Gregor 2014 (arXiv 1402.0030), sections 2.3.1 and 2.3.2, algorithm 1.

    >>> signal, mean, variance = normalized_signal(jnp.array([[-4.0, 4.0]]), jnp.array(0.0), jnp.array(16.0), 0.5)
    >>> signal.tolist(), float(mean), float(variance)
    ([[-1.0, 1.0]], 0.0, 16.0)
    """
    batch = batch_mean(centred, (0, 1))
    spread = batch_mean(jnp.square(centred - batch), (0, 1))
    mean = decay * mean + (1 - decay) * batch
    variance = decay * variance + (1 - decay) * spread
    return (centred - mean) / jnp.maximum(1.0, jnp.sqrt(variance)), mean, variance
