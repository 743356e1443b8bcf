"""`score_surrogate`, the score-function gradient estimator, and `normalized_signal`, which scales its learning signal."""

from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp

from dgmzoo.reparam.collectives import batch_mean, batch_sum


def score_surrogate(log_q: chex.Array, signal: chex.Array) -> chex.Array:
    """Surrogate of value 0 whose gradient `signal * d log_q` is the score-function gradient of `E_q[signal]`.

    Args:
      log_q: `[K, B]`, log q at samples that carry no gradient.
      signal: `[K, B]`, the learning signal. A baseline that does not depend on the sample may be subtracted from it.

    >>> float(jax.grad(score_surrogate)(jnp.array(-1.0), jnp.array(3.0)))
    3.0
    """
    return jax.lax.stop_gradient(signal) * (log_q - jax.lax.stop_gradient(log_q))


class NormalizedSignal(NamedTuple):
    """A learning signal after `normalized_signal`, with the statistics that it used and the updated ones.

    >>> NormalizedSignal(*jnp.zeros(5)).signal.shape
    ()
    """

    signal: chex.Array
    """`[K, B]`, `(centred - centre) / divisor`."""
    centre: chex.Array
    """`[K, B]`, the mean that was subtracted."""
    divisor: chex.Array
    """`[K, B]`, `max(1, standard deviation)`."""
    mean: chex.Array
    """`[]`, the running mean for the next batch."""
    variance: chex.Array
    """`[]`, the running variance for the next batch."""


def normalized_signal(centred: chex.Array, mean: chex.Array, variance: chex.Array, decay: float) -> NormalizedSignal:
    """Subtract the running mean from the learning signal and divide it by `max(1, running standard deviation)`.

    The mean and the deviation are those from before the batch, which do not depend on its samples: a statistic that
    contains the sample itself scales and biases the score-function gradient. Without a history (mean and variance 0),
    each element uses the mean and the deviation of the other elements of the batch, and the batch starts the history.

    Args:
      centred: `[K, B]`, the learning signal minus the input-dependent baseline.
      mean: `[]`, running mean over batches of all devices.
      variance: `[]`, running variance over batches of all devices.
      decay: of the running moments.

    Source: Mnih & Gregor 2014 (arXiv 1402.0030), sections 2.3.1 and 2.3.2. Deviation: algorithm 1 there updates the
    moments first, so that they contain the batch, and starts them at 0.

    >>> normalized = normalized_signal(jnp.array([[-4.0, 4.0]]), jnp.array(1.0), jnp.array(16.0), 0.5)
    >>> normalized.signal.tolist(), float(normalized.mean), float(normalized.variance)
    ([[-1.25, 0.75]], 0.5, 16.0)
    """
    num = batch_sum(jnp.ones_like(centred), (0, 1))
    batch = batch_mean(centred, (0, 1))
    square = jnp.square(centred - batch)
    spread = batch_mean(square, (0, 1))
    others = jnp.maximum(num - 1, 1)
    others_mean = jnp.where(num > 1, (num * batch - centred) / others, 0)
    # The squares about the mean of all are reduced by those of the element and of the shift of the mean without it.
    others_variance = jnp.maximum(num * spread - square * num / others, 0) / others
    is_first = (mean == 0) & (variance == 0)
    centre = jnp.where(is_first, others_mean, mean)
    divisor = jnp.maximum(1.0, jnp.sqrt(jnp.where(is_first, others_variance, variance)))
    keep = jnp.where(is_first, 0, decay)
    return NormalizedSignal(
        (centred - centre) / divisor,
        centre,
        divisor,
        keep * mean + (1 - keep) * batch,
        keep * variance + (1 - keep) * spread,
    )
