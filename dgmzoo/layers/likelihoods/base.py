"""Output layers: from the last features of a decoder to a proper distribution of x."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.contract import Batch, Draw
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.bernoulli_logits import twice_log_bernoulli
from dgmzoo.reparam.ops import relaxed_promotion


class Elements(NamedTuple):
    """p(x) of independent elements. Kept flat: compiled for CPU, the arithmetic of short last axes is 50 times slower."""

    flat: dist.Distribution  # batch shape [..., D]
    shape: tuple[int, ...]  # of one x, of D elements

    def shaped(self, array: jax.Array) -> jax.Array:
        """`[..., D, *extra]` to `[..., *shape, *extra]`."""
        lead = len(self.flat.batch_shape) - 1
        return array.reshape(*array.shape[:lead], *self.shape, *array.shape[lead + 1 :])


class Likelihood(nn.Module):
    """`p(x | features)`, one independent distribution per element of x.

    Subclasses name the family. An entry that computes unconstrained parameters itself (masked networks) uses `size` and
    `elements`; others call the layer, which adds the dense head.
    """

    weights: Weights = PointWeights()
    """Of the dense head: plain parameters, or with a posterior and a prior."""

    discrete = True  # whether x is, so that bits per dimension mean something

    @property
    def size(self) -> int:
        """Unconstrained parameters per element of x."""
        return families.num_unconstrained(self.family)

    @property
    def has_own_head(self) -> bool:
        """Whether its fields ask something of the head, which an entry that makes the unconstrained parameters does not have."""
        return self.weights.is_random

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        """Unconstrained parameters `[..., size]` to a distribution with batch shape `[...]`."""
        return families.from_unconstrained(self.family, unconstrained)

    def elements(self, unconstrained: jax.Array, shape: tuple[int, ...]) -> Elements:
        """Unconstrained parameters `[..., D * size]` to p(x) of elements `[..., *shape]`."""
        return Elements(
            self.distribution(unconstrained.reshape(*unconstrained.shape[:-1], math.prod(shape), self.size)), shape
        )

    def check_support(self, x: np.ndarray) -> None:
        """Refuse data that the family gives no density.

        Raises:
          ValueError: with what lies outside.
        """

    def start(self, total: jax.Array, num: jax.Array) -> jax.Array | None:
        """Unconstrained parameters `[E, size]` at which the head's biases start, from the sum and the number of values of x seen of
        each element, `[E]`; None: zeros."""
        return None

    @nn.compact
    def __call__(self, features: jax.Array, shape: tuple[int, ...], first: Batch | None = None) -> Elements:
        """Features `[K, B, H]`, or of an image `[K, B, *shape[:-1], H]`, to `p(x)` of elements `[K, B, *shape]`.

        The features of an image have a head that is the same at all places. Where parameters are initialised with
        rows, the head starts at their mean: at zeros, layers above learn it first, and lose units to the KL meanwhile.

        Args:
          first: the rows, `{"x": [B, *shape]}`; looked at in initialisation alone.
        """
        here = shape
        if features.ndim == 2 + len(shape):
            if features.shape[2:-1] != tuple(shape[:-1]):
                raise ValueError(
                    f"expected features of an image {shape}, got {features.shape[2:]}; set the decoder's `shape`"
                )
            here = shape[-1:]
        num, start = math.prod(here), None
        if first is not None and self.is_initializing():
            start = self.start(*_sums(first, num))
        unconstrained = self.unconstrained(features, jnp.zeros((num, self.size)) if start is None else start)
        return self.elements(unconstrained.reshape(*features.shape[:2], -1), shape)

    def unconstrained(self, features: jax.Array, start: jax.Array) -> jax.Array:
        """Unconstrained parameters `[..., E, size]` by the head, whose biases start at `start [E, size]`."""
        return _head(features, self.weights, start).reshape(*features.shape[:-1], *start.shape)


def _head(features: jax.Array, weights: Weights, start: jax.Array) -> jax.Array:
    """Features `[..., H]` to `[..., N]` by a dense layer whose biases start at so many numbers."""
    return dense(start.size, weights, lambda key, shape, dtype: start.reshape(shape).astype(dtype))(features)


def _sums(rows: Batch, num: int) -> tuple[jax.Array, jax.Array]:
    """Sum and number of the observed values of each of `num` elements; of an image's channels over all places."""
    x = rows["x"].reshape(-1, num).astype(jnp.float32)
    observed = rows["mask"].reshape(-1, num) if "mask" in rows else jnp.ones_like(x, bool)
    return jnp.where(observed, x, jnp.zeros_like(x)).sum(0), observed.sum(0).astype(jnp.float32)


def log_likelihood(p: Elements | dist.Distribution, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """`log p(x)` in nats, `[K, B]`, of x `[B, *shape]` under element-wise p: Elements, or batch shape `[K, B, *shape]`.

    Elements whose `mask [B, *shape]` is False are not observed and do not count.
    """
    shape = p.shape if isinstance(p, Elements) else p.batch_shape[2:]
    if x.shape[1:] != shape:
        raise ValueError(f"expected x of shape {shape} an example, got {x.shape[1:]}")
    if isinstance(p, Elements):
        p, x = p.flat, x.reshape(len(x), -1)
        mask = None if mask is None else mask.reshape(x.shape)
    if p.batch_shape[1:] != x.shape:
        raise ValueError(f"expected as many x as p(x | z) has, {p.batch_shape[1]}, got {len(x)}")
    if mask is not None:  # what is missing may be anything, NaN too, which would reach the gradient
        x = jnp.where(mask, x, jnp.ones((), x.dtype))
    twice = isinstance(p, dist.BernoulliLogits)
    if twice:
        logits = families.at_least_float32(p.logits)
        terms = twice_log_bernoulli(logits, x[None].astype(logits.dtype))
    else:
        with relaxed_promotion():
            terms = p.log_prob(x[None])  # [K, B, *shape]
    if mask is not None:
        terms = jnp.where(mask[None], terms, jnp.zeros((), terms.dtype))
    total = terms.reshape(*terms.shape[:2], -1).sum(-1)
    return total / 2 if twice else total


def parameters(p: Elements | dist.Distribution) -> dict[str, jax.Array]:
    """The parameters and mean of p, for `Evidence.parameters`; a categorical's "mean" is its most probable value."""
    if isinstance(p, Elements):
        return {name: p.shaped(value) for name, value in parameters(p.flat).items()}
    if isinstance(p, dist.CategoricalLogits):
        return {"logits": p.logits, "mean": jnp.argmax(p.logits, -1)}
    if isinstance(p, dist.MixtureSameFamily):
        with relaxed_promotion():
            whole = {"logits": p.mixing_distribution.logits, "mean": p.mean}
        return families.parameters(p.component_distribution) | whole
    return families.parameters(p)


def sample(p: Elements | dist.Distribution, key: jax.Array, latents: Mapping[str, jax.Array] | None = None) -> Draw:
    """One draw from p of `[1, num, *shape]`, its means, and the latents `[1, num, U]` that it came from."""
    if isinstance(p, Elements):
        draw = sample(p.flat, key, latents)
        return draw._replace(x=p.shaped(draw.x[None])[0], mean=p.shaped(draw.mean[None])[0])
    with relaxed_promotion():
        x = p.sample(key)[0]
    if isinstance(p, dist.BernoulliLogits):
        x = x.astype(p.logits.dtype)  # binary x travels as floats, as in the data
    return Draw(x, parameters(p)["mean"][0], {name: value[0] for name, value in (latents or {}).items()})
