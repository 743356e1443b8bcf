"""`Conditional`: a distribution given features; `factorized`: make one from a NumPyro distribution."""

import dataclasses
from collections.abc import Callable, Mapping

import chex
import jax
import numpyro.distributions as dist

from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.one_hot import OneHot
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion

Leading = tuple[int, int]  # (K, B), the leading axes of samples
Transform = Callable[[jax.Array], tuple[jax.Array, jax.Array]]  # sample -> (value, log-determinant [K, B, U or 1])


@dataclasses.dataclass(frozen=True)
class Conditional:
    """A distribution of a batch of samples, given features. A Flax module makes one when it is called.

    It holds functions of the module that made it, so that it must not leave a lifted transform (`nn.scan`, `nn.remat`).
    Pass arrays out of the transform instead.

    Attributes:
      log_prob: sample `[K, B, ...]` -> log-density `[K, B, U]` in nats; U = 1 where the units are coupled.
      sample: `(key, (K, B))` -> sample `[K, B, ...]`. One feature for all K or for all B broadcasts.
      num_examples: B of the features; 1 where the conditional broadcasts over the batch.
      shape: of one sample; None: one number for each unit.
      mean: `[K or 1, B or 1, ...]`; None where a mean has no meaning (classes, a flow).
      parameters: name -> `[K or 1, B or 1, ...]`, for reports.
      distribution: the NumPyro distribution, if the units are independent; closed forms of the KL need it.
      transform: sample -> (value, log-determinant), if the value of the layer is a function of the sample; None: the value
        is the sample.
      from_uniform: uniform numbers in (0, 1) `[K, B, ...]` -> sample; None: the distribution cannot be sampled so.

    >>> import jax.numpy as jnp
    >>> q = factorized(dist.Normal(jnp.zeros((1, 4, 2)), 1.0))
    >>> q.log_prob(q.sample(jax.random.key(0), (3, 4))).shape
    (3, 4, 2)
    """

    log_prob: Callable[[jax.Array], jax.Array]
    sample: Callable[[chex.PRNGKey, Leading], jax.Array]
    num_examples: int = 1
    shape: tuple[int, ...] | None = None
    mean: jax.Array | None = None
    parameters: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    distribution: dist.Distribution | None = None
    transform: Transform | None = None
    from_uniform: Callable[[jax.Array], jax.Array] | None = None


def factorized(distribution: dist.Distribution) -> Conditional:
    """The conditional of a NumPyro distribution with batch shape `[K or 1, B or 1, U]`.

    >>> import jax.numpy as jnp
    >>> factorized(dist.Laplace(jnp.zeros((1, 1, 3)), 1.0)).sample(jax.random.key(0), (2, 5)).shape
    (2, 5, 3)
    """

    def log_prob(sample):
        with relaxed_promotion():
            return distribution.log_prob(sample)

    def sample(key, leading):
        num, examples = leading
        with relaxed_promotion():
            d = distribution
            if d.batch_shape[1] != examples:
                d = d.expand((d.batch_shape[0], examples, *d.batch_shape[2:]))
        return pathwise.sample(d, key, num)

    mean, parameters = families.mean(distribution), families.parameters(distribution)
    if isinstance(distribution, OneHot):  # a mean of classes has no meaning
        mean, parameters = None, {"logits": distribution.logits, "class_probs": mean}
    return Conditional(
        log_prob,
        sample,
        distribution.batch_shape[1],
        (*distribution.batch_shape[2:], *distribution.event_shape),
        mean,
        parameters,
        distribution,
        from_uniform=lambda uniform: families.from_uniform(distribution, uniform),
    )


def in_dtype(distribution: dist.Distribution, dtype: jax.typing.DTypeLike) -> dist.Distribution:
    """A distribution with its floating-point parameters in another dtype.

    >>> import jax.numpy as jnp
    >>> in_dtype(dist.Normal(jnp.zeros(2), 1.0), jnp.bfloat16).loc.dtype
    dtype(bfloat16)
    """
    return jax.tree.map(lambda leaf: leaf.astype(dtype), distribution)


def per_unit(*terms: jax.Array) -> list[jax.Array]:
    """Log-densities `[K, B, U or 1]` with one last axis: as they are, or summed to one coupled unit where they differ.

    >>> import jax.numpy as jnp
    >>> [term.shape for term in per_unit(jnp.zeros((1, 2, 3)), jnp.zeros((1, 2, 1)))]
    [(1, 2, 1), (1, 2, 1)]
    """
    if len({term.shape[-1] for term in terms}) == 1:
        return list(terms)
    return [term.sum(-1, keepdims=True) for term in terms]
