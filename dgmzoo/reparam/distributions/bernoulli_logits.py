"""`log_bernoulli`: the log-probability of a Bernoulli variable given its logit, with exact derivatives everywhere."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def log_bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """`x l - log(1 + e^l)` in nats, elementwise, for finite logits l.

    NumPyro's function also accepts infinite logits, which no network outputs, and takes twice the time.

    >>> import numpy as np
    >>> bool(np.isclose(log_bernoulli(jnp.array(0.0), jnp.array(1.0)), np.log(0.5)))
    True
    """
    return x * logits - jnp.maximum(logits, 0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


log_bernoulli.defjvps(  # automatic differentiation of `maximum` and `abs` is off by 1/2 at 0
    lambda tangent, _, logits, x: (x - jax.nn.sigmoid(logits)) * tangent,
    lambda tangent, _, logits, x: logits * tangent,
)


@jax.custom_jvp
def twice_log_bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Twice `log_bernoulli`, as `(2 x - 1) l - |l| - 2 log(1 + e^-|l|)`.

    In this form no constant is combined with a logit. On CPU, XLA would store such a constant as an array of full size.

    >>> import numpy as np
    >>> bool(np.isclose(twice_log_bernoulli(jnp.array(0.0), jnp.array(1.0)), 2 * np.log(0.5)))
    True
    """
    size = jnp.abs(logits)
    softplus = jnp.log1p(jnp.exp(-size))
    return (x + x - 1) * logits - size - (softplus + softplus)


@twice_log_bernoulli.defjvp
def _twice_log_bernoulli_jvp(primals, tangents):
    """Differentiate `log_bernoulli`, which is faster in a training step: its logarithm is used in one place only."""
    return jax.jvp(lambda logits, x: 2 * log_bernoulli(logits, x), primals, tangents)
