"""What all variational layers for latents share: a head for the posterior, K samples, a prior that may be learned.

A layer comes in two halves, since in a hierarchy the prior needs the layer above: `infer` draws from the posterior,
`score` puts the sample under the prior. Calling a layer does both.
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
    """What the posterior half of a layer knows. A unit of `sample` may have several variables, on a last axis."""

    q: dist.Distribution  # batch shape [K or 1, B, U, ...]
    sample: jax.Array  # [K, B, U, ...]
    value: jax.Array  # [K, B, U]  what the layer above is inferred from
    train: bool


class LatentLayer(nn.Module):
    """Independent units with a posterior, given features, and a prior, given nothing or the layer above.

    A kind of layer says how many unconstrained parameters a unit takes (`_sizes`), makes its distributions of them (`_posterior`,
    `_prior_from`) and scores a sample (`_scored`).
    """

    units: int = dataclasses.field(default=0, metadata={"cli": False})
    """Number of units; set by the entry that holds the layer."""
    learned_prior: bool = False
    """Learn the prior's parameters instead of keeping its standard form."""
    noise: bool = True
    """Draw samples. Off: the posterior's mean is passed on, the KL is a penalty, and there is no bound."""

    weights: Weights = dataclasses.field(default=PointWeights(), kw_only=True, metadata={"cli": False})
    """Of the prior's head, which is part of the generative network; set by the entry that holds the layer."""

    has_prior: ClassVar[bool] = True  # whether values can be drawn

    @property
    def has_bound(self) -> bool:
        """Whether `log_p - log_q` is that of a random variable, so that a bound on log p(x) follows."""
        return self.noise

    def refusal(self, estimate: str) -> str | None:
        """Why this layer's gradients would be wrong under an objective's `estimate`; None where they are exact.

        Args:
          estimate: "closed" (KL in closed form), "sampled" (log q - log p at samples), "importance" (weights) and
            "doubly" (weights, the score of q turned into a path) need a pathwise gradient; "score" needs samples that
            carry none.
        """
        if estimate == "score":
            return "its posterior is reparameterized, so use a pathwise objective (elbo, iwae)"
        if not self.noise and estimate in ("importance", "doubly"):
            return "its noise is off, so that all samples are the same; use elbo"
        if not self.noise and estimate == "sampled":
            return (
                "its noise is off, and below another layer its KL is a ratio of densities at one point, which would not keep "
                "the scales finite; use noise, or one layer of latents"
            )
        if not self.noise and estimate == "closed" and not self._has_penalty:
            return (
                "its noise is off and its KL has no closed form, or no mean stands for the code, so nothing would keep the "
                "scales finite; use families with a closed KL (normal, with its own prior), or noise"
            )
        return None

    @property
    def _has_penalty(self) -> bool:
        """Whether q has a mean, and a KL that is more than the ratio of two densities there."""
        return True

    @nn.nowrap
    def correction(self, estimate: str) -> tuple["LatentLayer", str] | None:
        """A layer of the same model whose gradients are exact where this one's are not, and what it changes, in words."""
        return None

    def setup(self):
        if self.units < 1:
            raise ValueError(f"expected a layer of at least 1 unit, got {self.units}")
        posterior, prior = self._sizes()
        self.posterior_head = dense(self.units * posterior, PointWeights())
        self.prior_head = dense(self.units * prior, self.weights)
        self.prior_parameters = Free((self.units, prior))

    def __call__(self, features, query: Query, name: str, above=None) -> Latent:
        """Posterior, sample and score in one: features `[B, H]` or `[K, B, H]` to a `Latent`."""
        return self.score(self.infer(features, query, name), above)

    def infer(self, features: jax.Array, query: Query, name: str) -> Inferred:
        """The posterior given features `[B, H]` or `[K, B, H]`, and K samples (or those that `query.given` holds)."""
        if features.ndim == 2:
            features = features[None]
        q = self._posterior(self._per_unit(self.posterior_head(features)))
        expected = (query.num_samples, *q.batch_shape[1:], *q.event_shape)
        if name in query.given:
            sample = query.given[name]
            if sample.shape != expected:
                raise ValueError(f"expected given {name!r} of shape {expected}, got {sample.shape}")
        elif self.noise:
            sample = pathwise.sample(q, self.make_rng("sample"), query.num_samples)
        else:
            sample = jnp.broadcast_to(self._still(q), expected)
        return Inferred(q, sample, self._value(sample), query.train)

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        """The sample under the prior, which is `p(z | above)` where features `[K, B, H]` of the layer above come.

        Args:
          bottom_up: whether the layer above was inferred from this very sample. The KL is then the sample's: a closed
            form would average over z with `above` held still, though it depends on z.
        """
        latent = self._scored(inferred, above, closed=not bottom_up)
        if self.noise:
            return latent
        penalty = jnp.broadcast_to(latent.kl.sum(-1), latent.log_q.shape)
        return latent._replace(log_p=-penalty, log_q=jnp.zeros_like(penalty))

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Values from the prior, `[1, num, U]`."""
        p = self._prior(above, jnp.float32)
        with relaxed_promotion():
            p = p.expand((1, num, self.units))
        return pathwise.sample(p, self.make_rng("sample"), 1)

    def _sizes(self) -> tuple[int, int]:
        """Unconstrained parameters a unit of the posterior and of the prior take."""
        raise NotImplementedError

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        """q from unconstrained `[K or 1, B, U, P]`."""
        raise NotImplementedError

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        """p, over values, from unconstrained `[K or 1, B or 1, U, P]`; zeros are its standard form."""
        raise NotImplementedError

    def _scored(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        """The answer; `closed` allows the KL in closed form."""
        raise NotImplementedError

    def _value(self, sample: jax.Array) -> jax.Array:
        return sample

    def _still(self, q: dist.Distribution) -> jax.Array:
        """The sample that stands for q where the noise is off."""
        with relaxed_promotion():
            return q.mean

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None:
            return self._prior_from(self._per_unit(self.prior_head(above)))
        if self.learned_prior:
            return self._prior_from(self.prior_parameters()[None, None])
        return self._prior_from(jnp.zeros((1, 1, self.units, self._sizes()[1]), dtype))

    def _per_unit(self, unconstrained: jax.Array) -> jax.Array:
        return unconstrained.reshape(*unconstrained.shape[:-1], self.units, -1)  # [K or 1, B, U, P]


class Free(nn.Module):
    """Numbers that are learned and depend on nothing; there once they are asked for."""

    shape: tuple[int, ...]

    @nn.compact
    def __call__(self) -> jax.Array:
        return self.param("unconstrained", nn.initializers.zeros, self.shape, jnp.float32)
