"""Log-probability of a Bernoulli given its logits, with exact derivatives everywhere."""

import jax
import jax.numpy as jnp


@jax.custom_jvp
def log_bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """`x l - log(1 + e^l)`. NumPyro's also takes infinite logits, which no network gives, at twice the time."""
    return x * logits - jnp.maximum(logits, 0) - jnp.log1p(jnp.exp(-jnp.abs(logits)))


log_bernoulli.defjvps(  # what autodiff makes of the corners at 0 is off by 1/2 there
    lambda tangent, _, logits, x: (x - jax.nn.sigmoid(logits)) * tangent,
    lambda tangent, _, logits, x: logits * tangent,
)


@jax.custom_jvp
def twice_log_bernoulli(logits: jax.Array, x: jax.Array) -> jax.Array:
    """Twice `log_bernoulli`, as `(2 x - 1) l - |l| - 2 log(1 + e^-|l|)`, where no constant meets a logit: on CPU, XLA would
    write it out as an array of that size."""
    far = jnp.abs(logits)
    rest = jnp.log1p(jnp.exp(-far))
    return (x + x - 1) * logits - far - (rest + rest)


@twice_log_bernoulli.defjvp
def _differentiated(primals, tangents):
    """In a training step the other form is quicker, whose logarithm goes to one place."""
    return jax.jvp(lambda logits, x: 2 * log_bernoulli(logits, x), primals, tangents)
