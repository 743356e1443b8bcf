"""The horseshoe layer: most units are shrunk to almost nothing, a few are left alone, for each input anew."""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, augmented_horseshoe_kl, augmented_horseshoe_log_prob
from dgmzoo.reparam.ops import relaxed_promotion

# Bounds of q(log lambda), whose KL holds exp(-2 mean + 2 sd^2); the best sd is .5 to .63 whatever a wide q(z) is.
_REACH = 6.0  # of the mean, to both sides
_LEAST, _MOST, _START = 0.01, 2.0, 0.6  # sd


class HorseshoeLayer(LatentLayer):
    """`z ~ N(0, tau^2 lambda^2)`, lambda half-Cauchy for each unit and input, times a slab `exp(-z^2 / 2 slab^2)`.

    Carvalho, Polson & Scott 2009; the slab: Piironen & Vehtari 2017 (arXiv 1707.01694), in the form of Nishimura &
    Suchard 2022 (arXiv 1911.02160). In training lambda is a second latent: `q(z | x)` normal, `q(log lambda | x)`
    normal, the sample is `[K, B, U, 2]` = (z, log lambda), and the KL, in closed form, bounds that of z from above. Out
    of training the densities are those of z alone, lambda integrated out. The parameters of q hold the diagonal
    "D" = tau^2 lambda^2, at the median of q(lambda | x), and the "shrinkage" 1 / (1 + D).
    """

    learned_prior: bool = True
    """Learn tau, one for each unit, instead of keeping 1."""
    slab: float | None = 2.0
    """Width of the range in which values are kept; None: unbounded, the plain horseshoe."""

    def __post_init__(self):
        super().__post_init__()
        if self.slab is not None and not 0 < self.slab < math.inf:
            raise ValueError(f"expected a finite slab > 0, or None for the plain horseshoe, got {self.slab!r}")

    def _num_unconstrained(self) -> tuple[int, int]:
        return 4, 1

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        of_z = families.from_unconstrained(dist.Normal, unconstrained[..., :2])
        unconstrained = unconstrained.astype(of_z.loc.dtype)
        local = _REACH * jnp.tanh(unconstrained[..., 2] / _REACH)
        shift = math.log((_START - _LEAST) / (_MOST - _START))
        spread = _LEAST + (_MOST - _LEAST) * jax.nn.sigmoid(unconstrained[..., 3] + shift)
        return dist.Normal(jnp.stack([of_z.loc, local], -1), jnp.stack([of_z.scale, spread], -1))

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        tau = families.from_unconstrained(dist.HalfNormal, unconstrained).scale
        return Horseshoe(tau, jnp.full_like(tau, math.inf if self.slab is None else self.slab))

    def _value(self, sample: jax.Array) -> jax.Array:
        return sample[..., 0]

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, pair = inferred.q, inferred.sample
        p = self._prior(above, pair.dtype)
        with relaxed_promotion():
            log_q = q.log_prob(pair)  # [K, B, U, 2]
        if inferred.train:
            log_q = log_q.sum(-1)
            log_p = augmented_horseshoe_log_prob(pair[..., 0], pair[..., 1], p.scale, p.slab)  # [K, B, U]
        else:
            log_q, log_p = log_q[..., 0], p.log_prob(pair[..., 0])
        kl = log_q - log_p
        if inferred.train and closed:
            kl = augmented_horseshoe_kl(q.loc[..., 0], q.scale[..., 0], q.loc[..., 1], q.scale[..., 1], p.scale, p.slab)
        diagonal = jnp.square(p.scale) * jnp.exp(2 * q.loc[..., 1])
        described = {
            "loc": q.loc[..., 0],
            "scale": q.scale[..., 0],
            "local_loc": q.loc[..., 1],
            "local_scale": q.scale[..., 1],
            "D": diagonal,
            "shrinkage": 1 / (1 + diagonal),
            "mean": q.loc[..., 0],
        }
        return Latent(inferred.value, pair, log_p.sum(-1), log_q.sum(-1), kl, described)
