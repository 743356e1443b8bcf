"""The variational layer for any pair of posterior and prior families, from NumPyro or this package."""

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from numpyro.distributions import constraints

from dgmzoo.layers.latents.base import Inferred, LatentLayer
from dgmzoo.layers.latents.horseshoe import HorseshoeLayer
from dgmzoo.layers.latents.rectified import RectifiedLayer
from dgmzoo.model.contract import Latent
from dgmzoo.reparam import families
from dgmzoo.reparam.distributions import Horseshoe, PiecewiseNormal, RectifiedNormal
from dgmzoo.reparam.distributions.kl import closed_kl
from dgmzoo.reparam.estimators import pathwise
from dgmzoo.reparam.ops import relaxed_promotion


class VariationalLayer(LatentLayer):
    """A layer of independent units with `q(z | features)` and `p(z)` or `p(z | above)` of any families.

    A piecewise normal prior is always learned, and non-centred: the latent is the noise n of `z = T(n)`, with
    `q(n | features)` and `p(n) = N(0, 1)`, and the value of the layer is T(n). No density then jumps at a point that
    parameters of the prior move.

    Samples of a family without a pathwise gradient (a discrete one, for example) carry no gradient. Only objectives with
    a score-function gradient are exact for it.

    >>> layer = VariationalLayer(prior=dist.Laplace)
    >>> layer.posterior.__name__, layer.prior.__name__
    ('Normal', 'Laplace')

    Raises:
      ValueError: the KL of the pair is infinite, or the pair belongs to another layer.
    """

    posterior: type[dist.Distribution] = dist.Normal
    """Family of q(z | x)."""
    prior: type[dist.Distribution] = dist.Normal
    """Family of p(z), for example laplace, student_t, spike_slab, mixture or piecewise; the last two are always learned."""

    def __post_init__(self):
        super().__post_init__()
        if (self.posterior, self.prior) in _REPLACEMENTS:
            return
        _check_pair(self.posterior, self.prior)
        with jax.ensure_compile_time_eval():
            families.check_pair(self._sized(self.posterior), self._sized(self.prior))

    def setup(self):
        if replacement := _REPLACEMENTS.get((self.posterior, self.prior)):
            raise ValueError(
                f"expected families for a layer of plain densities, got a pair where {replacement.reason}; "
                f"{replacement.advice}"
            )
        super().setup()

    @nn.nowrap
    def correction(self, estimate: str) -> tuple[LatentLayer, str] | None:
        if replacement := _REPLACEMENTS.get((self.posterior, self.prior)):
            layer = replacement.layer(units=self.units, weights=self.weights)
            return layer, f"{replacement.reason}, so {replacement.effect}"
        return super().correction(estimate)

    def refusal(self, estimate: str) -> str | None:
        if replacement := _REPLACEMENTS.get((self.posterior, self.prior)):
            return f"{replacement.reason}; {replacement.advice}"
        name, is_reparameterized = self.posterior.__name__, pathwise.is_reparameterized(self.posterior)
        if estimate == "score":
            return super().refusal(estimate) if is_reparameterized else None
        if estimate in ("closed", "sampled", "importance", "doubly") and not is_reparameterized:
            return f"its posterior {name} has no pathwise gradient, so use a score-function objective (nvil)"
        if estimate == "doubly" and constraints.is_dependent(self.posterior.support):
            return f"the support of its posterior {name} moves with the parameters, so use iwae"
        if estimate == "doubly" and self.posterior is PiecewiseNormal:
            return f"the density of its posterior {name} jumps where the parameters move it, so use iwae"
        return super().refusal(estimate)

    def density(self, grid: jax.Array) -> jax.Array:
        """Density `[N, U]` of the prior of each unit at values `grid [N]`."""
        p = self._prior(None, grid.dtype)
        points = jnp.broadcast_to(grid[:, None, None], (len(grid), 1, self.units))
        with relaxed_promotion():
            return jnp.exp(p.log_prob(points)[:, 0])

    @property
    def _noncentred(self) -> bool:
        return self.prior is PiecewiseNormal

    def _num_unconstrained(self) -> tuple[int, int]:
        posterior, prior = self._sized(self.posterior), self._sized(self.prior)
        return families.num_unconstrained(posterior), families.num_unconstrained(prior)

    @nn.nowrap
    def _sized(self, family: type[dist.Distribution]) -> type[dist.Distribution]:
        """The family with the lengths of its vector parameters."""
        return family

    def _posterior(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(self._sized(self.posterior), unconstrained)

    def _prior_from(self, unconstrained: jax.Array) -> dist.Distribution:
        return families.from_unconstrained(self._sized(self.prior), unconstrained)

    def _prior(self, above: jax.Array | None, dtype: jnp.dtype) -> dist.Distribution:
        if above is not None or self.learned_prior:
            return super()._prior(above, dtype)
        if getattr(self.prior, "free_form", False):
            return self._prior_from(self.prior_parameters()[None, None])
        return families.default(self.prior, (1, 1, self.units), dtype)

    def _score(self, inferred: Inferred, above: jax.Array | None, closed: bool) -> Latent:
        q, z = inferred.q, inferred.sample
        p, value = self._prior(above, z.dtype), z
        if self._noncentred:
            value, p = p.transform(z), families.default(dist.Normal, (1, 1, self.units), z.dtype)
        with relaxed_promotion():
            log_p, log_q = p.log_prob(z), q.log_prob(z)  # [K, B, U]
        kl = closed_kl(q, p) if closed else None
        return Latent(
            value=value,
            sample=z,
            log_p=log_p.sum(-1),
            log_q=log_q.sum(-1),
            kl=log_q - log_p if kl is None else jnp.broadcast_to(kl, jnp.broadcast_shapes(kl.shape, q.batch_shape)),
            q=families.parameters(q),
        )


class _Replacement(NamedTuple):
    """The layer that replaces `VariationalLayer` for a pair of families whose densities have no exact gradient."""

    layer: type[LatentLayer]
    reason: str
    effect: str
    advice: str


_REPLACEMENTS = {
    (dist.Normal, Horseshoe): _Replacement(
        HorseshoeLayer,
        "the gradient of a normal posterior against a horseshoe has infinite variance",
        "the layer `horseshoe` takes its place (its local scale is a second latent, tau is learned, the slab is 2)",
        "choose the layer `horseshoe`",
    ),
    (RectifiedNormal, RectifiedNormal): _Replacement(
        RectifiedLayer,
        "a rectified normal has a point mass at 0, where densities of samples jump",
        "the layer `rectified` takes its place (the normal before the rectification is the latent, the prior is learned)",
        "choose the layer `rectified`",
    ),
}


def _check_pair(q: type[dist.Distribution], p: type[dist.Distribution]) -> None:
    """Refuse families that belong to another layer, and a posterior without a KL against a piecewise normal prior."""
    for family, layer, reason in (
        (Horseshoe, "horseshoe", "the gradient against it has infinite variance"),
        (RectifiedNormal, "rectified", "it has a point mass at 0, where densities of samples jump"),
    ):
        if family in (q, p):
            raise ValueError(
                f"expected families for a layer of plain densities, got {family.__name__}: {reason}; "
                f"choose the layer `{layer}`"
            )
    if p is PiecewiseNormal and q.support is not constraints.real:
        raise ValueError(f"expected a posterior on the real line for a piecewise normal prior, got {q.__name__}")
