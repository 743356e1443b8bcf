"""Horseshoe weights: all that leaves an input is shrunk together, hard for most inputs, hardly for a few."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from dgmzoo.layers.weights.base import Estimator, Weights, check_estimator
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import half_cauchy_kl, log_regularized_scale
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.ops import relaxed_promotion

_START = math.exp(-1.0)  # sd of the log scales
_NARROW = math.exp(-3.0)  # sd of w~


@dataclasses.dataclass(frozen=True)
class HorseshoeWeights(Weights):
    """`w_ij = s_i w~_ij`, w~ standard normal, s_i^2 = c^2 tau^2 lambda_i^2 / (c^2 + tau^2 lambda_i^2).

    One half-Cauchy scale lambda_i for each input i (input channel), one tau for the layer, half-Cauchy of scale `tau`.
    Posteriors: normal w~, log-normal scales. In evaluation the mean weights are E[s_i] E[w~_ij].
    Louizos, Ullrich & Welling 2017 (arXiv 1705.08665); Ghosh, Yao & Doshi-Velez 2018 (arXiv 1806.05975); the slab c as
    in Piironen & Vehtari 2017 (arXiv 1707.01694), equation 2.8.
    """

    tau: float = 0.1
    """Scale of the half-Cauchy prior of the scale that all weights of a layer share."""
    slab: float | None = 2.0
    """Scale c of weights that are not shrunk; None: unbounded, the plain horseshoe."""
    estimator: Estimator = "auto"
    """How noise enters given the scales, which all examples share: see the weights `normal`."""

    def __post_init__(self):
        for name, value in (("tau", self.tau), ("slab", self.slab)):
            if not (value is None and name == "slab") and not 0 < value < math.inf:
                raise ValueError(f"expected a finite {name} > 0 of horseshoe weights, got {value!r}")
        check_estimator(self.estimator, dist.Normal)

    def parameters(self, shape, init):
        # Scales start small and w~ at the layer's usual values: from larger weights training ended at worse bounds.
        return {
            "kernel": lambda key: families.unconstrained_at(dist.Normal, init(key, shape, jnp.float32), _NARROW),
            # Of log lambda [inputs, 2], and of log tau [2].
            "local": lambda key: families.unconstrained_at(dist.Normal, jnp.zeros(shape[-2:-1], jnp.float32), _START),
            "tau": lambda key: families.unconstrained_at(
                dist.Normal, jnp.asarray(math.log(self.tau), jnp.float32), _START
            ),
        }

    def posterior_given(self, unconstrained, key):
        local_key, tau_key = jax.random.split(key)
        local, tau = (families.from_unconstrained(dist.Normal, unconstrained[name]) for name in ("local", "tau"))
        with relaxed_promotion():
            log_scale = tau.sample(tau_key)[None] + local.sample(local_key)
        scale = jnp.exp(log_regularized_scale(log_scale, self._slab))
        unit = families.from_unconstrained(dist.Normal, unconstrained["kernel"])
        scale = _per_input(scale, unit.loc)
        return dist.Normal(scale * unit.loc, scale * unit.scale)

    def mean(self, unconstrained):
        unit = families.from_unconstrained(dist.Normal, unconstrained["kernel"])
        return _per_input(self.mean_scales(unconstrained), unit.loc) * unit.loc

    def mean_scales(self, unconstrained: dict[str, jax.Array]) -> jax.Array:
        """E[s_i], `[inputs]`: Gauss-Hermite over log(tau lambda_i), which is normal."""
        local, tau = (families.from_unconstrained(dist.Normal, unconstrained[name]) for name in ("local", "tau"))
        loc, scale = local.loc + tau.loc[None], jnp.hypot(local.scale, tau.scale[None])
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        nodes, weights = (jnp.asarray(each, loc.dtype)[:, None] for each in (nodes, weights / weights.sum()))
        return (weights * jnp.exp(log_regularized_scale(loc[None] + scale[None] * nodes, self._slab))).sum(0)

    def kl(self, unconstrained, key):
        unit, local, tau = (
            families.from_unconstrained(dist.Normal, unconstrained[name]) for name in ("kernel", "local", "tau")
        )
        standard = families.default(dist.Normal, (1,) * len(unit.batch_shape), jnp.float32)
        scales = half_cauchy_kl(local.loc, local.scale).sum()
        return closed_kl(unit, standard).sum() + scales + half_cauchy_kl(tau.loc - math.log(self.tau), tau.scale)

    @property
    def _slab(self) -> float:
        return math.inf if self.slab is None else self.slab


def _per_input(scale: jax.Array, like: jax.Array) -> jax.Array:
    """Scales `[inputs]` beside weights `[..., inputs, outputs]`."""
    return scale.reshape(*(1,) * (like.ndim - 2), -1, 1)
