"""The spherical layer: codes are directions, with the uniform distribution over the unit sphere as their prior."""

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PowerSpherical, UniformSphere
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.ops import relaxed_promotion

_LEAST = 1e-12  # squared length of unconstrained parameters below which they say no direction


class SphericalLayer(LatentLayer):
    """z on the unit sphere in U dimensions: `q(z | features)` power spherical, `p(z)` uniform.

    Davidson, Falorsi, De Cao, Kipf & Tomczak 2018, "Hyperspherical variational auto-encoders" (arXiv 1804.00891), with
    the posterior of De Cao & Aziz 2020 (arXiv 2006.04437) instead of von Mises-Fisher's: its samples need no rejection.
    The U numbers of a code are one unit of the KL. Below another layer, or with a learned prior, p is power spherical
    too, and the KL is the sample's.
    """

    def setup(self):
        if self.units < 2:
            raise ValueError(f"expected a spherical layer in at least 2 dimensions, got {self.units}")
        super().setup()

    @property
    def _has_penalty(self) -> bool:
        return not self.learned_prior

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        p = self._prior(above, jnp.float32)
        with relaxed_promotion():
            return p.expand((1, num)).sample(self.make_rng("sample"))

    def _num_unconstrained(self) -> tuple[int, int]:
        return 2, 2  # per dimension: one of the direction, and one whose mean over dimensions is the concentration's

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        unconstrained = families.at_least_float32(unconstrained)
        first = jnp.zeros_like(unconstrained[..., 0]).at[..., 0].set(1)
        ahead = unconstrained[..., 0] + first
        ahead = jnp.where(jnp.square(ahead).sum(-1, keepdims=True) > _LEAST, ahead, first)
        direction = ahead / jnp.linalg.norm(ahead, axis=-1, keepdims=True)
        return PowerSpherical(direction, self.units * families.positive(unconstrained[..., 1].mean(-1)))

    _prior_from = _posterior

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is None and not self.learned_prior:
            return UniformSphere(self.units, (1, 1), dtype)
        return super()._prior(above, dtype)

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, z = inferred.q, inferred.sample
        p = self._prior(above, z.dtype)
        with relaxed_promotion():
            log_p, log_q = p.log_prob(z), q.log_prob(z)  # [K, B]
        kl = closed_kl(q, p) if closed else None
        kl = log_q - log_p if kl is None else kl
        return Latent(inferred.value, z, log_p, log_q, kl[..., None], families.parameters(q))
