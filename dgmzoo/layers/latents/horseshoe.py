"""`HorseshoeLayer`: latents with a horseshoe prior, under which most units are near 0 and a few are large for each x."""

import math

import jax
import jax.numpy as jnp
import numpyro.distributions as dist

from dgmzoo.layers.latents.base import Inferred, JointLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, augmented_horseshoe_kl, augmented_horseshoe_log_prob
from dgmzoo.reparam.ops import relaxed_promotion

# q(log lambda) is bounded, because its KL contains exp(-2 mean + 2 sd^2). The best sd is 0.5 to 0.63 for every wide q(z).
_MAX_LOC = 6.0  # of the absolute mean
_MIN_SCALE, _MAX_SCALE, _INITIAL_SCALE = 0.01, 2.0, 0.6


class HorseshoeLayer(JointLayer):
    """A normal posterior under the horseshoe prior, with the local scale lambda as a second latent in training.

    The prior is `z ~ N(0, tau^2 lambda^2)` times the slab `exp(-z^2 / 2 slab^2)`, with one half-Cauchy lambda for each
    unit and input. In training the posterior is `q(z | x) q(log lambda | x)`, both normal, and the sample is
    `[K, B, U, 2]` = (z, log lambda). The KL of the pair has a closed form and is an upper bound of the KL of z. Outside
    training `log_p` and `log_q` are those of z alone, with lambda integrated out.

    The parameters of q include "D" = tau^2 lambda^2 at the median of q(lambda | x), and the "shrinkage" 1 / (1 + D).

    Source: Carvalho, Polson & Scott 2009. The slab: Piironen & Vehtari 2017 (arXiv 1707.01694), in the form of
    Nishimura & Suchard 2022 (arXiv 1911.02160).

    >>> HorseshoeLayer().slab, HorseshoeLayer(slab=None).slab
    (2.0, None)

    Raises:
      ValueError: the slab is not positive and finite.
    """

    learned_prior: bool = True
    """Learn tau, one for each unit; otherwise tau is 1."""
    slab: float | None = 2.0
    """Scale beyond which large values are shrunk too; None: no such scale, the plain horseshoe."""

    def __post_init__(self):
        super().__post_init__()
        if self.slab is not None and not 0 < self.slab < math.inf:
            raise ValueError(f"expected a finite slab > 0, or None for the plain horseshoe, got {self.slab!r}")

    def _num_unconstrained(self) -> tuple[int, int]:
        return 4, 1

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        q_z = families.from_unconstrained(dist.Normal, unconstrained[..., :2])
        unconstrained = unconstrained.astype(q_z.loc.dtype)
        local_loc = _MAX_LOC * jnp.tanh(unconstrained[..., 2] / _MAX_LOC)
        shift = math.log((_INITIAL_SCALE - _MIN_SCALE) / (_MAX_SCALE - _INITIAL_SCALE))
        local_scale = _MIN_SCALE + (_MAX_SCALE - _MIN_SCALE) * jax.nn.sigmoid(unconstrained[..., 3] + shift)
        return dist.Normal(jnp.stack([q_z.loc, local_loc], -1), jnp.stack([q_z.scale, local_scale], -1))

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        tau = families.from_unconstrained(dist.HalfNormal, unconstrained).scale
        return Horseshoe(tau, jnp.full_like(tau, math.inf if self.slab is None else self.slab))

    def _value(self, sample: jax.Array) -> jax.Array:
        return sample[..., 0]

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, sample = inferred.q.distribution, inferred.sample
        p = self._prior(above, sample.dtype)
        with relaxed_promotion():
            log_q = q.log_prob(sample)  # [K, B, U, 2]
        if inferred.train:
            log_q = log_q.sum(-1)
            log_p = augmented_horseshoe_log_prob(sample[..., 0], sample[..., 1], p.scale, p.slab)  # [K, B, U]
        else:
            log_q, log_p = log_q[..., 0], p.log_prob(sample[..., 0])
        kl = log_q - log_p
        if inferred.train and closed:
            kl = augmented_horseshoe_kl(q.loc[..., 0], q.scale[..., 0], q.loc[..., 1], q.scale[..., 1], p.scale, p.slab)
        diagonal = jnp.square(p.scale) * jnp.exp(2 * q.loc[..., 1])
        parameters = {
            "loc": q.loc[..., 0],
            "scale": q.scale[..., 0],
            "local_loc": q.loc[..., 1],
            "local_scale": q.scale[..., 1],
            "D": diagonal,
            "shrinkage": 1 / (1 + diagonal),
            "mean": q.loc[..., 0],
        }
        return Latent(inferred.value, sample, log_p.sum(-1), log_q.sum(-1), kl, parameters)
