"""Base class of the variational layers for latents: a posterior given features, K samples, and a prior.

A layer has two halves, because the prior of a layer in a hierarchy needs the layer above: `infer` samples the posterior,
and `score` evaluates the sample under the prior. Calling the layer does both.

How to choose a layer (by the name that `--model.latent` accepts):

- `normal` (`VariationalLayer`): the usual choice, and the layer for any other pair of families. Bernoulli units are
  discrete and need the objective `nvil`.
- `horseshoe`: for each input most units are shrunk towards 0 and a few stay large.
- `rectified`: codes with exact zeros, or nonnegative codes (`smooth`).
- `piecewise`: noise that is skewed or flat in the posterior, or a prior whose form is learned.
- `spherical`: codes on the unit sphere, where only directions carry information.
- `point`: the code of a plain autoencoder without noise and prior, as a reference. It gives no bound on log p(x).
"""

import dataclasses
from typing import ClassVar, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.weights.base import PointWeights, Weights
from dgmzoo.layers.weights.linear import dense
from dgmzoo.model.contract import Latent, Query
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion


class Inferred(NamedTuple):
    """A posterior and its samples: the result of `LatentLayer.infer`, and the input of `LatentLayer.score`.

    >>> z = jnp.zeros((1, 4, 2))
    >>> Inferred(dist.Normal(z, 1.0), sample=z, value=z, train=False).q.batch_shape
    (1, 4, 2)
    """

    q: dist.Distribution  # batch shape [K or 1, B, U, ...]
    sample: jax.Array  # [K, B, U, ...]  the random variables of each unit
    value: jax.Array  # [K, B, U]  input of the next layer
    train: bool


class LatentLayer(nn.Module):
    """A layer of independent units with a posterior given features, and a prior that may depend on the layer above.

    A subclass states the number of unconstrained parameters of a unit (`_num_unconstrained`), builds the distributions
    from them (`_posterior`, `_prior_from`), and scores a sample (`_score`).

    >>> from dgmzoo import HorseshoeLayer
    >>> isinstance(HorseshoeLayer(), LatentLayer), HorseshoeLayer().has_bound
    (True, True)
    """

    units: int = dataclasses.field(default=0, metadata={"cli": False})
    """Number of units; set by the entry that holds the layer."""
    learned_prior: bool = False
    """Learn the parameters of the prior; otherwise the prior is the default distribution of its family."""

    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True, metadata={"cli": False})
    """Weights of the prior's head, which belongs to the generative network; set by the entry that holds the layer."""

    has_prior: ClassVar[bool] = True  # True if the layer can be sampled from its prior
    has_bound: ClassVar[bool] = True  # True if `log_p - log_q` gives a bound on log p(x)

    def refusal(self, estimate: str) -> str | None:
        """Reason why the gradients of this layer would be wrong under an objective's estimate; None if they are exact.

        Args:
          estimate: one of
            "closed" (KL in closed form),
            "sampled" (log q - log p at the samples),
            "importance" (importance weights),
            "doubly" (importance weights, with the score of q turned into a pathwise gradient),
            "score" (score function).
            The first four need a pathwise gradient, the last one needs samples without a gradient.
        """
        if estimate == "score":
            return "its posterior is reparameterized, so use a pathwise objective (elbo, iwae)"
        return None

    @nn.nowrap
    def correction(self, estimate: str) -> tuple["LatentLayer", str] | None:
        """A layer of the same model with exact gradients, and a description of the change; None if there is no need.

        Args:
          estimate: see `refusal`.
        """
        return None

    def setup(self):
        if self.units < 1:
            raise ValueError(f"expected a layer of at least 1 unit, got {self.units}")
        posterior_size, prior_size = self._num_unconstrained()
        self.posterior_head = dense(self.units * posterior_size, PointWeights())
        self.prior_head = dense(self.units * prior_size, self.weights)
        self.prior_parameters = Free((self.units, prior_size))

    def __call__(self, features, query: Query, name: str, above=None) -> Latent:
        """Infer and score: features `[B, H]` or `[K, B, H]` to a `Latent`."""
        return self.score(self.infer(features, query, name), above)

    def infer(self, features: jax.Array, query: Query, name: str) -> Inferred:
        """The posterior given features `[B, H]` or `[K, B, H]`, with K samples, or those of `query.given[name]`."""
        if features.ndim == 2:
            features = features[None]
        q = self._posterior(self._per_unit(self.posterior_head(features)))
        sample_shape = (query.num_samples, *q.batch_shape[1:], *q.event_shape)
        if name in query.given:
            sample = query.given[name]
            if sample.shape != sample_shape:
                raise ValueError(f"expected given {name!r} of shape {sample_shape}, got {sample.shape}")
        else:
            sample = self._sample(q, query.num_samples)
        return Inferred(q, sample, self._value(sample), query.train)

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        """Score the sample under the prior.

        Args:
          above: features `[K, B, H]` of the layer above, which make the prior `p(z | above)`.
          bottom_up: the layer above was inferred from this sample. The KL is then `log_q - log_p` at the sample: the
            closed form would average over z at a fixed `above`, although `above` depends on z.
        """
        return self._score(inferred, above, closed=not bottom_up)

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Sample values `[1, num, U]` from the prior."""
        p = self._prior(above, jnp.float32)
        with relaxed_promotion():
            p = p.expand((1, num, self.units))
        return pathwise.sample(p, self.make_rng("sample"), 1)

    def _num_unconstrained(self) -> tuple[int, int]:
        """Number of unconstrained parameters of a unit, for the posterior and for the prior."""
        raise NotImplementedError

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        """q with unconstrained parameters `[K or 1, B, U, P]`."""
        raise NotImplementedError

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        """p with unconstrained parameters `[K or 1, B or 1, U, P]`; zeros give its default."""
        raise NotImplementedError

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        """The `Latent`; its KL may be in closed form only if `closed`."""
        raise NotImplementedError

    def _value(self, sample: jax.Array) -> jax.Array:
        """Value `[K, B, U]` of a sample `[K, B, U, ...]`."""
        return sample

    def _sample(self, q: dist.Distribution, num: int) -> jax.Array:
        """Samples `[num, B, U, ...]` of q."""
        return pathwise.sample(q, self.make_rng("sample"), num)

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None:
            return self._prior_from(self._per_unit(self.prior_head(above)))
        if self.learned_prior:
            return self._prior_from(self.prior_parameters()[None, None])
        return self._prior_from(jnp.zeros((1, 1, self.units, self._num_unconstrained()[1]), dtype))

    def _per_unit(self, unconstrained: jax.Array) -> jax.Array:
        return unconstrained.reshape(*unconstrained.shape[:-1], self.units, -1)  # [K or 1, B, U, P]


class Free(nn.Module):
    """Unconstrained parameters that depend on no input. They are created on the first call.

    >>> Free((3, 2)).init(jax.random.key(0))["params"]["unconstrained"].shape
    (3, 2)
    """

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("unconstrained", nn.initializers.zeros, self.shape, jnp.float32)
