"""`sample`: draw with pathwise gradients if a family has them; `is_reparameterized`: True if a family has them."""

import chex
import jax
import jax.numpy as jnp
from numpyro.distributions import Distribution, constraints

from dgmzoo.reparam.fast_threefry import standard_key
from dgmzoo.reparam.ops import relaxed_promotion


def is_reparameterized(family: type[Distribution]) -> bool:
    """True if samples of the family are differentiable in every parameter.

    >>> import numpyro.distributions as dist
    >>> is_reparameterized(dist.Normal), is_reparameterized(dist.Poisson)
    (True, False)
    """
    return set(family.arg_constraints) <= set(family.reparametrized_params)


def sample(q: Distribution, key: chex.PRNGKey, num: int) -> chex.Array:
    """Sample `[K, B, U]` from q with batch shape `[1 or K, B, U]`, where K = `num`.

    The gradient is pathwise if the family is reparameterized. Otherwise it is zero, and the parameters need a
    score-function gradient. Integer samples are converted to the dtype of the parameters. Samples that rounding has put on
    an end of the support (0, 1 or infinity) are moved to the next number inside, where log-densities are finite.

    >>> import numpyro.distributions as dist
    >>> q = dist.Normal(jnp.zeros((1, 2, 3)), 1.0)
    >>> sample(q, jax.random.key(0), num=5).shape
    (5, 2, 3)
    """
    lead = q.batch_shape[0]
    if lead not in (1, num):
        raise ValueError(f"expected parameters [1 or {num}, B, ...], got batch shape {q.batch_shape}")
    key = key if is_reparameterized(type(q)) else standard_key(key)
    with relaxed_promotion():
        samples = q.sample(key, (num,))[:, 0] if lead == 1 else q.sample(key)
        samples = _inside(samples, q)
    samples = samples.astype(jnp.result_type(*jax.tree.leaves(q)))
    return samples if is_reparameterized(type(q)) else jax.lax.stop_gradient(samples)


def _inside(samples: chex.Array, q: Distribution) -> chex.Array:
    """Samples strictly inside the support of positive numbers or the unit interval; others are returned as they are.

    A uniform number is exactly 0 once in 8 million draws, so that draws such as those of a Weibull distribution are, too.
    """
    if q.support not in (constraints.positive, constraints.unit_interval):
        return samples
    info = jnp.finfo(samples.dtype)
    most = info.max if q.support is constraints.positive else 1 - info.epsneg
    return jnp.clip(samples, info.tiny, most)
