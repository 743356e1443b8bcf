"""`HorseshoeWeights`: network weights with a random scale per input, which is near 0 for inputs that do not matter."""

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

_INITIAL_LOG_SCALE_SD = math.exp(-1.0)  # standard deviation of q(log lambda) and q(log tau)
_INITIAL_UNIT_SD = math.exp(-3.0)  # standard deviation of q(w~)


@dataclasses.dataclass(frozen=True)
class HorseshoeWeights(Weights):
    """Weights `w_ij = s_i w~_ij` with `s_i^2 = c^2 tau^2 lambda_i^2 / (c^2 + tau^2 lambda_i^2)`.

    Prior: w~ standard normal, one half-Cauchy scale lambda_i for each input i (input channel), and one half-Cauchy tau
    for the layer, whose scale is the field `tau`. Posterior: normal w~, log-normal lambda_i and tau, all independent. In
    evaluation the mean weights are E[s_i] E[w~_ij].

    Source: Louizos, Ullrich & Welling 2017 (arXiv 1705.08665); Ghosh, Yao & Doshi-Velez 2018 (arXiv 1806.05975). The
    slab c: Piironen & Vehtari 2017 (arXiv 1707.01694), equation 2.8.

    >>> HorseshoeWeights(tau=0.01).slab
    2.0

    Raises:
      ValueError: `tau` or `slab` is not positive and finite.
    """

    tau: float = 0.1
    """Scale of the half-Cauchy prior of tau, the scale that all weights of a layer share."""
    slab: float | None = 2.0
    """Scale c of weights that are not shrunk; None: no limit, the plain horseshoe."""
    estimator: Estimator = "auto"
    """Noise of the weights given the scales, which all examples share; see the weights `normal`."""

    def __post_init__(self):
        for name, value in (("tau", self.tau), ("slab", self.slab)):
            if not (value is None and name == "slab") and not 0 < value < math.inf:
                raise ValueError(f"expected a finite {name} > 0 of horseshoe weights, got {value!r}")
        check_estimator(self.estimator, dist.Normal)

    def parameters(self, shape, init):
        # Scales start small, and w~ at the usual initial values: with larger weights training ended at worse bounds.
        return {
            "kernel": lambda key: families.unconstrained_at(
                dist.Normal, init(key, shape, jnp.float32), _INITIAL_UNIT_SD
            ),
            # q(log lambda) has parameters [inputs, 2], q(log tau) has [2].
            "local": lambda key: families.unconstrained_at(
                dist.Normal, jnp.zeros(shape[-2:-1], jnp.float32), _INITIAL_LOG_SCALE_SD
            ),
            "tau": lambda key: families.unconstrained_at(
                dist.Normal, jnp.asarray(math.log(self.tau), jnp.float32), _INITIAL_LOG_SCALE_SD
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
        """E[s_i], `[inputs]`, by Gauss-Hermite quadrature over log(tau lambda_i), which is normal."""
        local, tau = (families.from_unconstrained(dist.Normal, unconstrained[name]) for name in ("local", "tau"))
        loc, scale = local.loc + tau.loc[None], jnp.hypot(local.scale, tau.scale[None])
        nodes, weights = np.polynomial.hermite_e.hermegauss(32)
        nodes, weights = (jnp.asarray(rule, loc.dtype)[:, None] for rule in (nodes, weights / weights.sum()))
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
    """Scales `[inputs]` with the axes of weights `like [..., inputs, outputs]`."""
    return scale.reshape(*(1,) * (like.ndim - 2), -1, 1)
