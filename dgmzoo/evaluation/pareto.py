"""`tail_shape`: Pareto shape (k-hat) of the largest importance weights, which tells whether their mean converges."""

import math

import jax
import jax.numpy as jnp

from dgmzoo.model.contract import Array

_LEAST_TAIL = 5  # weights that a fit needs


def tail_size(num_samples: int) -> int:
    """Number of the largest of K weights that the fit uses: min(K / 5, 3 sqrt(K)); 0 where that is below 5.

    >>> tail_size(5000), tail_size(10)
    (212, 0)
    """
    size = int(min(num_samples / 5, 3 * math.sqrt(num_samples)))
    return size if size >= _LEAST_TAIL else 0


def tail_shape(log_weight: Array, num_samples: int) -> Array:
    """Shape `[B]` of the generalized Pareto distribution of the largest weights; above 0.7 their mean is unreliable.

    The shape is 0 for an exponential tail and negative for a bounded one; from 0.5 on the variance of the weights is
    infinite. Where all weights are equal it is negative infinity, and where one is e^25 times the smallest of the tail infinity.

    Args:
      log_weight: `[K or more, B]`; rows beyond K are -inf.
      num_samples: K, at least 25.

    Source: Zhang & Stephens 2009, "A new and efficient estimation method for the generalized Pareto distribution";
    the size of the tail and the prior of the shape: Vehtari et al. 2024, "Pareto smoothed importance sampling" (arXiv
    1507.02646), sections 2.4 and appendix C.

    >>> uniform = jax.random.uniform(jax.random.key(0), (4000, 1))
    >>> bool(tail_shape(-0.9 * jnp.log(uniform), 4000)[0] > 0.7)  # weights u^-0.9 have the shape 0.9
    True
    >>> bool(tail_shape(uniform, 4000)[0] < 0.1)
    True
    """
    size = tail_size(num_samples)
    largest = jax.lax.top_k(log_weight.T, size + 1)[0]  # [B, M + 1], descending
    relative = jnp.exp(largest - largest[:, :1])
    excess = (relative[:, :-1] - relative[:, -1:])[:, ::-1]  # [B, M], ascending, at least 0
    spread = excess[:, -1:]
    safe = jnp.where(
        spread > 0, excess / jnp.where(spread > 0, spread, 1.0), jnp.linspace(0.1, 1.0, size, dtype=excess.dtype)[None]
    )
    shape = jax.vmap(_fit)(jnp.maximum(safe, 1e-12))
    shape = jnp.where(spread[:, 0] > 0, shape, -jnp.inf)
    # Smaller weights than exp(-25) of the largest have no digits beside it.
    return jnp.where(largest[:, 0] - largest[:, -1] > 25, jnp.inf, shape)


def _fit(x: Array) -> Array:
    """Posterior mean of the shape for ascending excesses `x [M]`."""
    size = len(x)
    num = 30 + int(math.sqrt(size))
    quarter = x[int(size / 4 + 0.5) - 1]
    grid = 1 / x[-1] + (1 - jnp.sqrt(num / (jnp.arange(1, num + 1, dtype=x.dtype) - 0.5))) / (3 * quarter)  # [G]
    shapes = jnp.log1p(-grid[:, None] * x[None]).mean(1)  # [G]
    log_profile = size * (jnp.log(-grid / shapes) - shapes - 1)
    log_profile = jnp.where(jnp.isfinite(log_profile), log_profile, -jnp.inf)
    theta = (jax.nn.softmax(log_profile) * grid).sum()
    shape = jnp.log1p(-theta * x).mean()
    return (size * shape + 10 * 0.5) / (size + 10)  # weakly informative prior
