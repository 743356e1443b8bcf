"""Variational layers for latents: posterior, prior, reparameterized sample, densities and KL as one piece.

A layer comes in two halves, since in a hierarchy the prior needs the layer above: `infer` draws from the posterior,
`score` puts the sample under the prior. Calling a layer does both.
"""

import dataclasses
import functools
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.model import Latent, Query, compute_dtype
from dgmzoo.reparam import families
from dgmzoo.reparam.divergence import closed_kl
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.numpyro_rules import numpyro_rules


class Inferred(NamedTuple):
    """What the posterior half of a layer knows."""

    q: dist.Distribution  # batch shape [K or 1, B, U]
    sample: jax.Array  # [K, B, U]


class VariationalLayer(nn.Module):
    """A layer of independent units: `q(z | features)` and `p(z)` or `p(z | above)` of any family, centred.

    With a family that has no pathwise gradient (a discrete one) samples carry no gradient, and only objectives with a
    score-function gradient are exact.
    """

    units: int = dataclasses.field(default=0, metadata={"cli": False})
    """Number of units; set by the entry that holds the layer."""
    posterior: type[dist.Distribution] = dist.Normal
    """Family of q(z | x)."""
    prior: type[dist.Distribution] = dist.Normal
    """Family of p(z)."""
    learned_prior: bool = False
    """Learn the prior's parameters instead of keeping the family's standard member (N(0, 1), probability 1/2)."""

    def __post_init__(self):
        super().__post_init__()
        with jax.ensure_compile_time_eval():
            families.check_pair(self.posterior, self.prior)

    def refusal(self, estimate: str) -> str | None:
        """Why this layer's gradients would be wrong under an objective's `estimate`; None where they are exact.

        Args:
          estimate: "closed" (KL in closed form), "sampled" (log q - log p at samples) or "importance" (weights) need
            a pathwise gradient; "doubly" also a density of q that does not jump where parameters move; "score" needs
            samples that carry none.
        """
        name = self.posterior.__name__
        if estimate == "score" and pathwise.has_path(self.posterior):
            return f"its posterior {name} is reparameterized, so use a pathwise objective (elbo, iwae)"
        if estimate in ("closed", "sampled", "importance") and not pathwise.has_path(self.posterior):
            return f"its posterior {name} has no pathwise gradient, so use a score-function objective (nvil)"
        if estimate == "doubly" and constraints.is_dependent(self.posterior.support):
            return f"the support of its posterior {name} moves with the parameters, so use iwae"
        return None

    def setup(self):
        if self.units < 1:
            raise ValueError(f"expected a layer of at least 1 unit, got {self.units}")
        # Small heads start the posterior near the family's standard member, where KL and gradients are small.
        init = nn.initializers.variance_scaling(0.01, "fan_avg", "uniform")
        size = families.raw_size(self.prior)
        dense = functools.partial(nn.Dense, dtype=compute_dtype(), kernel_init=init)
        self.posterior_head = dense(self.units * families.raw_size(self.posterior))
        self.prior_head = dense(self.units * size)
        if self.learned_prior:
            self.prior_raw = self.param("prior_raw", nn.initializers.zeros, (self.units, size))

    def __call__(self, features, query: Query, name: str, above=None) -> Latent:
        """Posterior, sample and score in one: features `[B, H]` or `[K, B, H]` to a `Latent`."""
        return self.score(self.infer(features, query, name), above)

    def infer(self, features: jax.Array, query: Query, name: str) -> Inferred:
        """The posterior given features `[B, H]` or `[K, B, H]`, and K samples (or those that `query.given` holds)."""
        if features.ndim == 2:
            features = features[None]
        q = families.from_raw(self.posterior, _per_unit(self.posterior_head(features), self.units))
        expected = (query.num_samples, *q.batch_shape[1:])
        if name in query.given:
            sample = query.given[name]
            if sample.shape != expected:
                raise ValueError(f"expected given {name!r} of shape {expected}, got {sample.shape}")
        else:
            sample = pathwise.sample(q, self.make_rng("sample"), query.num_samples)
        return Inferred(q, sample)

    def score(self, inferred: Inferred, above: jax.Array | None = None, bottom_up: bool = False) -> Latent:
        """The sample under the prior, which is `p(z | above)` where features `[K, B, H]` of the layer above come.

        Args:
          bottom_up: whether the layer above was inferred from this very sample. The KL is then the sample's: a closed
            form would average over z with `above` held still, though it depends on z.
        """
        q, z = inferred
        p = self._prior(above, z.dtype)
        with numpyro_rules():
            log_p, log_q = p.log_prob(z), q.log_prob(z)  # [K, B, U]
        kl = None if bottom_up else closed_kl(q, p)
        return Latent(
            value=z,
            sample=z,
            log_p=log_p.sum(-1),
            log_q=log_q.sum(-1),
            kl=log_q - log_p if kl is None else jnp.broadcast_to(kl, jnp.broadcast_shapes(kl.shape, q.batch_shape)),
            q=families.parameters(q),
        )

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        """Values from the prior, `[1, num, U]`."""
        p = self._prior(above, jnp.float32)
        with numpyro_rules():
            p = p.expand((1, num, self.units))
        return pathwise.sample(p, self.make_rng("sample"), 1)

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None:
            return families.from_raw(self.prior, _per_unit(self.prior_head(above), self.units))
        if self.learned_prior:
            return families.from_raw(self.prior, self.prior_raw[None, None])
        return families.standard(self.prior, (1, 1, self.units), dtype)


def _per_unit(raw: jax.Array, units: int) -> jax.Array:
    return raw.reshape(*raw.shape[:-1], units, -1)  # [K or 1, B, U, P]
