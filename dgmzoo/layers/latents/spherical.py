"""`SphericalLayer`: latents on the unit sphere, with a power spherical posterior and a uniform prior."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, JointLayer
from dgmzoo.model.compatibility import Facts
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import PowerSpherical, UniformSphere
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.ops import relaxed_promotion

_HEAVY = (
    "in {} dimensions the gradient of log p at samples has infinite variance, if p is not uniform: it grows without bound "
    "near the point opposite to p's direction"
)
_MIN_SQUARED_LENGTH = 1e-12  # of unconstrained parameters; shorter vectors have no direction


class SphericalLayer(JointLayer):
    """z on the unit sphere in U dimensions, with a power spherical `q(z | features)` and a uniform `p(z)`.

    All U coordinates together are one unit of the KL. Below another layer, or with a learned prior, p is power spherical
    too, and the KL is `log_q - log_p` at the sample.

    Source: Davidson, Falorsi, De Cao, Kipf & Tomczak 2018, "Hyperspherical variational auto-encoders"
    (arXiv 1804.00891). Deviation: the posterior is that of De Cao & Aziz 2020 (arXiv 2006.04437) instead of the
    von Mises-Fisher distribution, because it is sampled without rejection.

    >>> SphericalLayer().learned_prior
    False

    Raises:
      ValueError: there are fewer than 2 dimensions.
    """

    @nn.nowrap
    def check_units(self) -> None:
        if self.units < 2:
            raise ValueError(f"expected a spherical layer in at least 2 dimensions, got {self.units}")

    @nn.nowrap
    def facts(self) -> Facts:
        # The pathwise gradient of log p is 2 kappa / angle near the antipode of p: its square is integrable from 4 on.
        heavy = _HEAVY.format(self.units) if 0 < self.units < 4 else ""
        learned = heavy if self.learned_prior else ""
        return Facts(posterior="PowerSpherical", heavy_gradient=learned, heavy_below=heavy)

    def draw(self, num: int, above: jax.Array | None = None) -> jax.Array:
        self.check_units()
        p = self._prior(above, jnp.float32)
        with relaxed_promotion():
            return p.expand((1, num)).sample(self.make_rng("sample"))

    def _num_unconstrained(self) -> tuple[int, int]:
        return 2, 2  # per dimension: a coordinate of the direction, and a term of the concentration, their mean

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        unconstrained = families.at_least_float32(unconstrained)
        first_axis = jnp.zeros_like(unconstrained[..., 0]).at[..., 0].set(1)
        vector = unconstrained[..., 0] + first_axis
        is_long = jnp.square(vector).sum(-1, keepdims=True) > _MIN_SQUARED_LENGTH
        vector = jnp.where(is_long, vector, first_axis)
        direction = vector / jnp.linalg.norm(vector, axis=-1, keepdims=True)
        return PowerSpherical(direction, self.units * families.positive(unconstrained[..., 1].mean(-1)))

    _prior_from = _posterior

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is None and not self.learned_prior:
            return UniformSphere(self.units, (1, 1), dtype)
        return super()._prior(above, dtype)

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, z = inferred.q.distribution, inferred.sample
        p = self._prior(above, z.dtype)
        with relaxed_promotion():
            log_p, log_q = p.log_prob(z), q.log_prob(z)  # [K, B]
        kl = closed_kl(q, p) if closed else None
        kl = log_q - log_p if kl is None else kl
        return Latent(inferred.value, z, log_p, log_q, kl[..., None], families.parameters(q))
