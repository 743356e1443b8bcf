"""`Likelihood`: the base class of layers that map features to p(x | features); `Elements`: a p(x) that factorizes.

How to choose a likelihood (by the name that `--model.likelihood` accepts), which follows from the values of x:

- `bernoulli`: binary x, for example binarized images.
- `discretized_logistic`, `discretized_logistic_mixture`: gray levels k / (levels - 1). The mixture can be multimodal.
- `categorical`: classes without an order.
- `normal`, `normal_mixture`: real numbers. The mixture can be multimodal. Their density has no bits per dimension.

Values under different likelihoods do not compare, unless both are probabilities of the same discrete x.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.networks.mlp import check_shape
from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.contract import Batch, Draw
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions.bernoulli_logits import twice_log_bernoulli
from dgmzoo.reparam.ops import relaxed_promotion


class Elements(NamedTuple):
    """p(x) of independent elements, with the elements of x on one flat axis.

    The axis is flat because arithmetic with short last axes is 50 times slower when compiled for CPU.

    >>> p = Elements(dist.Normal(jnp.zeros((1, 4, 6)), 1.0), shape=(2, 3))
    >>> p.shaped(p.flat.loc).shape
    (1, 4, 2, 3)
    """

    flat: dist.Distribution  # batch shape [..., D]
    shape: tuple[int, ...]  # of one x, with D elements

    def shaped(self, array: jax.Array) -> jax.Array:
        """Reshape `[..., D, *extra]` to `[..., *shape, *extra]`."""
        axis = len(self.flat.batch_shape) - 1
        return array.reshape(*array.shape[:axis], *self.shape, *array.shape[axis + 1 :])

    def log_prob(self, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
        """Log-likelihood `[K, B]` of x `[B, *shape]` in nats; elements with False in the mask contribute nothing."""
        return log_likelihood(self, x, mask)

    def parameters(self) -> dict[str, jax.Array]:
        """The parameters of p and its "mean", `[K, B, *shape]`, for `Evidence.parameters`."""
        return parameters(self)

    def draw(self, key: jax.Array, latents: Mapping[str, jax.Array] | None = None) -> Draw:
        """Sample x; the latents `{layer: [1, num, U]}` are added to the `Draw`."""
        return sample(self, key, latents)


class Likelihood(nn.Module):
    """p(x | features), with one independent distribution for each element of x.

    A subclass states the family. A zoo entry calls the layer, which has a dense head. An entry that computes
    unconstrained parameters itself (a masked network) uses `size` and `elements` instead.

    >>> from dgmzoo import Bernoulli
    >>> Bernoulli().size, Bernoulli().discrete
    (1, True)
    """

    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True)
    """Weights of the dense head: plain parameters, or random weights with a posterior and a prior."""

    discrete = True  # True if x is discrete, so that bits per dimension are defined

    @property
    def size(self) -> int:
        """Number of unconstrained parameters per element of x."""
        return families.num_unconstrained(self.family)

    @property
    def input_size(self) -> int:
        """Number of inputs of a network for one element of x (`encode`)."""
        return 1

    def encode(self, x: jax.Array) -> jax.Array:
        """Elements of x `[...]` as floating-point inputs of a network, `[..., input_size]`."""
        return (x if jnp.issubdtype(x.dtype, jnp.floating) else x.astype(jnp.float32))[..., None]

    def inputs(self, x: jax.Array, shape: tuple[int, ...] | None, mask: jax.Array | None = None) -> jax.Array:
        """x `[B, *shape]` as the flat input `[B, D * input_size]` of a network; elements with False in the mask are 0.

        Raises:
          ValueError: `shape` is None, or x has another shape.
        """
        check_shape(x, shape)
        encoded = self.encode(x)
        if mask is not None:
            encoded = jnp.where(mask[..., None], encoded, jnp.zeros((), encoded.dtype))
        return encoded.reshape(len(x), math.prod(shape) * self.input_size)

    @property
    def values(self) -> np.ndarray | None:
        """Every value that an element of x can take, `[V]`; None: real numbers, or not stated by the family."""
        return None

    @property
    def needs_own_head(self) -> bool:
        """True if a field concerns the head, so that an entry with a head of its own must refuse the likelihood."""
        return self.weights.is_random

    def distribution(self, unconstrained: jax.Array) -> dist.Distribution:
        """Distribution with batch shape `[...]` from unconstrained parameters `[..., size]`."""
        return families.from_unconstrained(self.family, unconstrained)

    def elements(self, unconstrained: jax.Array, shape: tuple[int, ...]) -> Elements:
        """p(x) of elements `[..., *shape]` from unconstrained parameters `[..., D * size]`."""
        return Elements(
            self.distribution(unconstrained.reshape(*unconstrained.shape[:-1], math.prod(shape), self.size)), shape
        )

    def check_support(self, x: np.ndarray) -> None:
        """Refuse x outside the support of the family.

        Raises:
          ValueError: with the range of x.
        """

    def start(self, total: jax.Array, num: jax.Array) -> jax.Array | None:
        """Initial biases `[E, size]` of the head, at which p(x) has the mean of the first rows; None: zeros.

        Args:
          total: `[E]`, sum of the observed values of each element of x.
          num: `[E]`, number of the observed values of each element of x.
        """
        return None

    @nn.compact
    def __call__(self, features: jax.Array, shape: tuple[int, ...], first: Batch | None = None) -> Elements:
        """Features `[K, B, H]`, or those of an image `[K, B, *shape[:-1], H]`, to p(x) of elements `[K, B, *shape]`.

        The head for the features of an image is the same at all positions. If the parameters are initialized with rows,
        p(x) starts at their mean. From a start at zero, the layers below the head learn the mean first, and meanwhile
        the KL turns units of the code off.

        Args:
          shape: of one x.
          first: rows `{"x": [B, *shape]}`, read only during initialization.

        Raises:
          ValueError: the features are those of an image of another shape.
        """
        head_shape = shape  # elements that have biases of their own
        if features.ndim == 2 + len(shape):
            if features.shape[2:-1] != tuple(shape[:-1]):
                raise ValueError(
                    f"expected features of an image {shape}, got {features.shape[2:]}; set the decoder's `shape`"
                )
            head_shape = shape[-1:]
        num, start = math.prod(head_shape), None
        if first is not None and self.is_initializing():
            start = self.start(*_sums_and_counts(first, num))
        unconstrained = self.unconstrained(features, jnp.zeros((num, self.size)) if start is None else start)
        return self.elements(unconstrained.reshape(*features.shape[:2], -1), shape)

    def unconstrained(self, features: jax.Array, start: jax.Array) -> jax.Array:
        """Unconstrained parameters `[..., E, size]` from the head, whose biases start at `start [E, size]`."""
        return dense_head(features, self.weights, start).reshape(*features.shape[:-1], *start.shape)


def dense_head(features: jax.Array, weights: Weights, start: jax.Array) -> jax.Array:
    """Features `[..., H]` to `[..., N]` through a dense layer whose N biases start at the numbers of `start`."""
    return dense(start.size, weights, lambda key, shape, dtype: start.reshape(shape).astype(dtype))(features)


def _sums_and_counts(rows: Batch, num: int) -> tuple[jax.Array, jax.Array]:
    """Sum and number of the observed values of `num` elements of x, or of the channels of an image over all positions."""
    x = rows["x"].reshape(-1, num).astype(jnp.float32)
    observed = rows["mask"].reshape(-1, num) if "mask" in rows else jnp.ones_like(x, bool)
    return jnp.where(observed, x, jnp.zeros_like(x)).sum(0), observed.sum(0).astype(jnp.float32)


def log_likelihood(p: Elements | dist.Distribution, x: jax.Array, mask: jax.Array | None = None) -> jax.Array:
    """Log-likelihood `[K, B]` of x in nats.

    Args:
      p: `Elements`, or a distribution with batch shape `[K, B, *shape]`.
      x: `[B, *shape]`.
      mask: `[B, *shape]`; elements with False are not observed and contribute nothing.

    Raises:
      ValueError: x has another shape or number of examples than p.

    >>> log_p = log_likelihood(dist.BernoulliLogits(jnp.zeros((1, 2, 3))), jnp.ones((2, 3)))
    >>> log_p.shape, round(float(log_p[0, 0] / jnp.log(2.0)), 4)
    ((1, 2), -3.0)
    """
    shape = p.shape if isinstance(p, Elements) else p.batch_shape[2:]
    if x.shape[1:] != shape:
        raise ValueError(f"expected x of shape {shape} an example, got {x.shape[1:]}")
    if isinstance(p, Elements):
        p, x = p.flat, x.reshape(len(x), -1)
        mask = None if mask is None else mask.reshape(x.shape)
    if p.batch_shape[1:] != x.shape:
        raise ValueError(f"expected {p.batch_shape[1]} examples x, as p(x | z) has, got {len(x)}")
    if mask is not None:  # missing elements may be NaN, which would reach the gradient
        x = jnp.where(mask, x, jnp.ones((), x.dtype))
    is_bernoulli = isinstance(p, dist.BernoulliLogits)
    if is_bernoulli:
        logits = families.at_least_float32(p.logits)
        terms = twice_log_bernoulli(logits, x[None].astype(logits.dtype))
    else:
        with relaxed_promotion():
            terms = p.log_prob(x[None])  # [K, B, *shape]
    if mask is not None:
        terms = jnp.where(mask[None], terms, jnp.zeros((), terms.dtype))
    total = terms.reshape(*terms.shape[:2], -1).sum(-1)
    return total / 2 if is_bernoulli else total


def parameters(p: Elements | dist.Distribution) -> dict[str, jax.Array]:
    """The parameters of p and its "mean", for `Evidence.parameters`.

    The "mean" of a categorical distribution is its most probable class.

    >>> sorted(parameters(dist.Normal(jnp.zeros((1, 2)), 1.0)))
    ['loc', 'mean', 'scale']
    """
    if isinstance(p, Elements):
        return {name: p.shaped(value) for name, value in parameters(p.flat).items()}
    if isinstance(p, dist.CategoricalLogits):
        return {"logits": p.logits, "mean": jnp.argmax(p.logits, -1)}
    if isinstance(p, dist.MixtureSameFamily):
        with relaxed_promotion():
            mixture_parameters = {"logits": p.mixing_distribution.logits, "mean": p.mean}
        return families.parameters(p.component_distribution) | mixture_parameters
    return families.parameters(p)


def sample(p: Elements | dist.Distribution, key: jax.Array, latents: Mapping[str, jax.Array] | None = None) -> Draw:
    """Sample x from p, one for each of `num` examples.

    Args:
      p: p(x | latents), `Elements` or a distribution, with batch shape `[1, num, *shape]`.
      latents: layer name -> values `[1, num, U]`, which are added to the `Draw`.

    >>> sample(dist.Normal(jnp.zeros((1, 5, 3)), 1.0), jax.random.key(0)).x.shape
    (5, 3)
    """
    if isinstance(p, Elements):
        draw = sample(p.flat, key, latents)
        return draw._replace(x=p.shaped(draw.x[None])[0], mean=p.shaped(draw.mean[None])[0])
    with relaxed_promotion():
        x = p.sample(key)[0]
    if isinstance(p, dist.BernoulliLogits):
        x = x.astype(p.logits.dtype)  # binary x is float, as in the data
    return Draw(x, parameters(p)["mean"][0], {name: value[0] for name, value in (latents or {}).items()})
